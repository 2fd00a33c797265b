"""Cityscapes (Cordts et al. 2016), the 19 classes of the benchmark.

ROOT/leftImg8bit/{train,val}/CITY/NAME_leftImg8bit.png
ROOT/gtFine/{train,val}/CITY/NAME_gtFine_labelTrainIds.png      0..18, 255 = ignored
                              or NAME_gtFine_labelIds.png       0..33 as in the download
                              or NAME_gtFine_polygons.json      drawn as Cityscapes' own scripts do
"""

from collections.abc import Mapping
from pathlib import Path

from semask.data.cityscapes_polygons import CityscapesLabel
from semask.data.classes import IGNORE_INDEX, Classes, read_ids
from semask.data.dataset import Label, SegmentationDataset
from semask.data.format import Format
from semask.data.listing import Listing
from semask.data.pairs import listed, require_folders, require_pairs, tree
from semask.data.shapes import renumbering
from semask.files.text import one_line

CLASSES_TABLE = Path(__file__).with_suffix(".csv")

_IMAGE_ENDING = "_leftImg8bit.png"
_MASK_ENDINGS = ("_gtFine_labelTrainIds.png", "_gtFine_labelIds.png")
_POLYGONS_ENDING = "_gtFine_polygons.json"
_LABEL_IDS = 34


def cityscapes(root: str | Path, split: str) -> SegmentationDataset:
    """Find the pairs of a split.

    Masks are labelTrainIds where all images have them, otherwise labelIds, and polygons where there are no masks.

    Args:
        root: Folder with leftImg8bit and gtFine.
        split: "train" or "val".

    Raises:
        ValueError: A folder is missing, or images and masks do not pair up.
    """
    root = Path(root)
    images, masks = root / "leftImg8bit" / split, root / "gtFine" / split
    require_folders(root, "Cityscapes", f"leftImg8bit/{split}", f"gtFine/{split}")
    image_of = _by_frame(images, _IMAGE_ENDING)
    train_ids, label_ids = (_by_frame(masks, ending) for ending in _MASK_ENDINGS)
    polygons = {} if train_ids or label_ids else _by_frame(masks, _POLYGONS_ENDING)
    has_train_ids = image_of.keys() <= train_ids.keys()
    mask_of = train_ids if has_train_ids else label_ids or train_ids or polygons
    for found, place, ending in ((image_of, images, _IMAGE_ENDING), (mask_of, masks, " or *".join(_MASK_ENDINGS))):
        if not found:
            cities = sorted(entry.name for entry in place.iterdir())
            raise ValueError(
                f"{one_line(place)}: looked for CITY/*{ending}, found none; the folder has {listed(cities)}"
            )
    require_pairs(image_of, mask_of, images=images, masks=masks)
    files, unread = tree(images)
    taken = set(image_of.values())
    classes = Classes.from_csv(CLASSES_TABLE)
    label_numbers = dict.fromkeys(range(_LABEL_IDS), IGNORE_INDEX) | read_ids(CLASSES_TABLE)
    label_of: Mapping[str, Label] = mask_of
    if polygons:
        label_of = {frame: CityscapesLabel(mask_of[frame], image_of[frame], classes.names) for frame in image_of}
    return SegmentationDataset(
        [(image_of[frame], label_of[frame]) for frame in sorted(image_of)],
        classes,
        name="cityscapes",
        renumber=renumbering(len(classes)) if polygons else None if has_train_ids else label_numbers,
        unread=[*(path for path in files if path not in taken), *unread],
    )


def _by_frame(place: Path, ending: str) -> dict[str, Path]:
    """CITY/NAME -> path."""
    return {f"{path.parent.name}/{path.name.removesuffix(ending)}": path for path in place.glob(f"*/[!.]*{ending}")}


def recognize(listing: Listing) -> str | None:
    """The folders leftImg8bit and gtFine."""
    return "leftImg8bit and gtFine" if {"leftImg8bit", "gtFine"} <= listing.folders else None


FORMAT = Format(find=cityscapes, splits={"train": "train", "val": "val"}, title="Cityscapes", recognize=recognize)
