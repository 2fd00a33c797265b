"""Boundary IoU (Cheng et al. 2021, arXiv 2103.16562): IoU of the pixels close to contours, of all classes at once."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.data.classes import IGNORE_INDEX

Map = NDArray[np.integer[Any]]
"""Class indices [H, W]."""


def boundary_width(height: int, width: int, share: float) -> int:
    """Distance d in pixels within which a pixel belongs to the boundary region: a share of the diagonal, at least 1."""
    return max(1, round(share * math.hypot(height, width)))


def boundary_counts(prediction: Map, label: Map, num_classes: int, distance: int) -> NDArray[np.int64]:
    """Count the pixels of each class' boundary regions.

    The boundary region of a class is its pixels from which a pixel of another class, or the outside of the image, is
    at most `distance` rows and columns away. Pixels that are ignored in the label are cut out of both maps: they
    belong to no region, and nothing is a boundary because of them. So a right prediction has an IoU of 1.

    Args:
        prediction: Class indices [H, W].
        label: Class indices [H, W]; pixels of 255 are ignored.
        num_classes: Classes K.
        distance: Width of the region in pixels, at least 1.

    Returns:
        Pixels [K, 2]: intersection and union of the boundary regions of label and prediction.
    """
    valid = label != IGNORE_INDEX
    regions = [in_boundary(one, valid, distance) for one in (label, prediction)]
    labeled = np.bincount(label[regions[0]], minlength=num_classes)
    predicted = np.bincount(prediction[regions[1]], minlength=num_classes)
    both = regions[0] & regions[1] & (label == prediction)
    hit = np.bincount(label[both], minlength=num_classes)
    return np.stack([hit, labeled + predicted - hit], axis=1).astype(np.int64)


def in_boundary(classes: Map, valid: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """Which pixels of a map [H, W] lie in the boundary region of their own class; none that is not valid."""
    from scipy import ndimage

    beyond = IGNORE_INDEX + 1  # larger than any class: what the outside of the image holds, and for the lowest, nothing
    own = classes.astype(np.int16)
    side = 2 * distance + 1
    highest = ndimage.maximum_filter(np.where(valid, own, -1), size=side, mode="constant", cval=beyond)
    lowest = ndimage.minimum_filter(np.where(valid, own, beyond), size=side, mode="constant", cval=beyond)
    region: NDArray[np.bool_] = valid & (highest != lowest)
    return region


def boundary_iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Boundary IoU of each class, [K]; NaN for a class that occurs neither in the labels nor in the predictions.

    Args:
        counts: Sums over images of what `boundary_counts` gave, [K, 2].
    """
    with np.errstate(invalid="ignore"):
        return counts[:, 0] / counts[:, 1]
