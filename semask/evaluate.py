"""The verb `evaluate`: exact scores of a checkpoint, and of the prior of every stage, on labelled images."""

import dataclasses
import hashlib
import json
import math
import platform
from pathlib import Path
from typing import Any, Literal

import torch
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from semask import checkpoint
from semask.data import Data, SegmentationDataset, evaluation_loader, findings
from semask.files import written_whole
from semask.inference import Inference, Predictor, recipe_inference
from semask.metrics import ConfusionMatrix, Scores
from semask.model import SeMask
from semask.precision import Choice, Precision, choose, tell
from semask.processes import all_or_none, gathered, joined
from semask.runtime import Runtime, is_exported, weights_beside
from semask.runtime import load as load_exported
from semask.text import make_console, shown
from semask.views import label_map, require_numbers
from semask.weights.published import MULTISCALE, find


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


def evaluate(
    weights: str | None = None,
    *,
    zoo: str | None = None,
    data: str | None = None,
    format: Literal["folder", "ade20k", "cityscapes", "coco_stuff"] | None = None,
    split: str | None = None,
    scale: tuple[int, int] | None = None,
    native: bool = False,
    mode: Literal["whole", "slide"] | None = None,
    crop: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
    ratios: tuple[float, ...] | None = None,
    flip: bool | None = None,
    multiscale: bool = False,
    object_255: bool | None = None,
    workers: int = 2,
    device: str | None = None,
    precision: Precision = "auto",
    trust: bool = False,
    out: str | None = None,
) -> dict[str, Any]:
    """Measure a checkpoint on labelled images; prints a table.

    What is not given is as the checkpoint's recipe says. Processes that torchrun started share the images; the first
    prints and writes the report.

    Args:
        weights: Checkpoint: a .safetensors file, the folder of a run, OWNER/NAME on the Hugging Face Hub, or the name
            of a published model; or an exported file. Null with zoo.
        zoo: Name of a published model, e.g. semask-tiny-fpn-ade20k, whose published mIoU is shown beside ours.
        data: Folder of the data set.
        format: Layout of the folder: folder (images/SPLIT, annotations/SPLIT, classes.json), ade20k, cityscapes or
            coco_stuff.
        split: Split to evaluate on.
        scale: Long and short side in pixels that images are fitted into.
        native: Leave images at the size of their file, whatever the recipe's scale.
        mode: whole (the image in one piece) or slide (overlapping windows).
        crop: Height and width of a window in pixels.
        stride: Rows and columns from one window to the next.
        ratios: Factors on the scale; several are averaged, e.g. [0.5,0.75,1.0,1.25,1.5,1.75].
        flip: Also see each image mirrored, and average.
        multiscale: The published ratios, 0.5, 0.75, 1, 1.25, 1.5 and 1.75, and flip.
        object_255: For masks of 0 and 255 with two classes: whether 255 is class 1 (true) or ignored (false).
        workers: Processes that load images.
        precision: fp32, bf16 (less time and memory; see `SeMask.use_bfloat16`), or auto: bf16 where the device computes
            in it, else fp32. Scores in bf16 differ in the last digits: give fp32 for numbers that are the same on
            every machine.
        device: Where to run, e.g. cpu or cuda; null for the GPU if there is one (an exported file: the CPU).
        trust: Open exported files that hold code too (.pt2, .engine): only those of your own making.
        out: JSON file to write the report to.

    Returns:
        The report: weights, data, settings, scores, scores of each prior, published score, versions.

    Raises:
        ValueError: If the checkpoint or the data can't be read, or their classes contradict each other.
    """
    given: dict[str, Any] = {
        "scale": scale,
        "mode": mode,
        "crop": crop,
        "stride": stride,
        "ratios": ratios,
        "flip": flip,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if multiscale:
        given = {**MULTISCALE, **given}
    with joined(device) as group:
        with all_or_none(group.world_size):
            path = checkpoint_file(weights, zoo=zoo, data=data)
            own = device if is_exported(path) else group.device
            model, chosen = open_model(path, device=own, trust=trust, precision=precision)
            recipe = model.metadata["recipe"]
            inference = dataclasses.replace(recipe_inference(model), **given)
            if native:
                inference = dataclasses.replace(inference, scale=None)
            source = recipe_data(recipe.get("data", {}), root=data, format=format, split=split)
            if object_255 is not None:
                source = dataclasses.replace(source, object_255=object_255)
            dataset = source.dataset("val")
            check_classes(model, dataset)
            dataset.require_decided()
        if len(set(gathered(chosen.precision, group.world_size))) > 1:
            raise ValueError("precision auto is bf16 on some of the machines and fp32 on others: give --precision fp32")
        with all_or_none(group.world_size):
            if group.rank == 0:
                tell(chosen, make_console())
                findings.warn([findings.unread_line("val", dataset), findings.looked_at(dataset)])
        result = evaluate_model(
            Predictor(model, inference),
            dataset,
            rank=group.rank,
            world_size=group.world_size,
            workers=workers,
            progress=group.rank == 0,
        )
    report = {
        "weights": {
            "file": str(weights or zoo),
            "sha256": sha256(path),
            "beside": {file.name: sha256(file) for file in weights_beside(path)},
            "step": model.metadata.get("step"),
        },
        "data": {**dataclasses.asdict(source), "name": dataset.name, "images": result.images},
        "settings": dataclasses.asdict(inference),
        **describe(result, dataset.classes.names),
        "prior_classes": prior_classes(model),
        "precision": chosen.precision,
        "published": published_score(model, source, inference),
        "versions": checkpoint.versions(),
        "machine": machine(next(model.parameters()).device),
        "processes": group.world_size,
    }
    if group.rank == 0:
        print_report(report)
        if out is not None:
            with written_whole(Path(out)) as temporary:
                temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    return report


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


def checkpoint_file(weights: str | None, *, zoo: str | None, data: str | None) -> Path:
    """Find the file of a checkpoint, or of a published model by its name.

    Raises:
        ValueError: If there is none, or not exactly one of them was given.
    """
    if (weights is None) == (zoo is None):
        raise ValueError("which model? give either a checkpoint or --zoo NAME, the name of a published model")
    if zoo is None:
        return checkpoint.find(str(weights))
    published = find(zoo)
    if data is None:  # known now, not only after the download
        raise ValueError(f"which data? give --data FOLDER, here in the format {published.format}")
    from semask.weights.fetch import published_checkpoint

    return published_checkpoint(published)


def open_model(
    source: str | Path, *, device: str | None, trust: bool, precision: Precision
) -> tuple[SeMask | Runtime, Choice]:
    """Load a checkpoint, on the GPU if there is one and no device is given, or open an exported file.

    Returns:
        The model, and what it computes in.

    Raises:
        ValueError: See `checkpoint.load` and `runtime.load`; if a precision is given for an exported file.
    """
    if is_exported(source):
        if precision != "auto":
            raise ValueError(f"{source}: computes in what it was exported for: leave out --precision {precision}")
        runtime = load_exported(source, device=device, trust=trust)
        exported = runtime.description["precision"]
        return runtime, Choice(exported, f"precision {exported} (as the file was exported)")
    model = checkpoint.load(source, device=device or default_device())
    chosen = choose(precision, next(model.parameters()).device)
    return (model.use_bfloat16() if chosen.precision == "bf16" else model), chosen


def prior_classes(model: SeMask | Runtime) -> int:
    """Number of classes of a model's priors; the published COCO-Stuff models have fewer of them than of the masks."""
    return int(model.config["prior_classes"] or model.config["num_classes"])


def published_score(model: SeMask | Runtime, data: Data, inference: Inference) -> dict[str, Any] | None:
    """Published mIoU, a share, for the settings of this evaluation; None when they are not the published ones."""
    published, recipe = model.metadata.get("published"), model.metadata["recipe"].get("data", {})
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


def recipe_data(settings: dict[str, Any], *, root: str | None, format: Any, split: str | None) -> Data:
    """Data of a recipe with what was given instead; another root or format keeps nothing of the recipe's layout."""
    if format is not None and format != settings.get("format"):
        settings = {"format": format}
    if root is not None:
        settings = {**settings, "root": root}
    if split is not None:
        settings = {**settings, "val_split": split}
    if "root" not in settings:
        raise ValueError("which data? the checkpoint names none: give --data FOLDER (and --format)")
    return Data(**settings)


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


def print_report(report: dict[str, Any]) -> None:
    """Print scores as a table."""
    file, data = shown(report["weights"]["file"]), shown(report["data"]["name"])
    table = Table(title=f"{file} on {data}, {report['data']['images']} images")
    table.add_column("class")
    for column in ("IoU %", "accuracy %", "pixels"):
        table.add_column(column, justify="right")
    for row in report["classes"]:
        table.add_row(
            shown(row["name"], longest=60), percent(row["iou"]), percent(row["accuracy"]), f"{row['pixels']:,}"
        )
    table.add_section()
    table.add_row("mean", percent(report["miou"]), percent(report["mean_accuracy"]), "")
    if report["published"] is not None:
        published = report["published"]
        table.add_row(f"published, {published['protocol']}", percent(published["miou"]), "", "")
    table.add_row("all pixels", "", percent(report["overall_accuracy"]), "")
    for stage, miou in enumerate(report["prior_miou"], start=1):
        table.add_row(f"prior of semantic layer {stage}, mean", percent(miou), "", "")
    if not report["prior_miou"] and report["prior_classes"] != len(report["classes"]):
        table.caption = f"priors not measured: they have {report['prior_classes']} classes"
    make_console(stderr=False).print(table)


def percent(share: float | None) -> str:
    """Write a share as a percentage; a dash for None or NaN."""
    return "-" if share is None or math.isnan(share) else f"{100 * share:.2f}"


def sha256(path: Path) -> str:
    """Hash of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def default_device() -> str:
    """Choose the GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def machine(device: torch.device) -> str:
    """Name the hardware of a measurement."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
