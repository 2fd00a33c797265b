"""Images and masks in two folders, with or without splits, whatever the folders are called.

    ROOT/images/a.jpg         ROOT/masks/a.png              also a_mask.png for a.jpg
    ROOT/images/train/a.jpg   ROOT/masks/train/a.png        splits below
    ROOT/train/images/a.jpg   ROOT/train/masks/a.png        splits above
    ROOT/train/a.jpg          ROOT/train_masks/a.png        splits in the names

Classes are named by classes.json, class_dict.csv or classes.txt in ROOT, or by `data.classes`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from semask.data.class_files import find_class_file
from semask.data.dataset import SegmentationDataset
from semask.data.format import Format, Split
from semask.data.formats.folder import OTHER_SPLITS
from semask.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from semask.data.listing import Listing
from semask.data.pairs import listed, pairs_by_stem
from semask.files.text import one_line

IMAGES = ("images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "rgb", "inputs", "input", "x")
MASKS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "gt", "ground_truth", "groundtruth", "truth"),
    *("segmentations", "segmentation", "seg", "targets", "target", "y", "png"),
)
TRAIN = ("train", "training")
VAL = ("val", *OTHER_SPLITS)
ENDINGS = (
    *("", "_mask", "-mask", "_masks", "_label", "-label", "_labels", "_gt", "-gt", "_seg", "_segmentation", "_l"),
    *("_annotation", "_ann", "_target", "_groundtruth", "_matte", "_p", "_m"),
)
"""What the name of a mask may have behind that of its image, in lower case."""


class Place(NamedTuple):
    """Where the images and masks of a split are, below the root.

    Args:
        images: Folder of the images.
        masks: Folder of the masks.
        split: Name of the split on disk; None if there are none.
    """

    images: Path
    masks: Path
    split: str | None = None


def folders(
    root: str | Path, split: str | None, *, image_dir: str = "images", label_dir: str = "annotations"
) -> SegmentationDataset:
    """Find the pairs of a split, or all of them.

    Args:
        root: Folder with the folders of images and masks.
        split: Name that the split has on disk; None without splits.
        image_dir: Folder of the images below root; as it is, the usual names are tried.
        label_dir: Folder of the masks below root; likewise.

    Raises:
        ValueError: There are no two such folders, or images and masks do not pair up.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{one_line(root)}: no such folder; expected a folder of images and a folder of masks there")
    place = _place(root, split, image_dir, label_dir)
    ending = mask_ending(place.images, place.masks)
    found = pairs_by_stem(place.images, place.masks, mask_ending=ending)
    described = find_class_file(root)
    return SegmentationDataset(
        found.pairs,
        described.classes if described else None,
        name=(described.name if described else "") or root.absolute().name,
        renumber=described.values if described else None,
        colored_masks=described is not None and described.has_palette,
        unread=found.unread,
    )


def _place(root: Path, split: str | None, image_dir: str, label_dir: str) -> Place:
    """The folders of a split.

    Raises:
        ValueError: If there are none, or other splits only.
    """
    if (image_dir, label_dir) != ("images", "annotations"):
        place = Place(root / image_dir / (split or ""), root / label_dir / (split or ""), split)
        for folder in place[:2]:
            if not folder.is_dir():
                raise ValueError(f"{one_line(folder)}: no such folder")
        return place
    places = list(_places(root))
    for place in places:
        if place.split == split:
            return place
    if split is None and {(place.split or "").lower() for place in places} in ({name} for name in TRAIN):
        return places[0]  # labeled images in train only: the split is by name
    has = listed(sorted({place.split or "no splits" for place in places})) if places else None
    there = listed(sorted(entry.name for entry in root.iterdir()))
    if has is not None and split is None:
        raise ValueError(
            f"{one_line(root)}: it has {has} only: add a folder to train on (train) or to evaluate on (val) next to it"
        )
    if has is not None:
        raise ValueError(f"{one_line(root)}: no split {one_line(repr(split))}; it has {has}")
    raise ValueError(
        f"{one_line(root)}: no folder of images next to a folder of masks (such as images and masks); it has {there}"
    )


def _places(root: Path) -> Iterator[Place]:
    """The folders of images and masks below a root, with those of all splits."""
    below = _folders(root)
    for images, masks in _two(below):
        inner, labels = _folders(images), _folders(masks)
        shared = [name for name in inner if name in labels and name in (*TRAIN, *VAL)]
        if shared:
            yield from (Place(inner[name], labels[name], inner[name].name) for name in shared)
        else:
            yield Place(images, masks)
    for name in (*TRAIN, *VAL):
        if name not in below:
            continue
        for images, masks in _two(_folders(below[name])):
            yield Place(images, masks, below[name].name)
        for masks_name in MASKS:
            for joined in (f"{name}_{masks_name}", f"{name}-{masks_name}", f"{name}{masks_name}", f"{name}annot"):
                if joined in below:
                    yield Place(below[name], below[joined], below[name].name)
    for name in (*TRAIN, *VAL):
        ours = next((below[f"{name}_{x}"] for x in IMAGES if f"{name}_{x}" in below), None)
        theirs = next((below[f"{name}_{x}"] for x in MASKS if f"{name}_{x}" in below), None)
        if ours is not None and theirs is not None:
            yield Place(ours, theirs, name)


def _two(below: dict[str, Path]) -> Iterator[tuple[Path, Path]]:
    """A folder of images next to a folder of masks, by their names."""
    images = next((below[name] for name in IMAGES if name in below), None)
    masks = next((below[name] for name in MASKS if name in below), None)
    if images is not None and masks is not None:
        yield images, masks


def _folders(place: Path) -> dict[str, Path]:
    """Folders in a folder, by their names in lower case."""
    return {entry.name.lower(): entry for entry in sorted(place.iterdir()) if entry.is_dir()}


def mask_ending(images: Path, masks: Path) -> str:
    """What the names of the masks have behind those of their images, as most of them have it; "" if nothing."""
    stems = {path.stem for path in images.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES}
    found = [path.stem for path in masks.rglob("*") if path.suffix.lower() in MASK_SUFFIXES]
    best, most = "", 0
    for ending in ENDINGS:
        count = sum(stem.lower().endswith(ending) and stem[: len(stem) - len(ending)] in stems for stem in found)
        if count > most:
            best, most = ending, count
    example = next((stem for stem in found if best and stem.lower().endswith(best)), "")
    return example[len(example) - len(best) :] if best else ""


def splits_of(root: Path) -> dict[Split, str]:
    """Names of the splits on disk; {} without."""
    names = [place.split for place in _places(root) if place.split is not None] if root.is_dir() else []
    train = next((name for name in names if name.lower() in TRAIN), None)
    val = next((known for x in VAL for known in names if known.lower() == x), None)
    return {"train": train, "val": val} if train is not None and val is not None else {}


def recognize(listing: Listing) -> str | None:
    """A folder of images next to a folder of masks."""
    for place in _places(listing.root):
        images = place.images.relative_to(listing.root).as_posix()
        masks = place.masks.relative_to(listing.root).as_posix()
        if listing.images(images) and (listing.masks(masks) or listing.images(masks)):  # JPEG masks are told later
            return f"images in {one_line(images)}, masks in {one_line(masks)}"
    return None


FORMAT = Format(find=folders, splits=splits_of, recognize=recognize, general=True)
