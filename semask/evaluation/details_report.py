"""What an evaluation counted besides the confusion matrix, as JSON; NaN becomes null."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.evaluation.details import BOUNDARY, CALIBRATION, CLASS_CONFIDENCE, SIZES, worst_images
from semask.evaluation.image_counts import ImageCounts
from semask.metrics.boundary import boundary_iou
from semask.metrics.calibration import BINS, calibration_error
from semask.metrics.sizes import SIZE_NAMES, size_iou
from semask.settings.details import Details


def describe_details(counts: ImageCounts, settings: Details, temperature: float | None) -> dict[str, Any]:
    """All details as JSON.

    Args:
        counts: What was counted with the counters of `ImageMeasures`.
        settings: Settings of these.
        temperature: Temperature of the checkpoint; None if it has none.
    """
    return {
        "settings": dataclasses.asdict(settings),
        "boundary": _boundary(counts),
        "sizes": _sizes(counts, settings.sizes),
        "calibration": _calibration(counts, temperature),
        "worst": _worst(counts, settings.worst_images),
        "confusion": counts.matrix().tolist(),
    }


def size_names(limits: Sequence[int]) -> list[str]:
    """Names of object sizes: small, medium and large, or the areas that they reach from and to."""
    if len(limits) == len(SIZE_NAMES) - 1:
        return list(SIZE_NAMES)
    ends = [0, *limits]
    return [*(f"{low} to {high}" for low, high in zip(ends, limits, strict=False)), f"from {ends[-1]}"]


def _boundary(counts: ImageCounts) -> dict[str, Any]:
    iou = boundary_iou(counts.details[BOUNDARY].sum(0))
    return {
        "miou": _mean(iou),
        "classes": [{"name": name, "iou": _number(x)} for name, x in zip(counts.classes, iou, strict=True)],
    }


def _sizes(counts: ImageCounts, limits: Sequence[int]) -> list[dict[str, Any]]:
    total = counts.details[SIZES].sum(0)  # [S, K, 3]
    labeled = total[..., 0] + total[..., 1]
    iou = size_iou(total)
    ends = [0, *limits, None]
    return [
        {
            "name": name,
            "from": ends[size],
            "below": ends[size + 1],
            "miou": _mean(iou[size]),
            "pixels": int(labeled[size].sum()),
            "classes": [
                {"name": of_class, "iou": _number(x), "pixels": int(pixels)}
                for of_class, x, pixels in zip(counts.classes, iou[size], labeled[size], strict=True)
            ],
        }
        for size, name in enumerate(size_names(limits))
    ]


def _calibration(counts: ImageCounts, temperature: float | None) -> dict[str, Any]:
    total = counts.details[CALIBRATION].sum(0)  # [15, 3]
    pixels, right, confidence = total.sum(0)
    of_classes = counts.details[CLASS_CONFIDENCE].sum(0)  # [K]
    hit, _, predicted = counts.areas().sum(0).T
    return {
        "temperature": temperature,
        "ece": _number(calibration_error(total)),
        "accuracy": _share(right, pixels),
        "confidence": _share(confidence, pixels),
        "bins": [
            {
                "from": b / BINS,
                "to": (b + 1) / BINS,
                "pixels": int(row[0]),
                "accuracy": _share(row[1], row[0]),
                "confidence": _share(row[2], row[0]),
            }
            for b, row in enumerate(total)
        ],
        "classes": [
            {"name": name, "confidence": _share(sure, of), "precision": _share(hits, of), "pixels": int(of)}
            for name, sure, hits, of in zip(counts.classes, of_classes, hit, predicted, strict=True)
        ],
    }


def _worst(counts: ImageCounts, count: int) -> list[dict[str, Any]]:
    return [
        {
            "image": counts.names[one.place],
            "miou": one.miou,
            "accuracy": one.accuracy,
            "label": None if one.label is None else counts.classes[one.label],
            "prediction": None if one.prediction is None else counts.classes[one.prediction],
            "pixels": one.pixels,
        }
        for one in worst_images(counts, count)
    ]


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _number(x: float) -> float | None:
    return None if math.isnan(x) else float(x)
