"""Model + data set -> Evaluation: exact scores of the masks, and of the prior of every stage; without a console."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semask.acceleration.devices import machine
from semask.checkpoints.saving import versions
from semask.checkpoints.sources import find_checkpoint
from semask.data import diagnostics
from semask.data.catalog import FormatName
from semask.data.dataset import SegmentationDataset
from semask.data.loader import Samples, evaluation_loader
from semask.data.progress import Track, untracked
from semask.data.source import SAMPLES, Data, sample_names
from semask.engines.catalog import is_exported
from semask.engines.runtime import Runtime
from semask.evaluation.corruptions import Corrupted, Robustness, grid_of, require_images
from semask.evaluation.details import without_sample
from semask.evaluation.groups import group_numbers
from semask.evaluation.image_counts import ImageCounts
from semask.evaluation.interval_report import describe_intervals
from semask.evaluation.report import describe, published_score, weights_of
from semask.evaluation.requested import Requested
from semask.files.reporter import Reporter
from semask.files.schema import require
from semask.files.text import one_line
from semask.metrics.confusion import Confusion, ConfusionMatrix, Scores, count
from semask.model import SeMask
from semask.prediction.opening import open_model
from semask.prediction.predictor import Predictor
from semask.prediction.processes import all_or_none, gathered, joined
from semask.prediction.recipe import recipe_inference
from semask.prediction.score_maps import View, label_map, require_numbers
from semask.settings.details import DetailsGiven, details_of
from semask.settings.inference import Given, inference_of
from semask.settings.precision import Precision, tell

ImageCounter = Callable[[Sequence[View], Tensor, Tensor], NDArray[Any]]
"""The decoder's views of an image, its prediction [H, W] and label [H, W] -> numbers of one shape for all images."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of a model on a data set.

    Attributes:
        scores: Scores of the decoder's masks.
        priors: Scores of the semantic prior of each stage, first to last; empty without semantic layers, or when the
            priors have other classes than the data.
        images: Number of images.
        confused: What classes are taken for most often, the largest share of a class first.
        counts: What was counted in each image.
        robustness: mIoU on corrupted images, if it was asked for.
        report: All of it as JSON: weights, data, settings, scores, scores of each prior, published score, versions,
            machine; empty in training, whose checkpoints and logs have the scores.
    """

    scores: Scores
    priors: tuple[Scores, ...]
    images: int
    confused: tuple[Confusion, ...] = ()
    counts: ImageCounts | None = dataclasses.field(default=None, repr=False)
    robustness: Robustness | None = None
    report: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)


def evaluate(
    model: SeMask | Runtime | str | Path,
    data: str | Path | Data | None = None,
    *,
    format: FormatName | None = None,
    split: str | None = None,
    object_255: bool | None = None,
    inference: Given = None,
    corruptions: str | Sequence[str] | None = None,
    strengths: Sequence[int] | None = None,
    groups: str | None = None,
    workers: int = 2,
    device: str | None = None,
    precision: Precision = "auto",
    trust: bool = False,
    details: DetailsGiven = False,
    calibrate: str | Path | None = None,
    worst: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Evaluate a model on labeled images.

    What is not given is as the model's recipe says. Processes that torchrun started share the images, and all get the
    result over all of them.

    Args:
        model: Checkpoint: a .safetensors file, the folder of a run, OWNER/NAME on the Hugging Face Hub, or the name of
            a published model; an exported file; or a model that is loaded already.
        data: Folder of the data set, or all that a recipe says of it.
        format: Layout of the folder, e.g. folder, ade20k or cityscapes.
        split: Split to evaluate on.
        object_255: For masks of 0 and 255 with two classes: whether 255 is class 1 (true) or ignored (false).
        inference: How images are put through the model: an `Inference`, or only what differs from the recipe's, e.g.
            {"flip": True}.
        corruptions: Evaluate on corrupted images too: "all", or names of corruptions (`CORRUPTIONS` of
            `semask.evaluation.corruptions`) or their kinds noise, blur, weather and digital.
        strengths: Strengths of the corruptions, 1 to 5; None for all five.
        groups: For the intervals, if images are not independent, such as the frames of a video: regular expression on
            the name of an image, whose first group (or whole match) names the sequence.
        workers: Processes that load images.
        device: Where to run, e.g. cpu or cuda; None for the GPU if there is one (an exported file: the CPU).
        precision: fp32, bf16, or auto: bf16 where the device computes in it, else fp32. Scores in bf16 differ in the
            last digits.
        trust: Open exported files that hold code too (.pt2, .engine): only those of your own making.
        details: Also measure boundaries, object sizes and calibration, and list the worst images; or the settings of
            these, e.g. {"sizes": [1024, 9216]}. Needs scipy.
        calibrate: .safetensors file to write: a copy of the checkpoint that holds the temperature at which confidence
            is right on this data. Predictions of the copy have the same classes and this confidence.
        worst: Folder to write pictures of the worst images to; they come with details.
        reporter: Is told what is to be known before, and how far it is; None for nobody (warnings become Python's).

    Returns:
        The scores, and the report.

    Raises:
        ValueError: If the checkpoint or the data can't be read, their classes contradict each other, or `groups` finds
            nothing in a name.
    """
    require(format, FormatName | None, "format")
    grid = grid_of(corruptions, strengths)
    reporter = reporter or Reporter()
    requested = Requested(details_of(details if details or worst is None else True), calibrate, worst)
    with joined(device) as group:
        with all_or_none(group.world_size):
            path = find_checkpoint(model) if isinstance(model, str | Path) else None
            requested.require_copy(model, path)
            own = device if path is None or is_exported(path) else group.device
            opened, choice = open_model(model if path is None else path, device=own, trust=trust, precision=precision)
            settings = inference_of(recipe_inference(opened), inference)
            source = source_of(opened, data, format=format, split=split, object_255=object_255)
            dataset = source.dataset("val")
            dataset.reading = dataset.reading.for_model(opened.config)
            check_classes(opened, dataset)
            dataset.require_decided()
            if grid is not None:
                require_images(dataset)
            names = tuple(names_of(dataset, source.folder))
            grouped = group_numbers(names, groups)
        if len(set(gathered(choice.precision, group.world_size))) > 1:
            raise ValueError("precision auto is bf16 on some of the machines and fp32 on others: give --precision fp32")
        with all_or_none(group.world_size):
            if group.rank == 0:
                tell(choice, reporter)
                lines = [diagnostics.unread_line("val", dataset), diagnostics.unlabeled_line("val", dataset)]
                reporter.warn([*lines, *diagnostics.notes_of(dataset), diagnostics.dark_images_line(dataset)])
        track = reporter.track if group.rank == 0 else untracked
        predictor = Predictor(opened, settings)
        measures = requested.measures(predictor, dataset)
        run = functools.partial(
            evaluate_model,
            predictor,
            dataset,
            rank=group.rank,
            world_size=group.world_size,
            workers=workers,
            names=names,
            track=track,
        )
        result = run(counters=measures.counters)
        if grid is not None:

            def miou_of(corruption: str, strength: int) -> float:
                return run(samples=Corrupted(dataset, names, corruption, strength), priors=False).scores.miou

            robustness = grid.measure(result.scores.miou, miou_of, track=track, workers=workers)
            result = dataclasses.replace(result, robustness=robustness)
        assert result.counts is not None
        with all_or_none(group.world_size):
            found = requested.finish(predictor, dataset, source, result.counts, path, write=group.rank == 0)
    report = {
        "weights": {**weights_of(model, path), "step": opened.metadata.get("step")},
        "data": {**dataclasses.asdict(source), "name": dataset.name, "images": result.images},
        "settings": dataclasses.asdict(settings),
        **describe(result, dataset.classes.names),
        **found,
        "intervals": describe_intervals(result.counts, grouped, groups),
        "prior_classes": prior_classes(opened),
        "corruptions": result.robustness.report() if result.robustness is not None else None,
        "precision": choice.precision,
        "published": published_score(opened, source, settings),
        "versions": versions(),
        "machine": machine(next(opened.parameters()).device),
        "processes": group.world_size,
    }
    counts = dataclasses.replace(result.counts, report=report, details=without_sample(result.counts))
    return dataclasses.replace(result, report=report, counts=counts)


