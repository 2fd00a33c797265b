"""A folder for each class, in which every image shows only this class and its background.

    ROOT/crack/images/a.jpg   ROOT/crack/masks/a.png        whatever is not 0 in the mask is a crack
    ROOT/rust/b.jpg           ROOT/rust/b_mask.png

Below a class the files lie as in the formats "folders" or "flat". Splits may lie above the classes: ROOT/train/crack.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.data.class_files import find_class_file
from semask.data.classes import IGNORE_INDEX, Classes
from semask.data.dataset import Label, SegmentationDataset, label_path, raw_label
from semask.data.format import Format, Split
from semask.data.formats.flat import flat
from semask.data.formats.flat import recognize as recognize_flat
from semask.data.formats.flat import splits_of as splits_in
from semask.data.formats.folders import IMAGES, MASKS, TRAIN, VAL, folders
from semask.data.formats.folders import recognize as recognize_folders
from semask.data.images import Picture
from semask.data.listing import Listing
from semask.data.pairs import OF_SYSTEMS
from semask.files.text import one_line

BACKGROUND = "background"


@dataclass(frozen=True)
class ObjectMask:
    """A mask of one kind of object: whatever is not 0 belongs to its class.

    Args:
        path: The file.
        index: Index of the class.
    """

    path: Path
    index: int

    def read(self) -> NDArray[Any]:
        """Give the class to the object, and 0 to the rest.

        Raises:
            ValueError: If the mask has more than one other value.
        """
        raw = raw_label(self.path)
        found = raw.max(-1) if raw.ndim == 3 else raw
        values = np.unique(found)
        if len(values[values != 0]) > 1:
            said = ", ".join(str(value) for value in values[:5])
            raise ValueError(
                f"{one_line(self.path)}: has the values {said}; in a folder for one class a mask has 0 and one other"
            )
        return np.where(found != 0, self.index, 0).astype(np.uint8)


def class_folders(root: str | Path, split: str | None) -> SegmentationDataset:
    """Find the pairs of all classes, or those of a split.

    Args:
        root: Folder with the folders of the classes.
        split: Folder below root that has them; None for root itself.

    Raises:
        ValueError: There are no such folders, or images and masks do not pair up.
    """
    root = Path(root)
    place = root if split is None else root / split
    if not place.is_dir():
        raise ValueError(f"{one_line(place)}: no such folder; expected a folder for each class there")
    names = class_names(root)
    if not names:
        raise ValueError(f"{one_line(root)}: no folders of classes, such as {one_line(root.name)}/crack/images")
    pairs: list[tuple[Picture, Label]] = []
    unread: list[Path] = []
    for index, name in enumerate(names, start=1):
        if (place / name).is_dir():
            find = folders if recognize_folders(Listing(place / name)) else flat
            found = find(place / name, None)
            pairs.extend((image, ObjectMask(label_path(mask), index)) for image, mask in found.pairs)
            unread += found.unread
    return SegmentationDataset(
        pairs,
        Classes((BACKGROUND, *names)),
        name=root.absolute().name,
        renumber={**{index: index for index in range(len(names) + 1)}, IGNORE_INDEX: IGNORE_INDEX},
        unread=unread,
    )


def class_names(root: Path) -> list[str]:
    """Names of the folders of the classes, those of all splits together."""
    splits = splits_of(root)
    places = [root / name for name in splits.values()] or [root]
    found = {
        entry.name
        for place in places
        for entry in place.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in OF_SYSTEMS
    }
    return sorted(found)


def splits_of(root: Path) -> Mapping[Split, str]:
    """Names of the folders of the splits; {} without."""
    return splits_in(root)


def recognize(listing: Listing) -> str | None:
    """Two or more folders that each have images and masks, and nothing that names the classes."""
    root = listing.root
    names = class_names(root)
    taken = {*IMAGES, *MASKS, *TRAIN, *VAL}
    if len(names) < 2 or any(name.lower() in taken for name in names) or find_class_file(root) is not None:
        return None
    places = [root / split for split in splits_of(root).values()] or [root]
    inner = [Listing(place / name) for place in places for name in names if (place / name).is_dir()]
    if not all(recognize_folders(x) or recognize_flat(x) for x in inner) or not _binary(root, splits_of(root)):
        return None
    return f"folders {', '.join(one_line(name, longest=40) for name in names[:3])} with images and masks each"


def _binary(root: Path, splits: Mapping[Split, str]) -> bool:
    """Whether the first mask of each class has one value other than 0."""
    found = class_folders(root, splits.get("train"))
    first = {label.index: label for _, label in reversed(found.pairs) if isinstance(label, ObjectMask)}
    try:
        return all(label.read() is not None for label in first.values())
    except ValueError:
        return False


FORMAT = Format(find=class_folders, splits=splits_of, recognize=recognize, general=True)
