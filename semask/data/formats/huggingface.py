"""Folders of Hugging Face `datasets` with a column of images and one of masks, read without that library.

ROOT/data/train-00000-of-00002.parquet                 as on the Hub: cells {bytes, path}
ROOT/dataset_dict.json, ROOT/train/{state.json,*.arrow}  as `save_to_disk` writes it; or one split alone
ROOT/train/metadata.csv (or .jsonl, .parquet)          imagefolder: columns file_name and e.g. mask_file_name

Names of classes: ROOT/id2label.json, or a feature that is a list of class labels; else they are unknown.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from semask.data.classes import Classes
from semask.data.dataset import Label, SegmentationDataset
from semask.data.format import Format, Split
from semask.data.formats.table import IMAGE, MASK, require_files, require_once, sides_in
from semask.data.images import Picture
from semask.data.listing import Listing
from semask.data.pairs import listed, tree
from semask.data.stored import Described, Shard, StoredImage, StoredMask, describe
from semask.data.tables import MOST_ROWS, TABLE_SUFFIXES, column_of, paths_of, read_table
from semask.files.reading import parse_json, read_text
from semask.files.schema import quoted
from semask.files.text import one_line, reason

DICT, STATE, LABELS = "dataset_dict.json", "state.json", "id2label.json"
METADATA = "metadata"
_SPLIT_IN_NAME = re.compile(r"(?<![a-z])(train|training|validation|valid|val|dev|test|testing|eval)(?![a-z])")
LARGEST_VALUE = 65_535
"""Largest number in a mask of 16 bits."""


class Found(NamedTuple):
    """The files of a data set.

    Args:
        kind: "parquet", "arrow" or "metadata".
        files: Name of a split, "" if it has none -> its files.
    """

    kind: str
    files: dict[str, list[Path]]


class Meaning(NamedTuple):
    """What the values of the masks mean.

    Args:
        classes: Names and colors; None if nothing tells.
        renumber: Value in the masks -> class index; None: they are class indices.
    """

    classes: Classes | None
    renumber: dict[int, int] | None


def huggingface(root: str | Path, split: str | None, *, channels: int = 3) -> SegmentationDataset:
    """Find the pairs of a split; all if it is None.

    Args:
        root: Folder of the data set.
        split: Its name, e.g. "train" or "validation".
        channels: Channels to read the images with: 1, 3 or 4.

    Raises:
        ValueError: There is no such data set or split, or it has no columns of images and masks.
    """
    root = Path(root)
    found = _files(root, None)
    if split is not None and split not in found.files:
        raise ValueError(f"{one_line(root)}: no split {one_line(split)}; it has {listed(sorted(found.files))}")
    files = [path for name, paths in sorted(found.files.items()) if split in (None, name) for path in paths]
    pairs, features = _from_metadata(files) if found.kind == "metadata" else _from_shards(files)
    meaning = _meaning(root, features)
    name = root.absolute().name
    return SegmentationDataset(pairs, meaning.classes, name=name, renumber=meaning.renumber, channels=channels)


def _files(root: Path, listing: Listing | None) -> Found:
    """Find the files of a data set, without opening them."""
    if not root.is_dir():
        raise ValueError(f"{one_line(root)}: no such folder; expected a data set of Hugging Face datasets")
    if (root / DICT).is_file():
        splits = _json(root / DICT).get("splits")
        names = splits if isinstance(splits, list) else []
        return Found("arrow", {_plain_name(root / DICT, name): _arrow_files(root / name) for name in names})
    if (root / STATE).is_file():
        return Found("arrow", {"": _arrow_files(root)})
    files = listing.files if listing is not None else tree(root)[0]
    tables = [path for path in files if path.stem.lower() == METADATA and path.suffix.lower() in TABLE_SUFFIXES]
    shards = [path for path in files if path.suffix == ".parquet"]
    by_split: dict[str, list[Path]] = {}
    for path in tables or shards:
        by_split.setdefault(_split_of(path.relative_to(root)), []).append(path)
    if not by_split:
        raise ValueError(
            f"{one_line(root)}: no {DICT}, {STATE}, {METADATA}.csv or Parquet files there, needed for a data set of "
            "Hugging Face datasets"
        )
    return Found("metadata" if tables else "parquet", by_split)


def _split_of(path: Path) -> str:
    """The split that a path names, its last word of that kind; "" if it names none."""
    words = _SPLIT_IN_NAME.findall(path.as_posix().lower())
    return words[-1] if words else ""


def _arrow_files(folder: Path) -> list[Path]:
    """The files that a state.json lists."""
    entries = _json(folder / STATE).get("_data_files")
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in entries or []]
    if not names:
        raise ValueError(f"{one_line(folder / STATE)}: it lists no files: save the data set again")
    return [folder / _plain_name(folder / STATE, name) for name in names]


def _plain_name(path: Path, name: Any) -> str:
    """A name in a file of a data set that may not lead out of its folder."""
    if not isinstance(name, str) or name in ("", ".", "..") or re.search(r"[\\/:\0]", name):
        raise ValueError(f"{one_line(path)}: {quoted(name, longest=60)}: expected the name of a file next to it")
    return name


def _json(path: Path) -> dict[str, Any]:
    text = read_text(path, otherwise="save the data set again")
    try:
        values = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{one_line(path)}: not a readable JSON file: {reason(error)}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{one_line(path)}: expected an object, got {type(values).__name__}")
    return values


def _from_shards(files: Sequence[Path]) -> tuple[list[tuple[Picture, Label]], str]:
    """The pairs of Parquet or Arrow files, and the features of the first."""
    described = [(path, describe(path)) for path in files]
    if sum(facts.rows for _, facts in described) > MOST_ROWS:
        raise ValueError(f"{one_line(files[0].parent)}: more than {MOST_ROWS:,} rows: take a part of it")
    pairs: list[tuple[Picture, Label]] = []
    for path, facts in described:
        image, mask = _columns(path, facts)
        shard = Shard(path, (image, mask))
        for row in range(facts.rows):
            pairs.append((StoredImage(shard, row, image), StoredMask(shard, row, mask)))
    return pairs, described[0][1].features


def _columns(path: Path, facts: Described) -> tuple[str, str]:
    """Names of the columns of images and masks."""
    image, mask = column_of(facts.images, IMAGE), column_of(facts.images, MASK)
    if image is not None and mask is None and len(facts.images) == 2:
        mask = 1 - image
    if image is None or mask is None:
        raise ValueError(
            f"{one_line(path)}: no column of images and one of masks; those that hold files are "
            f"{listed(facts.images)}: name them image and mask"
        )
    return facts.images[image], facts.images[mask]


def _from_metadata(files: Sequence[Path]) -> tuple[list[tuple[Picture, Label]], str]:
    """The pairs of tables with columns of file names, which are relative to the table."""
    pairs: list[tuple[Picture, Label]] = []
    for path in files:
        content = read_table(path)
        image, mask = column_of(content.columns, ("file", *IMAGE)), column_of(content.columns, MASK)
        if image is None or mask is None:
            raise ValueError(
                f"{one_line(path)}: no columns file_name and mask_file_name; it has {listed(content.columns)}"
            )
        rows = range(len(content.rows))
        images, masks = (list(paths_of(content, rows, at, path.parent, anywhere=False)) for at in (image, mask))
        require_files(path, images, "images")
        require_files(path, masks, "masks")
        require_once(path, images)
        pairs += zip(images, masks, strict=True)
    return pairs, ""


def _meaning(root: Path, features: str) -> Meaning:
    """Classes by id2label.json, or by the features."""
    path = root / LABELS
    if path.is_file():
        values = _json(path)
        if not all(re.fullmatch(r"\d{1,5}", key, re.ASCII) and int(key) <= LARGEST_VALUE for key in values):
            raise ValueError(f'{one_line(path)}: expected values of the masks and names, e.g. {{"0": "road"}}')
        names = {int(key): name for key, name in values.items()}
        order = sorted(names)
        try:
            classes = Classes(tuple(names[value] for value in order))
        except ValueError as error:
            raise ValueError(f"{one_line(path)}: {error}") from error
        return Meaning(classes, {value: index for index, value in enumerate(order)})
    return Meaning(_classes_of(features), None)


def _classes_of(features: str) -> Classes | None:
    """Names of a feature that lists the classes of an image; a single label is that of the image, not of its pixels."""
    try:
        described = parse_json(features)["info"]["features"].values()
        lists = [x.get("feature", x) for x in described if x.get("_type") in ("Sequence", "List", "LargeList")]
        names = [tuple(x["names"]) for x in lists if x.get("_type") == "ClassLabel"]
        return Classes(names[0]) if len(names) == 1 else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def splits(root: Path) -> dict[Split, str]:
    """Names of the splits for training and validation; {} if one is missing."""
    return sides_in(set(_files(root, None).files))


def recognize(listing: Listing) -> str | None:
    """Say what shows that a folder is of this kind."""
    try:
        found = _files(listing.root, listing)
        first = next(path for paths in found.files.values() for path in paths)
        if found.kind == "metadata":
            content = read_table(first, head=True)
            fits = column_of(content.columns, MASK) is not None and column_of(content.columns, ("file",)) is not None
            return f"{one_line(first.name)} names images and masks, as for imagefolder" if fits else None
        image, mask = _columns(first, describe(first))
    except (ValueError, StopIteration):
        return None
    return f"{one_line(first.name)} has the columns {one_line(image)} and {one_line(mask)}, as of Hugging Face datasets"


FORMAT = Format(find=huggingface, splits=splits, recognize=recognize)
