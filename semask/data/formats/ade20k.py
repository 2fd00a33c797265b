"""ADE20K scene parsing (Zhou et al. 2017), 150 classes, as in ADEChallengeData2016.zip.

ROOT/images/{training,validation}/ADE_val_00000001.jpg
ROOT/annotations/{training,validation}/ADE_val_00000001.png     0 = other, 1..150 = classes
"""

from pathlib import Path

from semask.data.classes import IGNORE_INDEX, Classes
from semask.data.dataset import SegmentationDataset
from semask.data.format import Format
from semask.data.listing import Listing
from semask.data.pairs import pairs_by_stem, require_folders

CLASSES_TABLE = Path(__file__).with_suffix(".csv")


def ade20k(root: str | Path, split: str) -> SegmentationDataset:
    """Find the pairs of a split; the value 0 is ignored, 1..150 become 0..149.

    Args:
        root: Folder ADEChallengeData2016.
        split: "training" or "validation".

    Raises:
        ValueError: A folder is missing, or images and masks do not pair up.
    """
    root = Path(root)
    require_folders(root, "ADE20K (ADEChallengeData2016)", f"images/{split}", f"annotations/{split}")
    classes = Classes.from_csv(CLASSES_TABLE)
    found = pairs_by_stem(root / "images" / split, root / "annotations" / split)
    return SegmentationDataset(
        found.pairs,
        classes,
        name="ade20k",
        renumber={0: IGNORE_INDEX} | {index + 1: index for index in range(len(classes))},
        unread=found.unread,
    )


def recognize(listing: Listing) -> str | None:
    """Files ADE_train_00000001.jpg and the like in images/training."""
    names = [path.name for path in listing.images("images") if path.parent.name in ("training", "validation")]
    return "images called ADE_..." if names and all(name.startswith("ADE_") for name in names) else None


FORMAT = Format(find=ade20k, splits={"train": "training", "val": "validation"}, title="ADE20K", recognize=recognize)
