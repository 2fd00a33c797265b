"""Two or more evaluations on the same images -> Comparison: what differs, how sure it is, and in which images."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.data.catalog import FormatName
from semask.data.source import Data
from semask.evaluation.differing import Drawn, draw
from semask.evaluation.evaluate import Evaluation, evaluate
from semask.evaluation.groups import group_numbers
from semask.evaluation.image_counts import ImageCounts
from semask.evaluation.sides import Side, has_sizes, matched, side_of, size_names
from semask.files.reporter import Reporter
from semask.metrics.comparison import SWAPS, Difference, Paired, paired
from semask.metrics.intervals import LEVEL, METHOD
from semask.metrics.resampling import RESAMPLES
from semask.settings.inference import Given
from semask.settings.precision import Precision

MOST_SIDES = 20
Source = str | Path | ImageCounts | Evaluation
"""A .npz file of `semask evaluate --images`, a folder of several, a checkpoint, or what an evaluation gave."""


@dataclasses.dataclass(frozen=True)
class Differing:
    """An image in which two sides differ.

    Attributes:
        name: Name of the image.
        base: Wrong pixels of the first side as a share of the labeled ones, the mean over its seeds.
        other: The same of the other side.
    """

    name: str
    base: float
    other: float


@dataclasses.dataclass(frozen=True)
class Pair:
    """A side compared with the first.

    Attributes:
        name: Name of the other side.
        scores: Differences of mIoU and of each class' IoU.
        sizes: Differences of the mIoU by object size, by name; empty if not all evaluations counted them.
        images: The images in which they differ most, by wrong pixels.
        pictures: Pictures of these that were drawn, or why none were; None if none were asked for.
    """

    name: str
    scores: Paired
    sizes: Mapping[str, Difference]
    images: tuple[Differing, ...]
    pictures: Drawn | None = None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Models compared on the same images.

    Attributes:
        base: Name of the first side, which the others are compared with.
        pairs: Each other side compared with it.
        classes: Names of the classes.
        images: Number of images.
        report: All of it as JSON.
    """

    base: str
    pairs: tuple[Pair, ...]
    classes: tuple[str, ...]
    images: int
    report: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)


def compare(
    *sides: Source | Sequence[Source],
    data: str | Path | Data | None = None,
    format: FormatName | None = None,
    split: str | None = None,
    object_255: bool | None = None,
    inference: Given = None,
    groups: str | None = None,
    common: bool = False,
    top: int = 10,
    pictures: str | Path | None = None,
    workers: int = 2,
    device: str | None = None,
    precision: Precision = "auto",
    trust: bool = False,
    reporter: Reporter | None = None,
) -> Comparison:
    """Compare models on the same images; the first is the base that the others are compared with.

    Args:
        sides: Each a .npz file that `semask evaluate --images` wrote, a folder of several (seeds of one model), a
            checkpoint, which is evaluated first, or the `Evaluation` of one; or a list of these, the seeds of one
            model.
        data: For checkpoints: folder of the data set, or all that a recipe says of it.
        format: For checkpoints: layout of the folder.
        split: For checkpoints: split to evaluate on.
        object_255: For checkpoints: whether 255 in masks of two classes is class 1 (true) or ignored (false).
        inference: For checkpoints: how images are put through the model.
        groups: If images are not independent, such as the frames of a video: regular expression on the name of an
            image, whose first group (or whole match) names the sequence.
        common: Whether to compare on the images that all sides have; otherwise all must have the same.
        top: How many of the images in which they differ most to list.
        pictures: Folder to draw these images to: image, label, both predictions. Needs the checkpoints and the data
            that the reports name, unchanged.
        workers: For checkpoints: processes that load images.
        device: Where to run, e.g. cpu or cuda; None for the GPU if there is one.
        precision: fp32, bf16 or auto.
        trust: Open exported files that hold code too (.pt2, .engine): only those of your own making.
        reporter: Is told what is to be known, and how far it is.

    Returns:
        The differences, and the report.

    Raises:
        ValueError: If a side can't be read, they have other images, labels or classes, or a setting for checkpoints is
            given and there is none.
    """
    if not 2 <= len(sides) <= MOST_SIDES:
        raise ValueError(f"{len(sides)} sides: give two to {MOST_SIDES} evaluations or checkpoints to compare")

    evaluated = []

    def counted(source: str | Path) -> ImageCounts:
        evaluated.append(source)
        result = evaluate(
            source,
            data,
            format=format,
            split=split,
            object_255=object_255,
            inference=inference,
            workers=workers,
            device=device,
            precision=precision,
            trust=trust,
            reporter=reporter,
        )
        assert result.counts is not None
        return result.counts

    read = [side_of(_counts(x), i, counted) for i, x in enumerate(sides, start=1)]
    given = {"data": data, "format": format, "split": split, "object_255": object_255, "inference": inference or None}
    ignored = [name for name, value in given.items() if value is not None]
    if ignored and not evaluated:
        raise ValueError(
            f"{' and '.join(ignored)}: for checkpoints, which are evaluated first, but all sides are evaluated "
            "already: leave it out, or give checkpoints"
        )
    found = matched(read, common=common)
    first = found[0].seeds[0]
    grouped = group_numbers(first.names, groups)
    sizes = size_names(found[0]) if has_sizes(found) else []
    pairs = [_pair(found[0], other, grouped, sizes, max(top, 0)) for other in found[1:]]
    if pictures is not None:
        folders = [
            Path(pictures) / str(number) if len(pairs) > 1 else Path(pictures) for number in range(1, len(found))
        ]
        pairs = [
            dataclasses.replace(pair, pictures=draw(found[0], side, [x.name for x in pair.images], folder, device))
            for pair, side, folder in zip(pairs, found[1:], folders, strict=True)
        ]
    made = Comparison(found[0].name, tuple(pairs), first.classes, len(first.names))
    return dataclasses.replace(made, report=_report(made, found, groups))


