"""Compare models on the same images."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from semask.commands.console import ConsoleReporter, make_console
from semask.data.catalog import FormatName
from semask.files.text import shown
from semask.settings.inference import Options
from semask.settings.precision import Precision

if TYPE_CHECKING:
    from rich.console import Console

    from semask.evaluation.comparison import Comparison, Pair
    from semask.metrics.comparison import Difference


def compare(
    sides: list[str],
    *,
    groups: str | None = None,
    common: bool = False,
    top: int = 10,
    pictures: str | None = None,
    data: str | None = None,
    format: FormatName | None = None,
    split: str | None = None,
    object_255: bool | None = None,
    inference: Options,
    workers: int = 2,
    device: str | None = None,
    precision: Precision = "auto",
    trust: bool = False,
    out: str | None = None,
) -> None:
    """Compare models on the same images, and print how they differ and how sure that is.

    The first is the base that each of the others is compared with. Differences have 95 % intervals from a bootstrap
    over the images, and p-values from a permutation test. Several seeds of one model are one side: a folder of files.

    Args:
        sides: Two or more, each a .npz file that semask evaluate --images wrote, a folder of several (seeds of one
            model), or a checkpoint, which is evaluated first.
        groups: If images are not independent, such as the frames of a video, regular expression on the name of an
            image, whose first group (or whole match) names the sequence, e.g. "([^/_]+)_".
        common: Compare on the images that all sides have; otherwise all must have the same.
        top: How many of the images in which they differ most to list.
        pictures: Folder to draw these images to, image, label and both predictions; needs the checkpoints and the data
            that were evaluated.
        data: For checkpoints, folder of the data set.
        format: For checkpoints, layout of the folder.
        split: For checkpoints, split to evaluate on.
        object_255: For checkpoints and masks of 0 and 255 with two classes, whether 255 is class 1 (true) or ignored
            (false).
        inference: For checkpoints, how images are put through the model; what is not given is as the recipe says.
        workers: For checkpoints, processes that load images.
        device: Where to run, e.g. cpu or cuda; null for the GPU if there is one (an exported file: the CPU).
        precision: fp32, bf16, or auto (bf16 where the device computes in it, else fp32).
        trust: Open exported files that hold code too (.pt2, .engine): only those of your own making.
        out: JSON file to write the report to.

    Raises:
        ValueError: If a side can't be read, or they have other images, labels or classes.
    """
    from semask.evaluation.comparison import compare as compare_sides
    from semask.files.atomic import write_whole

    found = compare_sides(
        *sides,
        data=data,
        format=format,
        split=split,
        object_255=object_255,
        inference=inference,
        groups=groups,
        common=common,
        top=top,
        pictures=pictures,
        workers=workers,
        device=device,
        precision=precision,
        trust=trust,
        reporter=ConsoleReporter(),
    )
    console = make_console(stderr=False)
    for pair in found.pairs:
        print_pair(console, found, pair)
        if pair.pictures is not None:
            drawn = f"{len(pair.pictures.files)} pictures are in {pictures}"
            console.print(shown(pair.pictures.reason or drawn), soft_wrap=True)
    if out is not None:
        write_whole(Path(out), json.dumps(found.report, indent=1, ensure_ascii=False))


def print_pair(console: "Console", found: "Comparison", pair: "Pair") -> None:
    """Print the differences of a side from the base, what they mean, and where they are."""
    from rich.table import Table

    names = f"A = {shown(found.base, longest=200)}, B = {shown(pair.name, longest=200)}"
    table = Table(title=f"{names}: IoU % on {found.images} images")
    table.add_column("class")
    for column in ("A", "B", "B - A", "95 %", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, of_class in zip(found.classes, pair.scores.iou, strict=True):
        table.add_row(shown(name, longest=60), *cells(of_class, of_class.p_holm))
    table.add_section()
    table.add_row("mean", *cells(pair.scores.miou, of_mean(pair.scores.miou)))
    for name, of_size in pair.sizes.items():
        table.add_row(f"mean, {shown(name, longest=60)} objects", *cells(of_size, of_mean(of_size)))
    console.print(table)
    for line in meaning(found, pair):
        console.print(line)
    if pair.images:
        table = Table(title="They differ most in")
        table.add_column("image", overflow="fold")
        for column in ("A wrong %", "B wrong %"):
            table.add_column(column, justify="right", no_wrap=True)
        for image in pair.images:
            table.add_row(shown(image.name, longest=200), f"{100 * image.base:.2f}", f"{100 * image.other:.2f}")
        console.print(table)


def cells(found: "Difference", p: float | None) -> tuple[str, ...]:
    """Cells of a row: both scores, their difference with its interval, and p."""
    from semask.metrics.confusion import percent

    between = "-"
    if found.interval.low is not None and found.interval.high is not None:
        between = f"{100 * found.interval.low:+.1f} to {100 * found.interval.high:+.1f}"
    difference = "-" if found.difference is None else f"{100 * found.difference:+.2f}"
    return percent(found.base), percent(found.other), difference, between, "-" if p is None else written(p)


def of_mean(found: "Difference") -> float | None:
    """The p of a mean: of images and seeds if there are several, else of the permutation test."""
    return found.p if found.p_both is None else found.p_both


def written(p: float) -> str:
    """Write a p-value: three digits, or that it is smaller."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def meaning(found: "Comparison", pair: "Pair") -> list[str]:
    """Lines that say what the numbers are about, and what could have been seen."""
    scores, miou = pair.scores, pair.scores.miou
    if miou.interval.reason is not None:
        return [f"No interval of the mean: {miou.interval.reason}."]
    grouped = found.report["groups"] is not None
    drawn = f"{scores.units} groups of images" if grouped else f"{scores.units} images, if these are independent"
    seeds = miou.error_seeds is not None
    lines = [
        f"95 %: on other images of this kind, from {drawn}{', and with other seeds' if seeds else ''}. p: "
        f"{'of images and seeds together' if seeds else 'permutation test'}, of the classes corrected by Holm for "
        "their number."
    ]
    if miou.smallest is not None:
        lines.append(
            f"Smallest difference of the mean that would have been found with a probability of 80 %: "
            f"{100 * miou.smallest:.2f} points."
        )
    if miou.error_seeds is not None and miou.error_images is not None:
        apart = " and ".join("-" if x is None else f"{100 * x:.2f}" for x in scores.seed_deviation)
        lines.append(
            f"Standard deviation between seeds: {apart} points (A and B). Standard error of the difference: "
            f"{100 * miou.error_images:.2f} from the images, {100 * miou.error_seeds:.2f} from the seeds, "
            f"{100 * math.hypot(miou.error_images, miou.error_seeds):.2f} together."
        )
        if miou.p is not None:
            lines.append(f"p of the permutation test, for these trained models and other images: {written(miou.p)}.")
    if scores.p_seeds is not None and scores.least_p_seeds is not None:
        lines.append(
            f"p of dealing the seeds to the sides in another way, on these images: {written(scores.p_seeds)} (so few "
            "seeds give at least "
            f"{written(scores.least_p_seeds)})."
        )
    if None in scores.seed_deviation:
        said = "is taken to change it as much as the other side" if seeds else "may change it: several seeds would say"
        lines.append(f"A side with one seed: training it again {said}.")
    return lines
