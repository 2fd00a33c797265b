"""IoU by object size: pixels are counted by the area of the connected component that they lie in."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semask.data.classes import IGNORE_INDEX
from semask.metrics.boundary import Map

SIZE_NAMES = ("small", "medium", "large")


def size_counts(prediction: Map, label: Map, num_classes: int, limits: Sequence[int]) -> NDArray[np.int64]:
    """Count hit, missed and wrong pixels of each class by the size of the object.

    An object is a connected component of the pixels of one class, with 8 neighbors; pixels that are ignored in the
    label are cut out of both maps. A labeled pixel counts for the size of its component in the label. A pixel that is
    predicted as a class and labeled otherwise counts for the size of its component in the prediction. The sums over
    the sizes are the pixels that IoU is made of.

    Args:
        prediction: Class indices [H, W].
        label: Class indices [H, W]; pixels of 255 are ignored.
        num_classes: Classes K.
        limits: Areas in pixels, in rising order, at which the next size begins: S - 1 of them.

    Returns:
        Pixels [S, K, 3]: hit (labeled and predicted), missed (labeled only), wrong (predicted only).
    """
    valid = label != IGNORE_INDEX
    right = prediction == label
    sizes = [size_map(one, valid, limits) for one in (label, prediction)]
    shape = (len(limits) + 1, num_classes)

    def count(size: NDArray[np.uint8], classes: Map, where: NDArray[np.bool_]) -> NDArray[np.int64]:
        cells = size[where].astype(np.int64) * num_classes + classes[where]
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape).astype(np.int64)

    hit = count(sizes[0], label, valid & right)
    missed = count(sizes[0], label, valid & ~right)
    wrong = count(sizes[1], prediction, valid & ~right)
    return np.stack([hit, missed, wrong], axis=2)


def size_map(classes: Map, valid: NDArray[np.bool_], limits: Sequence[int]) -> NDArray[np.uint8]:
    """Size of the object that each pixel lies in, [H, W]: the number of limits that its area reaches."""
    from scipy import ndimage

    result = np.zeros(classes.shape, np.uint8)
    # Class k is k + 1 here, so that 0 is what belongs to no object.
    marked = np.where(valid, classes.astype(np.int32) + 1, 0)
    for index, box in enumerate(ndimage.find_objects(marked), start=1):
        if box is None:
            continue
        own = marked[box] == index
        components, _ = ndimage.label(own, structure=np.ones((3, 3), np.int8))
        areas = np.bincount(components.ravel())
        sizes = np.searchsorted(np.asarray(limits), areas, side="right").astype(np.uint8)
        result[box][own] = sizes[components[own]]
    return result


def size_iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of each size and class, [S, K]; NaN where nothing is labeled, whatever is predicted there.

    Args:
        counts: Sums over images of what `size_counts` gave, [S, K, 3].
    """
    labeled = counts[..., 0] + counts[..., 1]
    with np.errstate(invalid="ignore"):
        iou = counts[..., 0] / counts.sum(-1)
    return np.where(labeled > 0, iou, np.nan)
