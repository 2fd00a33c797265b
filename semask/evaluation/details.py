"""What is counted in each image besides the confusion matrix: boundaries, object sizes, and how sure the model is."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semask.data.classes import IGNORE_INDEX
from semask.evaluation.image_counts import ImageCounts
from semask.metrics.boundary import boundary_counts, boundary_width
from semask.metrics.calibration import LEAST, Fit, fit, reliability
from semask.metrics.sizes import size_counts
from semask.prediction.score_maps import View, confidence_of, probabilities, strips
from semask.settings.details import Details

BOUNDARY, SIZES, CALIBRATION, CLASS_CONFIDENCE = "boundary", "sizes", "calibration", "class_confidence"
"""Names in `ImageCounts.details`: [N, K, 2], [N, S, K, 3], [N, 15, 3] and [N, K]."""
SAMPLE = "sample"
"""Name of the pixels that a temperature is fitted to, [N, K + 1, m]; they are not kept."""
SAMPLE_PIXELS, SAMPLE_VALUES = 2**16, 2**24
"""Pixels of all images that a temperature is fitted to, and how many numbers they may be, at most."""


def sample_size(images: int, num_classes: int) -> int:
    """How many pixels of each image a temperature is fitted to; at least one."""
    return max(1, min(math.ceil(SAMPLE_PIXELS / images), SAMPLE_VALUES // (images * (num_classes + 1))))


class Seen(NamedTuple):
    """What the probabilities of an image say.

    Attributes:
        confidence: Probability of the chosen class, [H, W].
        sample: Logarithms of the probabilities of sampled pixels, without temperature, and their labels as the last
            row: [K + 1, m].
    """

    confidence: NDArray[np.float32]
    sample: NDArray[np.float32]


@dataclass
class ImageMeasures:
    """Counters of one image, for `evaluate_model`.

    Args:
        settings: Boundary width, sizes; None: only what a temperature is fitted to is counted.
        num_classes: Classes K.
        temperature: That of the checkpoint; None if it has none.
        sampled: Pixels of each image to sample for a new temperature; 0 for none.
    """

    settings: Details | None
    num_classes: int
    temperature: float | None = None
    sampled: int = 0
    _last: tuple[Sequence[View], Seen] | None = None

    @property
    def counters(self) -> dict[str, Any]:
        """What is to be counted, by name."""
        counters: dict[str, Any] = {}
        if self.settings is not None:
            counters = {
                BOUNDARY: self.boundary,
                SIZES: self.sizes,
                CALIBRATION: self.calibration,
                CLASS_CONFIDENCE: self.class_confidence,
            }
        return counters | ({SAMPLE: self.sample} if self.sampled else {})

    def boundary(self, views: Sequence[View], prediction: Tensor, label: Tensor) -> NDArray[np.int64]:
        """Intersection and union of the boundary regions of each class, [K, 2]."""
        assert self.settings is not None
        distance = boundary_width(label.shape[0], label.shape[1], self.settings.boundary_width)
        return boundary_counts(_array(prediction), _array(label), self.num_classes, distance)

    def sizes(self, views: Sequence[View], prediction: Tensor, label: Tensor) -> NDArray[np.int64]:
        """Hit, missed and wrong pixels by size of the object and class, [S, K, 3]."""
        assert self.settings is not None
        return size_counts(_array(prediction), _array(label), self.num_classes, self.settings.sizes)

    def calibration(self, views: Sequence[View], prediction: Tensor, label: Tensor) -> NDArray[np.float64]:
        """Pixels, right pixels and confidence by confidence, [15, 3]."""
        predicted, labels = _array(prediction), _array(label)
        valid = labels != IGNORE_INDEX
        confidence = self._seen(views, labels).confidence
        return reliability(confidence[valid], (predicted == labels)[valid])

    def class_confidence(self, views: Sequence[View], prediction: Tensor, label: Tensor) -> NDArray[np.float64]:
        """Sum of the confidence of the pixels that are predicted as each class, [K]."""
        labels = _array(label)
        valid = labels != IGNORE_INDEX
        confidence = self._seen(views, labels).confidence
        sums = np.bincount(_array(prediction)[valid], weights=confidence[valid], minlength=self.num_classes)
        return sums.astype(np.float64)

    def sample(self, views: Sequence[View], prediction: Tensor, label: Tensor) -> NDArray[np.float32]:
        """Sampled pixels, see `Seen.sample`."""
        return self._seen(views, _array(label)).sample

    def _seen(self, views: Sequence[View], label: NDArray[np.uint8]) -> Seen:
        """What the probabilities of an image say, computed once for all counters."""
        if self._last is None or self._last[0] is not views:
            self._last = (views, see(views, label, temperature=self.temperature, sampled=self.sampled))
        return self._last[1]


@torch.inference_mode()
def see(views: Sequence[View], label: NDArray[np.uint8], *, temperature: float | None, sampled: int) -> Seen:
    """Look at the probabilities of an image, strip by strip.

    Labeled pixels are sampled with replacement, so that there are equally many of all images. The seed is the label's
    own: frames of a video would otherwise be sampled at the same places. Of an image without labeled pixels all are
    ignored.
    """
    H, W = label.shape
    pixels = np.flatnonzero(label != IGNORE_INDEX)
    place = np.zeros(sampled, np.int64)
    if len(pixels):
        random = np.random.default_rng(zlib.crc32(label.tobytes()))
        place = np.sort(pixels[random.integers(len(pixels), size=sampled)])
    confidences, samples = [], []
    for rows in strips(views, (H, W)):
        p = probabilities(views, (H, W), rows)[0]  # [K, rows, W]
        confidences.append(confidence_of(p[None], temperature)[0].clamp(max=1).cpu().numpy())
        own = place[(place >= rows.start * W) & (place < rows.stop * W)] - rows.start * W
        samples.append(p.flatten(1)[:, torch.from_numpy(own).to(p.device)].float().cpu().numpy())
    log_p = np.log(np.maximum(np.concatenate(samples, axis=1), LEAST))
    labels = label.ravel()[place].astype(np.float32)
    return Seen(np.concatenate(confidences), np.concatenate([log_p, labels[None]]))


def fitted(sample: NDArray[np.float32]) -> Fit:
    """Fit a temperature to the sampled pixels of all images, [N, K + 1, m].

    Raises:
        ValueError: If no pixel is labeled.
    """
    images, _, m = sample.shape
    pixels = sample.transpose(1, 0, 2).reshape(sample.shape[1], -1)  # [K + 1, N m]
    labels = pixels[-1].astype(np.int64)
    valid = labels != IGNORE_INDEX
    return fit(pixels[:-1][:, valid], labels[valid], np.repeat(np.arange(images), m)[valid])


class WorstImage(NamedTuple):
    """An image that a model segments badly.

    Attributes:
        place: Its place in the data set.
        miou: Mean IoU of the classes that occur in its label or its prediction.
        accuracy: Share of its labeled pixels that are right.
        label: Class of its most frequent confusion; None if all is right.
        prediction: What that class is taken for.
        pixels: Pixels of that confusion.
    """

    place: int
    miou: float
    accuracy: float
    label: int | None
    prediction: int | None
    pixels: int


def worst_images(counts: ImageCounts, count: int, *, best: bool = False) -> list[WorstImage]:
    """Find the images with the lowest mIoU of their own, the worst first; of equal ones, the less accurate first.

    Images without labeled pixels are left out.

    Args:
        counts: What was counted in each image.
        count: How many images to find.
        best: Find the best ones instead, the best first.
    """
    hit, labeled, predicted = np.moveaxis(counts.areas(), 2, 0).astype(np.float64)  # [N, K] each
    union = labeled + predicted - hit
    some = labeled.sum(1) > 0
    miou, accuracy = np.full(len(some), np.inf), np.full(len(some), np.inf)
    occurring = (union > 0)[some].sum(1)
    miou[some] = (hit / np.maximum(union, 1))[some].sum(1) / occurring
    accuracy[some] = hit[some].sum(1) / labeled[some].sum(1)
    order = np.lexsort((accuracy, miou))[: int(some.sum())]
    order = (order[::-1] if best else order)[:count]
    return [WorstImage(int(i), float(miou[i]), float(accuracy[i]), *_confusion(counts, int(i))) for i in order]


def _confusion(counts: ImageCounts, index: int) -> tuple[int | None, int | None, int]:
    """The most frequent confusion of an image: label, prediction, pixels."""
    rows = counts.confusion[(counts.confusion[:, 0] == index) & (counts.confusion[:, 1] == 0)]
    label, prediction = np.divmod(rows[:, 2], len(counts.classes))
    wrong = label != prediction
    if not wrong.any():
        return None, None, 0
    best = int(rows[wrong, 3].argmax())
    return int(label[wrong][best]), int(prediction[wrong][best]), int(rows[wrong, 3][best])


def without_sample(counts: ImageCounts) -> Mapping[str, NDArray[Any]]:
    """What was counted, without the pixels that a temperature was fitted to."""
    return {name: values for name, values in counts.details.items() if name != SAMPLE}


def _array(x: Tensor) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = x.cpu().numpy()
    return array