def _counts(source: Any) -> Any:
    """What an evaluation counted in place of the evaluation."""
    if isinstance(source, list | tuple):
        return [_counts(one) for one in source]
    return source.counts if isinstance(source, Evaluation) else source


def _pair(base: Side, other: Side, groups: NDArray[np.int64] | None, sizes: Sequence[str], top: int) -> Pair:
    areas, others = base.areas(), other.areas()
    scores = paired(areas, others, groups)
    by_size = {}
    if sizes:
        of_sizes = base.sizes(), other.sizes()
        by_size = {
            name: paired(of_sizes[0][:, :, index], of_sizes[1][:, :, index], groups, classes=False).miou
            for index, name in enumerate(sizes)
        }
    labeled = areas[0, ..., 1].sum(axis=1)
    wrong = [
        (labeled - x[..., 0].sum(axis=2).mean(axis=0)) / np.maximum(labeled, 1) for x in (areas, others)
    ]  # [N] each
    order = np.argsort(-np.abs(wrong[1] - wrong[0]), kind="stable")[:top]
    names = base.seeds[0].names
    images = [Differing(names[i], float(wrong[0][i]), float(wrong[1][i])) for i in order if wrong[0][i] != wrong[1][i]]
    return Pair(other.name, scores, by_size, tuple(images))


def _report(made: Comparison, sides: Sequence[Side], groups: str | None) -> dict[str, Any]:
    """All of a comparison as JSON."""
    return {
        "level": LEVEL,
        "method": f"paired {METHOD}",
        "resamples": RESAMPLES,
        "swaps": SWAPS,
        "groups": groups,
        "units": made.pairs[0].scores.units,
        "images": made.images,
        "sides": [
            {"name": side.name, "seeds": len(side.seeds), "weights": [_weights(x.report) for x in side.seeds]}
            for side in sides
        ],
        "pairs": [
            {
                "base": made.base,
                "other": pair.name,
                "miou": dataclasses.asdict(pair.scores.miou),
                "classes": [
                    {"name": name, **dataclasses.asdict(x)}
                    for name, x in zip(made.classes, pair.scores.iou, strict=True)
                ],
                "sizes": [{"name": name, **dataclasses.asdict(x)} for name, x in pair.sizes.items()],
                "seed_deviation": pair.scores.seed_deviation,
                "p_seeds": pair.scores.p_seeds,
                "least_p_seeds": pair.scores.least_p_seeds,
                "images": [dataclasses.asdict(x) for x in pair.images],
                "pictures": None if pair.pictures is None else pair.pictures.reason or len(pair.pictures.files),
            }
            for pair in made.pairs
        ],
    }


def _weights(report: Mapping[str, Any]) -> dict[str, Any]:
    """File and digest of the weights, as far as a report names them."""
    found = report.get("weights")
    return {name: found.get(name) if isinstance(found, dict) else None for name in ("file", "sha256")}
