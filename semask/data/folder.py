"""Any folder of images and masks.

    ROOT/classes.json                  {"name": ..., "classes": [...], "palette": [[r, g, b], ...], "ignore_index": 11}
    ROOT/images/SPLIT/scene_1.jpg
    ROOT/annotations/SPLIT/scene_1.png class indices, or the colours of the palette

"palette", "name" and "ignore_index" (the value in the masks that is ignored, beside 255) may be left out.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from semask.data.dataset import IGNORE_INDEX, Classes, SegmentationDataset
from semask.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES

CLASSES_FILE = "classes.json"


class FolderClasses(NamedTuple):
    """What a classes.json says.

    Args:
        name: Name of the data set.
        classes: Names and colours.
        ignore_index: Value in the mask files that is ignored, beside 255.
        has_palette: The file gives the colours; otherwise they are generated.
    """

    name: str
    classes: Classes
    ignore_index: int
    has_palette: bool


def folder(
    root: str | Path, split: str, *, image_dir: str = "images", label_dir: str = "annotations", channels: int = 3
) -> SegmentationDataset:
    """Find the pairs of ROOT/images/SPLIT and ROOT/annotations/SPLIT.

    Args:
        root: Folder with the classes.json.
        split: Folder below those of the images and of the masks, e.g. "train".
        image_dir: Folder of the images below root.
        label_dir: Folder of the masks below root.
        channels: Channels to read the images with: 1, 3 or 4.

    Raises:
        ValueError: A folder or the classes.json is missing or wrong, or images and masks do not pair up.
    """
    root = Path(root)
    require_folders(root, "a folder of images and masks", f"{image_dir}/{split}", f"{label_dir}/{split}")
    described = read_classes(root / CLASSES_FILE)
    renumber = {index: index for index in range(len(described.classes))}
    return SegmentationDataset(
        pairs_by_stem(root / image_dir / split, root / label_dir / split),
        described.classes,
        name=described.name,
        renumber=renumber | {described.ignore_index: IGNORE_INDEX},
        colored_masks=described.has_palette,
        channels=channels,
    )


def read_classes(path: str | Path) -> FolderClasses:
    """Read a classes.json.

    Raises:
        ValueError: The file is missing, no JSON, or lacks the classes.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f'{path}: no such file; it has to name the classes: {{"classes": ["road", ...]}}') from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable JSON file: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f'{path}: expected an object with the key "classes", got {type(values).__name__}')
    ignore_index = values.get("ignore_index", IGNORE_INDEX)
    if not isinstance(ignore_index, int) or ignore_index < 0:
        raise ValueError(f'{path}: "ignore_index" is {ignore_index!r}: expected a value of the masks, 0 or more')
    try:
        classes = Classes.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return FolderClasses(
        str(values.get("name") or path.parent.name), classes, ignore_index, bool(values.get("palette"))
    )


def write_classes(path: str | Path, classes: Classes, *, name: str, ignore_index: int = IGNORE_INDEX) -> None:
    """Write a classes.json that `read_classes` reads."""
    values: dict[str, Any] = {"name": name, **classes.as_dict(), "ignore_index": ignore_index}
    Path(path).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def require_folders(root: Path, what: str, *folders: str) -> None:
    """Check that a data set is laid out as it should be.

    Args:
        root: Folder of the data set.
        what: The data set in words, for the message.
        folders: Folders that must be below root.

    Raises:
        ValueError: Which folder is missing, and what is there instead.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; expected {what} there")
    for name in folders:
        if not (root / name).is_dir():
            nearest = next(parent for parent in (root / name).parents if parent.is_dir())
            found = sorted(entry.name for entry in nearest.iterdir())
            raise ValueError(f"{root / name}: no such folder, needed for {what}; {nearest} has {listed(found)}")


def pairs_by_stem(images: Path, masks: Path, *, mask_ending: str = "") -> list[tuple[Path, Path]]:
    """Pair the images of a folder with the masks of another: a.jpg and a.png.

    Args:
        images: Folder of the images, without subfolders.
        masks: Folder of the masks.
        mask_ending: What the stem of a mask has behind the stem of its image.

    Returns:
        (image, mask), sorted by name.

    Raises:
        ValueError: No images, an image without mask or a mask without image, or two files of the same stem.
    """
    image_of = _by_stem(images, IMAGE_SUFFIXES, ending="")
    mask_of = _by_stem(masks, MASK_SUFFIXES, ending=mask_ending)
    for files, folder_, kind in ((image_of, images, "images"), (mask_of, masks, "masks")):
        if not files:
            suffixes = IMAGE_SUFFIXES if kind == "images" else MASK_SUFFIXES
            found = sorted(entry.name for entry in folder_.iterdir())
            wanted = ", ".join(f"*{mask_ending if kind == 'masks' else ''}{suffix}" for suffix in suffixes)
            raise ValueError(f"{folder_}: no {kind} there; looked for {wanted}, found {listed(found)}")
    require_pairs(image_of, mask_of, images=images, masks=masks)
    return [(image_of[stem], mask_of[stem]) for stem in sorted(image_of)]


def require_pairs(image_of: dict[str, Path], mask_of: dict[str, Path], *, images: Path, masks: Path) -> None:
    """Check that both tables (stem -> path) have the same stems.

    Raises:
        ValueError: Which files have no partner, and how many.
    """
    for ours, theirs, place, what in ((image_of, mask_of, masks, "mask"), (mask_of, image_of, images, "image")):
        alone = [ours[stem].name for stem in sorted(ours.keys() - theirs.keys())]
        if alone:
            raise ValueError(
                f"{place}: no {what} for {len(alone)} of {len(ours)} files: {listed(alone)}; "
                "add what is missing or remove these files"
            )


def listed(names: Sequence[str]) -> str:
    """Name up to 3 things and count the rest.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) or "nothing") + more


def _by_stem(place: Path, suffixes: tuple[str, ...], *, ending: str) -> dict[str, Path]:
    """Stem (without ending) -> path; hidden files do not count."""
    files: dict[str, Path] = {}
    for path in sorted(place.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes or not path.stem.endswith(ending):
            continue
        stem = path.stem.removesuffix(ending)
        if stem in files:
            raise ValueError(f"{path}: {files[stem].name} has the same stem: keep one of them")
        files[stem] = path
    return files
