"""The report of an evaluation, as JSON."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semask.checkpoints.published import MULTISCALE
from semask.data.source import Data
from semask.engines.catalog import companions
from semask.engines.runtime import Runtime
from semask.files.reading import sha256
from semask.model import SeMask
from semask.prediction.recipe import recipe_inference
from semask.settings.inference import Inference

if TYPE_CHECKING:
    from semask.evaluation.evaluate import Evaluation


def describe(result: "Evaluation", names: tuple[str, ...]) -> dict[str, Any]:
    """Scores as JSON: NaN (a class that does not occur) becomes null."""

    def number(x: float) -> float | None:
        return None if math.isnan(x) else x

    scores = result.scores
    return {
        "miou": number(scores.miou),
        "mean_accuracy": number(scores.mean_accuracy),
        "overall_accuracy": number(scores.overall_accuracy),
        "classes": [
            {"name": name, "iou": number(iou), "accuracy": number(accuracy), "pixels": pixels}
            for name, iou, accuracy, pixels in zip(names, scores.iou, scores.accuracy, scores.pixels, strict=True)
        ],
        "prior_miou": [number(prior.miou) for prior in result.priors],
        "confused": [
            {
                "label": names[pair.label],
                "prediction": names[pair.prediction],
                "pixels": pair.pixels,
                "share": pair.share,
            }
            for pair in result.confused
        ],
    }


def weights_of(model: SeMask | Runtime | str | Path, path: Path | None) -> dict[str, Any]:
    """What a report says of the weights: their file, if there is one, and its digest."""
    if path is None:
        return {"file": None, "sha256": None, "beside": {}}
    beside = {file.name: sha256(file) for file in companions(path)}
    return {"file": str(model), "sha256": sha256(path), "beside": beside}


def published_score(model: SeMask | Runtime, data: Data, inference: Inference) -> dict[str, Any] | None:
    """Published mIoU, a share, for the settings of this evaluation; None when they are not the published ones."""
    published, recipe = model.metadata.get("published"), model.metadata.get("recipe", {}).get("data", {})
    if published is None or (data.format, data.val_split) != (recipe.get("format"), recipe.get("val_split")):
        return None
    single = recipe_inference(model)
    if inference == single:
        protocol, miou = "single scale", published["miou"]
    elif inference == dataclasses.replace(single, **MULTISCALE):
        protocol, miou = "multi-scale and flip", published["miou_multiscale"]
    else:
        return None
    return {"name": published["name"], "protocol": protocol, "miou": round(miou / 100, 6)}
