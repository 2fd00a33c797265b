"""Any folder of images and masks.

    ROOT/classes.json                  {"name": ..., "classes": [...], "palette": [[r, g, b], ...], "ignore_index": 11}
    ROOT/images/SPLIT/scene_1.jpg
    ROOT/annotations/SPLIT/scene_1.png class indices, or the colors of the palette

"palette", "name" and "ignore_index" (the value in the masks that is ignored, in addition to 255) may be left out.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from semask.data.classes import IGNORE_INDEX, Classes
from semask.data.dataset import SegmentationDataset
from semask.data.format import Format
from semask.data.listing import Listing
from semask.data.pairs import pairs_by_stem, require_folders
from semask.files.atomic import write_whole
from semask.files.reading import parse_json, read_text
from semask.files.text import one_line, reason

CLASSES_FILE = "classes.json"
LARGEST_FILE = 2**20
"""Bytes of a classes.json that are read: 255 classes take far less."""
LONGEST_NAME = 200
"""Characters of the name of a data set."""
OTHER_SPLITS = ("valid", "validation", "test", "testing")
"""Names of a validation split in the format "folders"."""
LARGEST_LABEL = 65_535
"""Largest number in a mask of 16 bits."""


class FolderClasses(NamedTuple):
    """What a classes.json says.

    Args:
        name: Name of the data set.
        classes: Names and colors.
        ignore_index: Value in the mask files that is ignored, in addition to 255.
        has_palette: The file gives the colors; otherwise they are generated.
    """

    name: str
    classes: Classes
    ignore_index: int
    has_palette: bool


def folder(
    root: str | Path,
    split: str,
    *,
    image_dir: str = "images",
    label_dir: str = "annotations",
    channels: int = 3,
    object_255: bool | None = None,
    band_files: tuple[str, ...] | None = None,
) -> SegmentationDataset:
    """Find the pairs of ROOT/images/SPLIT and ROOT/annotations/SPLIT.

    Args:
        root: Folder with the classes.json.
        split: Folder below those of the images and of the masks, e.g. "train".
        image_dir: Folder of the images below root.
        label_dir: Folder of the masks below root.
        channels: Channels to read the images with.
        object_255: Whether the value 255 of masks of two classes is class 1 or ignored; see `Data`.
        band_files: Endings of the names of the files that hold the bands of one image; see `Data`.

    Raises:
        ValueError: A folder or the classes.json is missing or wrong, or images and masks do not pair up.
    """
    root = Path(root)
    require_folders(root, "a folder of images and masks", f"{image_dir}/{split}", f"{label_dir}/{split}")
    described = read_classes(root / CLASSES_FILE)
    found = pairs_by_stem(root / image_dir / split, root / label_dir / split, band_files=band_files or ())
    renumber = {index: index for index in range(len(described.classes))}
    return SegmentationDataset(
        found.pairs,
        described.classes,
        name=described.name,
        renumber=renumber | {described.ignore_index: IGNORE_INDEX},
        colored_masks=described.has_palette,
        channels=channels,
        object_255=object_255,
        unread=found.unread,
    )


def read_classes(path: str | Path) -> FolderClasses:
    """Read a classes.json.

    Raises:
        ValueError: The file is missing, no JSON, or lacks the classes.
    """
    path = Path(path)
    text = read_text(path, most=LARGEST_FILE, otherwise='it has to name the classes: {"classes": ["road", ...]}')
    try:
        return described_classes(text, path.absolute().parent.name)
    except ValueError as error:
        raise ValueError(f"{one_line(path)}: {reason(error)}") from error


def described_classes(text: str, folder_name: str) -> FolderClasses:
    """Check what the text of a classes.json says.

    Args:
        text: The text.
        folder_name: Name of the data set if it says none.

    Raises:
        ValueError: It is no JSON, or lacks the classes.
    """
    try:
        values = parse_json(text)
    except ValueError as error:
        raise ValueError(f"not a readable JSON file: {reason(error)}") from error
    return _described(values, folder_name)


def _described(values: Any, folder_name: str) -> FolderClasses:
    """Check what a classes.json holds."""
    if not isinstance(values, dict):
        raise ValueError(f'expected an object with the key "classes", got {type(values).__name__}')
    name, ignore_index = values.get("name"), values.get("ignore_index")
    if name is not None and (not isinstance(name, str) or len(name) > LONGEST_NAME or not name.isprintable()):
        raise ValueError(f'"name" is {one_line(repr(name), longest=40)}: expected a short text on one line')
    if ignore_index is None:
        ignore_index = IGNORE_INDEX
    if type(ignore_index) is not int or not 0 <= ignore_index <= LARGEST_LABEL:
        raise ValueError(
            f'"ignore_index" is {one_line(repr(ignore_index), longest=40)}: expected a value of the masks, '
            f"0 to {LARGEST_LABEL}"
        )
    return FolderClasses(name or folder_name, Classes.from_dict(values), ignore_index, bool(values.get("palette")))


def write_classes(path: str | Path, classes: Classes, *, name: str, ignore_index: int = IGNORE_INDEX) -> None:
    """Write a classes.json that `read_classes` reads."""
    write_whole(Path(path), classes_text(classes, name=name, ignore_index=ignore_index))


def classes_text(classes: Classes, *, name: str, ignore_index: int = IGNORE_INDEX) -> str:
    """Text of a classes.json that `described_classes` reads."""
    values: dict[str, Any] = {"name": name, **classes.as_dict(), "ignore_index": ignore_index}
    return json.dumps(values, indent=1) + "\n"


def recognize(listing: Listing) -> str | None:
    """A classes.json, and images next to annotations with the same splits."""
    if not (listing.root / CLASSES_FILE).is_file() or "images/train" not in listing.folders:
        return None
    splits = {folder.split("/")[1] for folder in listing.folders if folder.startswith("images/")}
    if "val" not in splits and splits & set(OTHER_SPLITS):
        return None  # the format "folders" knows these names
    images = {path.stem for path in listing.images("images/train")}
    masks = {path.stem for path in listing.masks("annotations/train")}
    first = min(masks, default="")
    if images.isdisjoint(masks) and any(first.startswith(stem) for stem in images):
        return None  # likewise the endings of masks
    return f"{CLASSES_FILE}, images and annotations" if masks else None


def resembles(listing: Listing) -> str | None:
    """What there is of this layout where something is missing, which finding its files then says."""
    there = [name for name in ("images", "annotations") if any(x.parts[0] == name for x in listing.names)]
    has = (listing.root / CLASSES_FILE).is_file() and bool(there)
    return f"{CLASSES_FILE} and {' and '.join(there)}" if has else None


FORMAT = Format(find=folder, splits={"train": "train", "val": "val"}, recognize=recognize, resembles=resembles)
