"""Images and masks next to each other, the masks with an ending behind the name.

ROOT/a.jpg   ROOT/a_mask.png      also _label, _gt, -mask, ... and folders below, such as train and val
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from semask.data.class_files import find_class_file
from semask.data.dataset import SegmentationDataset
from semask.data.format import Format, Split
from semask.data.formats.folders import ENDINGS, TRAIN, VAL
from semask.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from semask.data.listing import Listing
from semask.data.pairs import require_pairs
from semask.files.text import one_line


def flat(root: str | Path, split: str | None) -> SegmentationDataset:
    """Find the pairs below a folder, or below the folder of a split.

    Args:
        root: Folder with the images and masks.
        split: Folder below root; None for all.

    Raises:
        ValueError: There are no masks with a known ending, or images and masks do not pair up.
    """
    root = Path(root)
    place = root if split is None else root / split
    if not place.is_dir():
        raise ValueError(f"{one_line(place)}: no such folder; expected images and masks next to each other there")
    listing = Listing(place)
    ending = common_ending(listing)
    if ending is None:
        wanted = ", ".join(f"NAME{x}.png" for x in ENDINGS[1:4])
        raise ValueError(f"{one_line(place)}: no masks next to images; looked for {wanted} and the like")
    image_of, mask_of = _pairs(listing, ending)
    require_pairs(image_of, mask_of, images=place, masks=place)
    described = find_class_file(root)
    taken = {*image_of.values(), *mask_of.values(), described.path if described else None}
    return SegmentationDataset(
        [(image_of[stem], mask_of[stem]) for stem in sorted(image_of)],
        described.classes if described else None,
        name=(described.name if described else "") or root.absolute().name,
        renumber=described.values if described else None,
        colored_masks=described is not None and described.has_palette,
        unread=[path for path in listing.files if path not in taken],
    )


def _pairs(listing: Listing, ending: str) -> tuple[dict[str, Path], dict[str, Path]]:
    """Stem below the root -> image, and -> mask."""
    image_of: dict[str, Path] = {}
    mask_of: dict[str, Path] = {}
    stems = {name.with_suffix("").as_posix().lower() for name in listing.names}
    for name, path in zip(listing.names, listing.files, strict=True):
        suffix, stem = name.suffix.lower(), name.stem
        is_mask = suffix in MASK_SUFFIXES and stem.lower().endswith(ending) and len(stem) > len(ending)
        if is_mask and suffix in IMAGE_SUFFIXES:  # an image may be called face_mask, and its mask face_mask_mask
            whole = name.with_suffix("").as_posix().lower()
            is_mask = whole.removesuffix(ending) in stems or whole + ending not in stems
        if not is_mask and suffix not in IMAGE_SUFFIXES:
            continue
        table = mask_of if is_mask else image_of
        key = name.with_name(stem[: len(stem) - len(ending)] if is_mask else stem).as_posix()
        if key in table:
            raise ValueError(f"{one_line(path)}: {one_line(table[key].name)} has the same stem: keep one of them")
        table[key] = path
    return image_of, mask_of


def common_ending(listing: Listing) -> str | None:
    """The ending, in lower case, of most masks that lie next to their image; None if none does."""
    images = {name.with_suffix("").as_posix() for name in listing.names if name.suffix.lower() in IMAGE_SUFFIXES}
    counts: Counter[str] = Counter()
    for name in listing.names:
        stem = name.with_suffix("").as_posix()
        for ending in ENDINGS[1:]:
            if name.suffix.lower() in MASK_SUFFIXES and stem.lower().endswith(ending):
                counts[ending] += stem[: len(stem) - len(ending)] in images
    best = max(counts, key=lambda ending: counts[ending], default=None)
    return best if best is not None and counts[best] else None


def splits_of(root: Path) -> Mapping[Split, str]:
    """Names of the folders of the splits; {} without."""
    below = {entry.name.lower(): entry.name for entry in root.iterdir() if entry.is_dir()} if root.is_dir() else {}
    train = next((below[name] for name in TRAIN if name in below), None)
    val = next((below[name] for name in VAL if name in below), None)
    return {"train": train, "val": val} if train is not None and val is not None else {}


def recognize(listing: Listing) -> str | None:
    """Masks next to images, for at least half of the images."""
    ending = common_ending(listing)
    if ending is None:
        return None
    image_of, mask_of = _pairs(listing, ending)
    both = len(image_of.keys() & mask_of.keys())
    return f"{both} masks NAME{ending} next to their images" if 2 * both >= len(image_of) else None


FORMAT = Format(find=flat, splits=splits_of, recognize=recognize, general=True)
