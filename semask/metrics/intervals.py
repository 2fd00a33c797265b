"""Intervals of scores: how far they could be from those on very many images of the same kind.

The interval is a symmetric bootstrap-t: each resample of the images has a score and a standard error of its own, and
the 95 % quantile of |score of the resample - score| / standard error of the resample says how many standard errors the
interval is wide. IoU is put on the scale log(x / (1 - x)) for it, so that an interval stays between 0 and 1. Sources:
B. Efron, Nonparametric standard errors and confidence intervals, Canadian Journal of Statistics 9 (1981); P. Hall, On
symmetric bootstrap confidence intervals, Journal of the Royal Statistical Society B 50 (1988); T. DiCiccio and B.
Efron, Bootstrap confidence intervals, Statistical Science 11 (1996), who compare it with percentiles and BCa. In our
simulation (benchmarks/interval_coverage.py, docs/evidence.md) with 100 images it holds the true value in 93 to 96 % of
the studies; percentile and BCa intervals are too narrow for classes that few images have, and for their mean.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.metrics.resampling import FEWEST, RESAMPLES, Floats, in_groups, quantile, resample, unions

LEVEL = 0.95
METHOD = "symmetric bootstrap-t"
_SMALLEST = 1e-6
"""Distance from 0 and 1 that the logarithm keeps."""


@dataclass(frozen=True)
class Interval:
    """From low to high; None with the reason if there is none.

    Attributes:
        low: Lower end.
        high: Upper end.
        reason: Why there is none; None if there is one.
    """

    low: float | None
    high: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Intervals:
    """95 % intervals of the scores of a model.

    Attributes:
        miou: Of the mean IoU.
        overall_accuracy: Of the share of the pixels that are right.
        iou: Of the IoU of each class, [K].
        units: Number of units that were drawn again: images, or groups of images.
    """

    miou: Interval
    overall_accuracy: Interval
    iou: tuple[Interval, ...]
    units: int


def intervals(
    areas: NDArray[Any],
    groups: NDArray[np.int64] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    classes: bool = True,
) -> Intervals:
    """Compute the 95 % intervals of mIoU, overall accuracy and the IoU of each class.

    A class that does not occur in a resample is left out of its mean, as `Scores` does it. Costs a few products of
    [R, N] and [N, K]: 101 images and 11 classes take a fraction of a second. The memory is bounded: below 300 MB for
    5,000 images and 150 classes.

    Args:
        areas: Hit, labeled and predicted pixels of each image and class, [N, K, 3].
        groups: For images that are not independent, such as the frames of a video: number of the group that each image
            belongs to, [N], from 0 to G - 1. Groups are drawn as a whole.
        resamples: Number of resamples.
        seed: Of the random numbers: the same seed gives the same intervals.
        classes: Whether the classes' intervals are wanted; without them `iou` is empty.
    """
    areas = in_groups(areas, groups)
    units, K = areas.shape[:2]
    few = too_few(units, "images" if groups is None else "groups of images")
    if few is not None:
        none = Interval(None, None, few)
        return Intervals(none, none, (none,) * (K if classes else 0), units)
    hit, union = unions(areas)[:, None]
    low, high = _ends(hit, union, resamples, seed, classes)
    labeled = areas[..., 1].astype(np.float64)
    of_pixels = _ends(hit.sum(axis=2, keepdims=True), labeled.sum(axis=1)[None, :, None], resamples, seed, False)
    having = (areas[..., 1] > 0).sum(axis=0)
    iou = [
        _interval(low[k], high[k], few=too_few(int(having[k]), "images" if groups is None else "groups", "its label"))
        for k in range(K if classes else 0)
    ]
    return Intervals(_interval(low[-1], high[-1]), _interval(of_pixels[0][-1], of_pixels[1][-1]), tuple(iou), units)


def too_few(units: int, what: str, of: str | None = None) -> str | None:
    """Say that there are too few units for an interval; None if there are enough."""
    if units >= FEWEST:
        return None
    where = f"{of} is in {units} {what}" if of is not None else f"{units} {what}"
    return f"{where}: with fewer than {FEWEST} an interval says too little"


def _ends(hit: Floats, union: Floats, resamples: int, seed: int, classes: bool) -> tuple[Floats, Floats]:
    """Ends of the intervals of K classes and their mean, [K + 1]; NaN where there is none."""
    found = resample(hit, union, np.ones(1), resamples=resamples, seed=seed, classes=classes)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0: all that was drawn is alike
        center, error = _logit(found.value), found.error * _slope(found.value)
        t = (_logit(found.values) - center) / (found.errors * _slope(found.values))
        half = quantile(np.abs(t), LEVEL) * error
        half = np.where(np.isfinite(half) & (half > 0), half, np.nan)
        return _expit(center - half), _expit(center + half)


def _interval(low: float, high: float, few: str | None = None) -> Interval:
    if few is not None:
        return Interval(None, None, few)
    if not np.isfinite(low):
        return Interval(None, None, "nearly all images are alike in it: nothing says how far it varies")
    return Interval(float(low), float(high))


def _logit(x: Floats) -> Floats:
    x = np.clip(x, _SMALLEST, 1 - _SMALLEST)
    return np.log(x / (1 - x))


def _slope(x: Floats) -> Floats:
    x = np.clip(x, _SMALLEST, 1 - _SMALLEST)
    return 1 / (x * (1 - x))


def _expit(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))
