"""Evaluate a checkpoint on labeled images."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semask.commands.console import ConsoleReporter, confusion_lines, interval_text, make_console, score_table
from semask.data.catalog import FormatName
from semask.files.text import shown
from semask.settings.details import DetailOptions
from semask.settings.inference import Options
from semask.settings.precision import Precision

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SHARED = True
"""Processes that torchrun started share the work."""


def evaluate(
    weights: str | None = None,
    *,
    zoo: str | None = None,
    data: str | None = None,
    format: FormatName | None = None,
    split: str | None = None,
    object_255: bool | None = None,
    inference: Options,
    corruptions: list[str] | None = None,
    strengths: list[int] | None = None,
    measures: DetailOptions,
    native: bool = False,
    multiscale: bool = False,
    groups: str | None = None,
    workers: int = 2,
    device: str | None = None,
    precision: Precision = "auto",
    trust: bool = False,
    details: bool = False,
    worst: str | None = None,
    calibrate: str | None = None,
    out: str | None = None,
    images: str | None = None,
) -> None:
    """Evaluate a checkpoint on labeled images, and print a table of its scores.

    What is not given is as the checkpoint's recipe says. Processes that torchrun started share the images; the first
    prints and writes the report.

    Args:
        weights: Checkpoint: a .safetensors file, the folder of a run, OWNER/NAME on the Hugging Face Hub, or the name
            of a published model; or an exported file. Null with --zoo.
        zoo: Name of a published model, e.g. semask-tiny-fpn-ade20k, whose published mIoU is shown next to ours.
        data: Folder of the data set.
        format: Layout of the folder; "folder" is images/SPLIT, annotations/SPLIT and classes.json.
        split: Split to evaluate on.
        object_255: For masks of 0 and 255 with two classes: whether 255 is class 1 (true) or ignored (false).
        inference: How images are put through the model; what is not given is as the checkpoint's recipe says.
        corruptions: Evaluate on corrupted images too: all, or some of gaussian_noise, shot_noise, impulse_noise,
            defocus_blur, glass_blur, motion_blur, zoom_blur, snow, frost, fog, brightness, contrast, elastic_transform,
            pixelate, jpeg_compression, or the kinds noise, blur, weather, digital. Each takes as long as an evaluation,
            for each of its strengths.
        strengths: Strengths of the corruptions, 1 to 5; null for all five.
        measures: Settings of the details; one of them asks for the details too.
        native: Leave images at the size of their file, whatever the recipe's scale.
        multiscale: The published ratios, 0.5, 0.75, 1, 1.25, 1.5 and 1.75, and flip.
        groups: For the 95 % intervals, if images are not independent, such as the frames of a video: regular expression
            on the name of an image, whose first group (or whole match) names the sequence, e.g. "([^/_]+)_".
        workers: Processes that load images.
        device: Where to run, e.g. cpu or cuda; null for the GPU if there is one (an exported file: the CPU).
        precision: fp32, bf16 (less time and memory where the device computes in it), or auto: bf16 where the device
            computes in it, else fp32. Scores in bf16 differ in the last digits: give fp32 for numbers that are the same
            on every machine.
        trust: Open exported files that hold code too (.pt2, .engine): only those of your own making.
        details: Also measure boundary IoU, IoU by object size and calibration, and list the worst images; needs scipy.
        worst: Folder to write pictures of the worst images to: image, label, prediction and errors; details come too.
        calibrate: .safetensors file to write: a copy of the checkpoint that holds the temperature at which confidence
            is right on this data; `semask predict` uses it.
        out: JSON file to write the report to.
        images: .npz file to write to what was counted in each image; `semask compare` reads it.

    Raises:
        ValueError: If the checkpoint or the data can't be read, or their classes contradict each other.
    """
    from semask.checkpoints.published import MULTISCALE
    from semask.evaluation.evaluate import evaluate as evaluate_model
    from semask.evaluation.image_counts import SUFFIX
    from semask.files.atomic import written_whole
    from semask.prediction.processes import is_first

    model = which_model(weights, zoo=zoo, data=data)
    changes = {**(MULTISCALE if multiscale else {}), **inference, **({"scale": None} if native else {})}
    if images is not None and Path(images).suffix != SUFFIX:  # known now, not only after the evaluation
        raise ValueError(f"--images {shown(images)}: give a file that ends in {SUFFIX}")
    result = evaluate_model(
        model,
        data,
        format=format,
        split=split,
        object_255=object_255,
        inference=changes,
        corruptions=corruptions,
        strengths=strengths,
        groups=groups,
        workers=workers,
        device=device,
        precision=precision,
        trust=trust,
        details=measures or details,
        calibrate=calibrate,
        worst=worst,
        reporter=ConsoleReporter(),
    )
    report = result.report
    if is_first():
        assert result.counts is not None
        print_report(report)
        if out is not None:
            with written_whole(Path(out)) as temporary:
                temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
        if images is not None:
            result.counts.save(images)


def which_model(weights: str | None, *, zoo: str | None, data: str | None) -> str:
    """Name of the checkpoint, or of the published model.

    Raises:
        ValueError: If not exactly one of them was given, or the published model has no data to be evaluated on.
    """
    if weights is not None and zoo is None:
        return weights
    if zoo is None or weights is not None:
        raise ValueError("which model? give either a checkpoint or --zoo NAME, the name of a published model")
    from semask.checkpoints.published import find

    published = find(zoo)
    if data is None:  # known now, not only after the download
        raise ValueError(f"which data? give --data FOLDER, here in the format {published.format}")
    return published.name


def print_report(report: Mapping[str, Any]) -> None:
    """Print scores as a table."""
    from semask.metrics.confusion import percent

    file, data = shown(report["weights"]["file"]), shown(report["data"]["name"])
    table = score_table(report, title=f"{file} on {data}, {report['data']['images']} images")
    if report["published"] is not None:
        published = report["published"]
        table.add_row(f"published, {published['protocol']}", percent(published["miou"]), "", "", "")
    intervals = report["intervals"]
    table.add_row("all pixels", "", "", percent(report["overall_accuracy"]), "")
    priors = zip(report["prior_miou"], intervals["prior_miou"], strict=True)
    for stage, (miou, interval) in enumerate(priors, start=1):
        table.add_row(f"prior of semantic layer {stage}, mean", percent(miou), interval_text(interval), "", "")
    if not report["prior_miou"] and report["prior_classes"] != len(report["classes"]):
        table.caption = f"priors not evaluated: they have {report['prior_classes']} classes"
    console = make_console(stderr=False)
    console.print(table)
    console.print(interval_line(intervals))
    for line in confusion_lines(report):
        console.print(line)
    if "details" in report:
        print_details(console, report["details"])
    if "calibrated" in report:
        found = report["calibrated"]
        console.print(
            f"Temperature {found['temperature']:.3f}: expected calibration error {percent(found['ece'][0])} % without, "
            f"{percent(found['ece'][1])} % with it"
        )
    if report["corruptions"] is not None:
        console.print(corruption_table(report["corruptions"]))


def print_details(console: "Console", details: Mapping[str, Any]) -> None:
    """Print what was measured in addition: IoU at boundaries and by object size, calibration, worst images."""
    from rich.table import Table

    from semask.metrics.confusion import percent

    boundary, sizes, calibration = details["boundary"], details["sizes"], details["calibration"]
    table = Table(
        title=f"IoU % at boundaries ({percent(details['settings']['boundary_width'])} % of the diagonal) and "
        "by object size"
    )
    table.add_column("class")
    for column in ("boundary", *(size["name"] for size in sizes)):
        table.add_column(column, justify="right")
    for k, row in enumerate(boundary["classes"]):
        of_sizes = [percent(size["classes"][k]["iou"]) for size in sizes]
        table.add_row(shown(row["name"], longest=60), percent(row["iou"]), *of_sizes)
    table.add_section()
    table.add_row("mean", percent(boundary["miou"]), *(percent(size["miou"]) for size in sizes))
    console.print(table)
    temperature = calibration["temperature"]
    console.print(
        f"Expected calibration error {percent(calibration['ece'])} %: mean confidence "
        f"{percent(calibration['confidence'])} %, accuracy {percent(calibration['accuracy'])} %"
        f"{'' if temperature is None else f', at temperature {temperature:.3f}'}"
    )
    if details["worst"]:
        table = Table(title="worst images")
        for column in ("image", "mIoU %", "accuracy %", "most often wrong"):
            table.add_column(column, justify="right" if "%" in column else "left")
        for one in details["worst"]:
            wrong = (
                ""
                if one["label"] is None
                else f"{shown(one['label'], longest=60)} as {shown(one['prediction'], longest=60)}"
            )
            table.add_row(shown(one["image"], longest=80), percent(one["miou"]), percent(one["accuracy"]), wrong)
        console.print(table)


def corruption_table(report: Mapping[str, Any]) -> "Table":
    """A table of the mIoU on corrupted images, a row for each corruption."""
    from rich.table import Table

    from semask.metrics.confusion import percent

    table = Table(title="mIoU % on corrupted images, by strength")
    table.add_column("corruption")
    for column in (*map(str, report["strengths"]), "mean", "of clean"):
        table.add_column(column, justify="right")
    blank = [""] * len(report["strengths"])
    table.add_row("none", *blank, percent(report["clean_miou"]), percent(1.0), end_section=True)
    kinds = [row["kind"] for row in report["results"]]
    for row, following in zip(report["results"], [*kinds[1:], None], strict=True):
        scores = (*row["miou"], row["mean_miou"], row["relative_miou"])
        table.add_row(row["name"], *map(percent, scores), end_section=row["kind"] != following)
    columns = zip(*(row["miou"] for row in report["results"]), strict=True)
    means = [None if None in column else sum(column) / len(column) for column in columns]
    table.add_row("mean", *map(percent, means), percent(report["mean_miou"]), percent(report["relative_miou"]))
    return table


def interval_line(intervals: Mapping[str, Any]) -> str:
    """Say what the intervals are, or why there are none."""
    if intervals["miou"]["reason"] is not None:
        return f"No 95 % intervals: {intervals['miou']['reason']}"
    if intervals["groups"] is None:
        return f"95 %: on other images of this kind, if these {intervals['units']} are independent of each other"
    return f"95 %: on other images of this kind, from {intervals['units']} groups of images"
