"""Model + data set -> Evaluation: exact scores of the masks, and of the prior of every stage."""

import dataclasses
import math
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

from semask.data.dataset import SegmentationDataset
from semask.data.loader import evaluation_loader
from semask.engines.runtime import Runtime
from semask.files.text import make_console
from semask.metrics import ConfusionMatrix, Scores
from semask.model import SeMask
from semask.prediction.predictor import Predictor
from semask.prediction.processes import all_or_none
from semask.prediction.score_maps import label_map, require_numbers


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of a model on a data set.

    Attributes:
        scores: Scores of the decoder's masks.
        priors: Scores of the semantic prior of each stage, first to last; empty without semantic layers, or when the
            priors have other classes than the data.
        images: Number of images.
    """

    scores: Scores
    priors: tuple[Scores, ...]
    images: int


def evaluate_model(
    predictor: Predictor,
    dataset: SegmentationDataset,
    *,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 2,
    progress: bool = False,
) -> Evaluation:
    """Measure a model on a data set.

    Args:
        predictor: Model and how images are put through it; labels are compared at their own size.
        dataset: Images with labels.
        rank: This process among those that evaluate together; its images are rank, rank + world_size, ...
        world_size: Number of these processes; more than one need an initialised torch.distributed, and all get the
            result over all images.
        workers: Processes that load images.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If the model has another number of classes than the data set, or a file is bad, here or in another
            process.
    """
    model = predictor.model
    check_classes(model, dataset)
    device = next(model.parameters()).device
    encoder = getattr(model, "encoder", None)  # an exported file has none
    priors = encoder is not None and prior_classes(model) == len(dataset.classes)
    maps = 1 + (len(getattr(encoder, "semantic_strides", ())) if priors else 0)
    matrices = [ConfusionMatrix(len(dataset.classes), device=device) for _ in range(maps)]
    was_training = model.training
    model.eval()
    # Images stay as they are in the file: the predictor resizes them, once for every ratio.
    loader = evaluation_loader(dataset, unchanged, rank=rank, world_size=world_size, workers=workers)
    bar = Progress(console=make_console(), disable=not progress, transient=True)
    with all_or_none(world_size), bar:
        for image, label, _ in bar.track(loader, description="evaluating"):
            size = (label.shape[-2], label.shape[-1])
            for matrix, views in zip(matrices, predictor.views(image[0], priors=priors), strict=True):
                require_numbers(views)
                matrix.update(label_map(views, size), label.to(device))
    model.train(was_training)
    if world_size > 1:
        for matrix in matrices:
            torch.distributed.all_reduce(matrix.counts)
    scores, *of_priors = [matrix.scores() for matrix in matrices]
    return Evaluation(scores, tuple(of_priors), len(dataset))


def prior_classes(model: SeMask | Runtime) -> int:
    """Number of classes of a model's priors; the published COCO-Stuff models have fewer of them than of the masks."""
    return int(model.config["prior_classes"] or model.config["num_classes"])


def unchanged(image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Leave a sample as it is in the files."""
    return image, label


def check_classes(model: SeMask | Runtime, dataset: SegmentationDataset) -> None:
    """Refuse a model that has other classes than the data.

    Raises:
        ValueError: If the numbers differ, or the names of a trained model.
    """
    K = model.config["num_classes"]
    if len(dataset.classes) != K:
        raise ValueError(
            f"the model has {K} classes, but {dataset.name} has {len(dataset.classes)}: "
            f"set model.num_classes to {len(dataset.classes)}, or use the data the model was made for"
        )
    names = model.metadata.get("classes", {}).get("classes")
    if names is not None and tuple(names) != dataset.classes.names:
        i = next(i for i in range(K) if names[i] != dataset.classes.names[i])
        raise ValueError(
            f"class {i} is {names[i]!r} for the model, but {dataset.classes.names[i]!r} in {dataset.name}: "
            "evaluate on data with the same classes in the same order"
        )


def describe(result: Evaluation, names: tuple[str, ...]) -> dict[str, Any]:
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
    }