def evaluate_model(
    predictor: Predictor,
    dataset: SegmentationDataset,
    *,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 2,
    names: tuple[str, ...] | None = None,
    counters: Mapping[str, ImageCounter] | None = None,
    samples: Samples | None = None,
    priors: bool = True,
    track: Track = untracked,
) -> Evaluation:
    """Evaluate a model on a data set.

    Args:
        predictor: Model and how images are put through it; labels are compared at their own size.
        dataset: Images with labels.
        rank: This process among those that evaluate together; its images are rank, rank + world_size, ...
        world_size: Number of these processes; more than one need an initialized torch.distributed, and all get the
            result over all images.
        workers: Processes that load images.
        names: Names of the images; None: the paths of their files.
        counters: What else to count in each image, by name.
        samples: What to put through the model instead of the samples of the data set, in the same order.
        priors: Whether to evaluate the priors too, if there are any.
        track: Shows how far it is.

    Raises:
        ValueError: If the model has another number of classes than the data set, or a file is bad, here or in another
            process.
    """
    model = predictor.model
    check_classes(model, dataset)
    device = next(model.parameters()).device
    encoder = getattr(model, "encoder", None)  # an exported file has none
    priors = priors and encoder is not None and prior_classes(model) == len(dataset.classes)
    maps = 1 + (len(getattr(encoder, "semantic_strides", ())) if priors else 0)
    K = len(dataset.classes)
    matrices = [ConfusionMatrix(K, device=device) for _ in range(maps)]
    cells: list[NDArray[np.int64]] = []
    details: dict[str, dict[int, NDArray[Any]]] = {name: {} for name in counters or {}}
    was_training = model.training
    model.eval()
    # Images stay as they are in the file: the predictor resizes them, once for every ratio.
    shown = dataset if samples is None else samples
    loader = evaluation_loader(shown, unchanged, rank=rank, world_size=world_size, workers=workers)
    with all_or_none(world_size):
        for number, (image, label, _) in enumerate(track(loader, "evaluating", len(loader))):
            index = rank + number * world_size
            size = (label.shape[-2], label.shape[-1])
            label = label.to(device)
            for place, views in enumerate(predictor.views(image[0], priors=priors)):
                require_numbers(views)
                prediction = label_map(views, size)
                counts = count(prediction, label, K)
                matrices[place].add(counts)
                cells.append(nonzero_cells(counts, index, place))
                if place == 0:
                    for name, counter in (counters or {}).items():
                        details[name][index] = counter(views, prediction[0], label[0])
    model.train(was_training)
    if world_size > 1:
        for matrix in matrices:
            torch.distributed.all_reduce(matrix.counts)
    scores, *of_priors = [matrix.scores() for matrix in matrices]
    gathered_cells = np.concatenate([part for parts in gathered(cells, world_size) for part in parts])
    of_all = {name: merged(gathered(found, world_size)) for name, found in details.items()}
    images = ImageCounts(names or tuple(names_of(dataset)), dataset.classes.names, gathered_cells, maps, of_all)
    return Evaluation(scores, tuple(of_priors), len(dataset), tuple(matrices[0].confused()), counts=images)


