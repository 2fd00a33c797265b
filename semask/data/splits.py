"""A split for data that has none: by a hash of the name, so that it stays when files are added; or by a list in a file.

NAME,SPLIT
yard/0001,train
yard/0002,val
"""

import csv
import hashlib
import io
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from semask.data.images import IMAGE_SUFFIXES
from semask.files.atomic import write_whole
from semask.files.reading import read_text
from semask.files.text import one_line

Side = Literal["train", "val"]

HOLDOUT = 0.15
"""Share of the images that is held out for validation."""
LARGEST_FILE = 2**28
"""Bytes of a list of names that are read: some million names."""


def side_of(name: str, holdout: float) -> Side:
    """Which split a name belongs to; it depends on nothing else.

    >>> [side_of(name, 0.5) for name in ("a", "b", "c", "d")]
    ['train', 'val', 'val', 'val']
    """
    return "val" if _number(name) < holdout else "train"


def split_by_name(
    names: Sequence[str],
    *,
    holdout: float = HOLDOUT,
    groups: Sequence[int] | None = None,
    given: Mapping[str, Side] | None = None,
) -> list[Side]:
    """Split samples by a hash of their names.

    A group, for example frames of one street, goes by its first name, so that it is on one side; files that are added
    with later names change nothing. Neither side is left empty.

    Args:
        names: Name of each sample.
        holdout: Share that goes to validation, between 0 and 1.
        groups: Number of the group of each sample; None if each is its own.
        given: Split of names for which it is decided.

    Raises:
        ValueError: There are not two samples to share out, or all are given the same side.
    """
    if len(names) < 2:
        raise ValueError(
            f"{len(names)} labeled image cannot be split into training and validation: add images, or give both splits"
        )
    first: dict[int, str] = {}
    for name, group in zip(names, groups or range(len(names)), strict=True):
        first[group] = min(name, first.get(group, name))
    keys = [first[group] for group in groups or range(len(names))]
    given = given or {}
    free = [key for name, key in zip(names, keys, strict=True) if name not in given]
    sides: list[Side] = [
        given[name] if name in given else side_of(key, holdout) for name, key in zip(names, keys, strict=True)
    ]
    for missing, best in (("val", min), ("train", max)):
        if missing not in sides:  # few images: the next in line
            if not free:
                raise ValueError(f"all {len(names)} images are given to one side: give some of them to {missing}")
            chosen = best(free, key=_number)
            sides = [
                missing if key == chosen and name not in given else side  # type: ignore[misc]
                for name, key, side in zip(names, keys, sides, strict=True)
            ]
            if len(set(sides)) == 1:  # all images are one group
                sides = split_by_name(names, holdout=holdout, given=given)
    return sides


def matched(given: Mapping[str, Side], names: Sequence[str]) -> dict[str, Side]:
    """Find the samples that a list means: with or without the ending of the file, however ä is written.

    Args:
        given: Name in the list -> split.
        names: Names of all samples, without endings.

    Returns:
        Name of a sample -> split, for those that are listed.

    Raises:
        ValueError: None of the samples is listed, or one is in both splits.
    """
    sides: dict[str, Side] = {}
    for name, side in given.items():
        path = Path(name)
        bare = path.with_suffix("").as_posix() if path.suffix.lower() in IMAGE_SUFFIXES else name
        for key in {_composed(name), _composed(bare)}:
            if sides.setdefault(key, side) != side:
                raise ValueError(f"{one_line(name, longest=100)} is in both splits")
    found = {name: sides[_composed(name)] for name in names if _composed(name) in sides}
    if given and names and not found:
        listed, there = (one_line(next(iter(x)), longest=100) for x in (given, names))
        raise ValueError(f"lists no image of the folder: it has {listed}, but images are named such as {there}")
    return found


def _composed(name: str) -> str:
    """A name as most systems write it: some write ä as one character, others as two."""
    return unicodedata.normalize("NFC", name)


def _number(name: str) -> float:
    """A number in [0, 1) for a name, the same on every machine."""
    digest = hashlib.sha256(_composed(name).encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def write_split(path: str | Path, names: Sequence[str], sides: Sequence[Side]) -> None:
    """Write which name is in which split, for `data.split_file`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "split"])
    writer.writerows(sorted(zip(names, sides, strict=True)))
    write_whole(Path(path), text.getvalue())


def read_split(path: str | Path) -> dict[str, Side]:
    """Read what `write_split` wrote, or anybody: a row NAME,SPLIT for each image, with these two column names.

    Raises:
        ValueError: The file can't be read, or a row is wrong.
    """
    text = read_text(path, most=LARGEST_FILE, otherwise="give a CSV file with the columns name and split")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    sides: dict[str, Side] = {}
    try:
        if not {"name", "split"} <= set(rows.fieldnames or []):
            raise ValueError("its first line has to be name,split")
        for row in rows:
            name, side = row["name"] or "", (row["split"] or "").strip()
            if side not in ("train", "val"):
                said = one_line(repr(side), longest=40)
                raise ValueError(f"line {rows.line_num} has the split {said}: give train or val")
            if sides.setdefault(name, side) != side:  # type: ignore[arg-type]
                raise ValueError(f"{one_line(name, longest=100)} is in both splits")
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{one_line(path)}: {error}") from error
    return sides
