"""The sides of a comparison: what was counted in each image, by one model or by several seeds of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.evaluation.details import SIZES
from semask.evaluation.image_counts import SUFFIX, ImageCounts, read_counts
from semask.files.text import one_line

MOST_SEEDS = 100
MOST_NUMBERS = 2**27
"""Areas of all sides in memory, in numbers of 8 bytes: 1 GiB."""
MOST_PIXELS = 2**52
"""Pixels of all images, so that sums are exact."""
MOST_SIZES = 16
MOST_BYTES = 2**32
"""Bytes of the files of a side, unpacked."""


@dataclass(frozen=True)
class Side:
    """One model, or several seeds of it.

    Attributes:
        name: What it is called.
        seeds: What each seed counted.
    """

    name: str
    seeds: tuple[ImageCounts, ...]

    def areas(self) -> NDArray[np.int64]:
        """Hit, labeled and predicted pixels of each seed, image and class, [S, N, K, 3]."""
        return np.stack([counts.areas() for counts in self.seeds])

    def sizes(self) -> NDArray[np.int64]:
        """The same by object size, [S, N, sizes, K, 3]; a class that is not labeled in a size does not occur there."""
        hit, missed, wrong = np.moveaxis(np.stack([counts.details[SIZES] for counts in self.seeds]), -1, 0)
        areas = np.stack([hit, hit + missed, hit + wrong], axis=-1).astype(np.int64)
        areas[:, :, areas[..., 1].sum(axis=(0, 1)) == 0] = 0
        return areas


def side_of(source: Any, number: int, evaluate: Callable[[str | Path], ImageCounts]) -> Side:
    """Make a side of what was given.

    Args:
        source: File .npz, folder of several, checkpoint, `ImageCounts`, or a list of these, the seeds of one model.
        number: Number of the side, from 1, for its name.
        evaluate: Counts with a checkpoint.

    Raises:
        ValueError: If it can't be read, or there are too many seeds.
    """
    if isinstance(source, ImageCounts):
        return Side(f"side {number}", (source,))
    if isinstance(source, str | Path):
        path = Path(source)
        files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else []
        _require_few(len(files), str(source))
        if files:
            return Side(str(source), tuple(_read(files, str(source))))
        return Side(str(source), (read_counts(path) if path.suffix == SUFFIX else evaluate(source),))
    if not isinstance(source, Sequence) or not source:
        raise ValueError(f"side {number} is {one_line(repr(source), longest=80)}: give a file, a folder or a list")
    _require_few(len(source), f"side {number}")
    parts = [side_of(one, number, evaluate) for one in source]
    more = f" and {len(parts) - 1} more" if len(parts) > 1 else ""
    return Side(f"{parts[0].name}{more}", tuple(counts for part in parts for counts in part.seeds))


def _read(files: Sequence[Path], name: str) -> Iterator[ImageCounts]:
    """Read the files of several seeds, as long as they fit into memory."""
    held = 0
    for file in files:
        counts = read_counts(file)
        held += counts.confusion.nbytes + sum(values.nbytes for values in counts.details.values())
        if held > MOST_BYTES:
            raise ValueError(f"{one_line(name)}: its files are larger than {MOST_BYTES:,} bytes together: give fewer")
        yield counts


def _require_few(seeds: int, name: str) -> None:
    if seeds > MOST_SEEDS:
        raise ValueError(f"{one_line(name)}: {seeds} seeds, more than {MOST_SEEDS}: give fewer")


def matched(sides: Sequence[Side], *, common: bool = False) -> list[Side]:
    """Put the images of all sides into the order of the first.

    Args:
        sides: The sides.
        common: Whether to leave out images that not all of them have.

    Raises:
        ValueError: If they have other images, classes or labels, or are too large together.
    """
    first = sides[0].seeds[0]
    everything = [(side, counts) for side in sides for counts in side.seeds]
    kept = set(first.names)
    for side, counts in everything:
        _require_same_classes(sides[0].name, first.classes, side.name, counts.classes)
        if not common:
            _require_same_images(sides[0].name, first.names, side.name, counts.names)
        kept &= set(counts.names)
    if not kept:
        raise ValueError(
            f"{_named(sides[0].name)} and the other sides have no image in common: compare on one data set"
        )
    names = [name for name in first.names if name in kept]
    numbers = len(everything) * len(names) * len(first.classes) * 3
    if numbers > MOST_NUMBERS:
        raise ValueError(
            f"{len(everything)} times {len(names):,} images with {len(first.classes)} classes are too many to compare: "
            f"{numbers:,} numbers, at most {MOST_NUMBERS:,}"
        )
    found = [Side(side.name, tuple(_exact(side.name, counts.only(names)) for counts in side.seeds)) for side in sides]
    _require_same_labels(found)
    return found


def has_sizes(sides: Sequence[Side]) -> bool:
    """Whether all sides have counts by object size.

    Raises:
        ValueError: If these are damaged, or of other sizes.
    """
    everything = [(side.name, counts) for side in sides for counts in side.seeds]
    if not all(SIZES in counts.details for _, counts in everything):
        return False
    limits = [_limits(counts.report) for _, counts in everything]
    for (name, counts), own in zip(everything, limits, strict=True):
        values, K = counts.details[SIZES], len(counts.classes)
        fits = values.ndim == 4 and values.shape[2:] == (K, 3) and 0 < values.shape[1] <= MOST_SIZES
        if not fits or values.dtype.kind not in "iu" or (values < 0).any() or values.astype(float).sum() > MOST_PIXELS:
            raise ValueError(
                f"{_named(name)}: its counts by object size are damaged ({values.dtype} {list(values.shape)}): "
                "evaluate it again"
            )
        if values.shape[1] != everything[0][1].details[SIZES].shape[1] or own != limits[0]:
            raise ValueError(
                f"{_named(everything[0][0])} and {_named(name)} count by other object sizes: evaluate both alike"
            )
    return True


def size_names(side: Side) -> list[str]:
    """Names of the object sizes, as the report says them."""
    count = side.seeds[0].details[SIZES].shape[1]
    details = side.seeds[0].report.get("details")
    listed = details.get(SIZES) if isinstance(details, dict) else None
    if isinstance(listed, list) and len(listed) == count and all(isinstance(row, dict) for row in listed):
        return [str(row.get("name", number)) for number, row in enumerate(listed, start=1)]
    return [str(number) for number in range(1, count + 1)]


def _limits(report: Any) -> Any:
    """Areas at which object sizes begin, as a report says; None if it does not."""
    details = report.get("details")
    settings = details.get("settings") if isinstance(details, dict) else None
    return settings.get(SIZES) if isinstance(settings, dict) else None


def _exact(name: str, counts: ImageCounts) -> ImageCounts:
    if counts.confusion[:, 3].astype(np.float64).sum() > MOST_PIXELS:
        raise ValueError(f"{_named(name)}: more pixels than images can have: evaluate it again")
    return counts


def _require_same_classes(first: str, classes: Sequence[str], other: str, others: Sequence[str]) -> None:
    if tuple(classes) == tuple(others):
        return
    said = f"{_named(first)} has {len(classes)} classes, {_named(other)} {len(others)}"
    for index, (a, b) in enumerate(zip(classes, others, strict=False)):
        if a != b:
            said = f"class {index} is {_named(a)} in {_named(first)}, but {_named(b)} in {_named(other)}"
            break
    raise ValueError(f"{said}: compare models with the same classes in the same order")


def _require_same_images(first: str, names: Sequence[str], other: str, others: Sequence[str]) -> None:
    only, missing = (sorted(set(a) - set(b)) for a, b in ((names, others), (others, names)))
    parts = [
        f"{len(found)} only in {_named(side)} (e.g. {_named(found[0])})"
        for side, found in ((first, only), (other, missing))
        if found
    ]
    if parts:
        raise ValueError(
            f"other images: {', '.join(parts)}: evaluate both on the same images, or give --common (common=True) to "
            "compare on those that both have"
        )


def _require_same_labels(sides: Sequence[Side]) -> None:
    """The labels are the same files: so each image has the same labeled pixels of each class on all sides."""
    first = sides[0].seeds[0].areas()[..., 1]
    for side in sides:
        for counts in side.seeds:
            apart = np.flatnonzero((counts.areas()[..., 1] != first).any(axis=1))
            if len(apart):
                raise ValueError(
                    f"{_named(sides[0].name)} and {_named(side.name)} have other labels in {len(apart)} images, e.g. "
                    f"{_named(counts.names[apart[0]])}: evaluate both with the same labels"
                )


def _named(text: str) -> str:
    return one_line(text, longest=100)
