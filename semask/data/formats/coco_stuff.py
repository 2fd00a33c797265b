"""COCO-Stuff 10k (Caesar et al. 2018), 171 classes: 80 things and 91 kinds of stuff.

    ROOT/images/{train2014,test2014}/NAME.jpg
    ROOT/annotations/{train2014,test2014}/NAME_labelTrainIds.png    1..171, 0 = unlabeled (as mmsegmentation writes it)
                                       or NAME.png                  1..182 with gaps, 0 = unlabeled (the ids of COCO)

Or, as in the download, with the masks saved as PNG:

    ROOT/imageLists/{train,test}.txt    one NAME a line
    ROOT/images/NAME.jpg
    ROOT/annotations/NAME_labelTrainIds.png or NAME.png

If there is ROOT/stuffthingmaps instead of ROOT/annotations, its NAME.png hold the ids minus 1, and 255 = unlabeled.
"""

from pathlib import Path

from semask.data.classes import IGNORE_INDEX, Classes, read_ids
from semask.data.dataset import SegmentationDataset
from semask.data.format import Format
from semask.data.listing import Listing
from semask.data.pairs import Pairs, pairs_by_stem, require_folders, require_pairs, tree
from semask.files.reading import read_text
from semask.files.text import one_line

CLASSES_TABLE = Path(__file__).with_suffix(".csv")

_TRAIN_IDS = "_labelTrainIds"


def coco_stuff(root: str | Path, split: str) -> SegmentationDataset:
    """Find the pairs of a split.

    Args:
        root: Folder with images and annotations (or stuffthingmaps).
        split: "train2014" or "test2014"; the lists of the download are called "train" and "test".

    Raises:
        ValueError: A folder or list is missing, or images and masks do not pair up.
    """
    root = Path(root)
    require_folders(root, "COCO-Stuff", "images")
    minus_one = (root / "stuffthingmaps").is_dir() and not (root / "annotations").is_dir()
    label_dir = "stuffthingmaps" if minus_one else "annotations"
    names = root / "imageLists" / f"{split.removesuffix('2014')}.txt"
    if (root / "images" / split).is_dir() or not names.is_file():
        require_folders(root, "COCO-Stuff", f"images/{split}", f"{label_dir}/{split}")
        images, masks = root / "images" / split, root / label_dir / split
    else:
        require_folders(root, "COCO-Stuff", label_dir)
        images, masks = root / "images", root / label_dir
    has_train_ids = any(path.name.endswith(f"{_TRAIN_IDS}.png") for path in tree(masks)[0])
    ending = _TRAIN_IDS if has_train_ids else ""
    if images == root / "images":
        found = Pairs(_listed_pairs(names, images, masks, ending), [])  # the list says what else there may be
    else:
        found = pairs_by_stem(images, masks, mask_ending=ending)
    classes = Classes.from_csv(CLASSES_TABLE)
    index_of = {index + 1: index for index in range(len(classes))} if has_train_ids else read_ids(CLASSES_TABLE)
    renumber = {value - minus_one: index for value, index in index_of.items()}
    unlabeled = IGNORE_INDEX if minus_one else 0
    renumber |= {unlabeled: IGNORE_INDEX}
    return SegmentationDataset(found.pairs, classes, name="coco_stuff", renumber=renumber, unread=found.unread)


def _listed_pairs(names: Path, images: Path, masks: Path, ending: str) -> list[tuple[Path, Path]]:
    """Pair the files that a list names."""
    stems = read_text(names).split()
    if not stems:
        raise ValueError(f"{one_line(names)}: the list is empty, expected the name of an image on every line")
    wanted = [(stem, images / f"{stem}.jpg", masks / f"{stem}{ending}.png") for stem in stems]
    image_of = {stem: image for stem, image, _ in wanted if image.is_file()}
    mask_of = {stem: mask for stem, _, mask in wanted if mask.is_file()}
    if not image_of and not mask_of:
        raise ValueError(
            f"{one_line(images)}: none of the {len(stems)} images of {one_line(names)} is there; looked for "
            f"{one_line(wanted[0][1].name)}"
        )
    require_pairs(image_of, mask_of, images=images, masks=masks)
    lost = len(stems) - len(image_of)
    if lost:
        raise ValueError(
            f"{one_line(images)}: {lost} of the {len(stems)} images of {one_line(names)} are missing: add them or "
            "shorten the list"
        )
    return [(image_of[stem], mask_of[stem]) for stem in stems]


def recognize(listing: Listing) -> str | None:
    """The folders stuffthingmaps or imageLists, or masks called ..._labelTrainIds.png in annotations."""
    if "images" not in listing.folders:
        return None
    for folder in ("stuffthingmaps", "imageLists"):
        if folder in listing.folders:
            return f"images and {folder}"
    masks = listing.masks("annotations")
    return f"masks called ...{_TRAIN_IDS}.png" if masks and all(x.stem.endswith(_TRAIN_IDS) for x in masks) else None


FORMAT = Format(
    find=coco_stuff, splits={"train": "train2014", "val": "test2014"}, title="COCO-Stuff 10k", recognize=recognize
)