def nonzero_cells(counts: Tensor, image: int, place: int) -> NDArray[np.int64]:
    """The cells of a confusion matrix [K, K] that are not 0, as rows of `ImageCounts.confusion`."""
    pixels = counts.flatten().cpu().numpy()
    cell = np.flatnonzero(pixels)
    return np.stack([np.full_like(cell, image), np.full_like(cell, place), cell, pixels[cell]], axis=1)


def merged(found: Sequence[Mapping[int, NDArray[Any]]]) -> NDArray[Any]:
    """What several processes counted, in the order of the images: [N, ...]."""
    together = {index: values for of_process in found for index, values in of_process.items()}
    return np.stack([together[index] for index in range(len(together))])


def names_of(dataset: SegmentationDataset, root: Path | None = None) -> list[str]:
    """A name of its own for each sample; of a part of a large image with where it begins."""
    names = sample_names(dataset, root if root is not None else Path())
    parts = [f"@{x.rows.start},{x.columns.start}" if x is not None else "" for x in dataset.windows]
    names = [name + part for name, part in zip(names, parts, strict=True)]
    seen = Counter(names)
    return [name if seen[name] == 1 else f"{name}#{index}" for index, name in enumerate(names)]


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


def source_of(
    model: SeMask | Runtime,
    data: str | Path | Data | None,
    *,
    format: str | None,
    split: str | None,
    object_255: bool | None,
) -> Data:
    """Data of the model's recipe with what was given instead.

    Another format keeps what the recipe says of the images, `SAMPLES`, and nothing of its layout.

    Raises:
        ValueError: If no folder is known.
    """
    settings: dict[str, Any] = dict(model.metadata.get("recipe", {}).get("data", {}))
    if isinstance(data, Data):
        settings = dataclasses.asdict(data)
    if format is not None and format != settings.get("format"):
        settings = {name: settings[name] for name in SAMPLES if name in settings} | {"format": format}
    if data is not None and not isinstance(data, Data):
        settings["root"] = str(data)
    if split is not None:
        settings["val_split"] = split
    if object_255 is not None:
        settings["object_255"] = object_255
    if "root" not in settings:
        raise ValueError("which data? the checkpoint names none: give --data FOLDER (and --format)")
    source = Data(**settings)
    if data is None and source.remote:  # anybody may have written it there
        raise ValueError(f"the checkpoint names data at {one_line(source.root)}: give --data with that URL to read it")
    return source
