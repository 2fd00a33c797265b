"""The verb `evaluate`: exact scores of a checkpoint, and of the prior of every stage, on labelled images."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from semask.acceleration.devices import machine
from semask.acceleration.precision import Precision, tell
from semask.checkpoints.published import MULTISCALE, find
from semask.checkpoints.saving import versions
from semask.checkpoints.sources import find_checkpoint
from semask.data import findings
from semask.data.source import Data
from semask.engines.catalog import companions, is_exported
from semask.engines.runtime import Runtime
from semask.evaluation import check_classes, describe, evaluate_model, prior_classes
from semask.files.atomic import written_whole
from semask.files.reading import sha256
from semask.files.text import make_console, shown
from semask.metrics import percent
from semask.model import SeMask
from semask.prediction.opening import open_model
from semask.prediction.predictor import Predictor
from semask.prediction.processes import all_or_none, gathered, joined
from semask.prediction.recipe import recipe_inference
from semask.settings.inference import Inference


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
            "beside": {file.name: sha256(file) for file in companions(path)},
            "step": model.metadata.get("step"),
        },
        "data": {**dataclasses.asdict(source), "name": dataset.name, "images": result.images},
        "settings": dataclasses.asdict(inference),
        **describe(result, dataset.classes.names),
        "prior_classes": prior_classes(model),
        "precision": chosen.precision,
        "published": published_score(model, source, inference),
        "versions": versions(),
        "machine": machine(next(model.parameters()).device),
        "processes": group.world_size,
    }
    if group.rank == 0:
        print_report(report)
        if out is not None:
            with written_whole(Path(out)) as temporary:
                temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    return report


def checkpoint_file(weights: str | None, *, zoo: str | None, data: str | None) -> Path:
    """Find the file of a checkpoint, or of a published model by its name.

    Raises:
        ValueError: If there is none, or not exactly one of them was given.
    """
    if (weights is None) == (zoo is None):
        raise ValueError("which model? give either a checkpoint or --zoo NAME, the name of a published model")
    if zoo is None:
        return find_checkpoint(str(weights))
    published = find(zoo)
    if data is None:  # known now, not only after the download
        raise ValueError(f"which data? give --data FOLDER, here in the format {published.format}")
    from semask.checkpoints.download import published_checkpoint

    return published_checkpoint(published)


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
