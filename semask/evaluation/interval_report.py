"""The intervals of an evaluation, as JSON."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.evaluation.image_counts import ImageCounts
from semask.metrics.intervals import LEVEL, METHOD, intervals
from semask.metrics.resampling import RESAMPLES


def describe_intervals(counts: ImageCounts, groups: NDArray[np.int64] | None, pattern: str | None) -> dict[str, Any]:
    """Intervals of mIoU, overall accuracy, each class' IoU, and the mIoU of each prior.

    Args:
        counts: What was counted in each image.
        groups: Number of the group of each image, [N]; None: each image is a unit of its own.
        pattern: The regular expression that found the groups.
    """
    masks, *priors = (intervals(counts.areas(place), groups, classes=place == 0) for place in range(counts.maps))
    return {
        "level": LEVEL,
        "method": METHOD,
        "resamples": RESAMPLES,
        "groups": pattern,
        "units": masks.units,
        "miou": dataclasses.asdict(masks.miou),
        "overall_accuracy": dataclasses.asdict(masks.overall_accuracy),
        "classes": [
            {"name": name, **dataclasses.asdict(interval)}
            for name, interval in zip(counts.classes, masks.iou, strict=True)
        ],
        "prior_miou": [dataclasses.asdict(prior.miou) for prior in priors],
    }
