"""Pascal VOC, and what CVAT and Datumaro export as "Segmentation mask", and labelme2voc of labelme.

ROOT/ImageSets/Segmentation/{train,val}.txt    one NAME a line
ROOT/JPEGImages/NAME.jpg
ROOT/SegmentationClass/NAME.png                palette indices (255 = void), or the colors of labelmap.txt
ROOT/labelmap.txt                              label:color_rgb:parts:actions (CVAT, Datumaro)
ROOT/class_names.txt                           one name a line, from index 0 (labelme2voc)

Without a list of classes they are those of Pascal VOC 2012 if the masks are its own, and unknown otherwise.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from semask.data.annotations import IGNORED_LABEL
from semask.data.classes import IGNORE_INDEX, Classes, Color
from semask.data.dataset import SegmentationDataset
from semask.data.format import Format, Split
from semask.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES, read_mask, read_palette
from semask.data.listing import Listing
from semask.data.pairs import listed, require_pairs, tree
from semask.files.reading import read_text
from semask.files.schema import quoted
from semask.files.text import one_line

CLASSES_TABLE = Path(__file__).with_suffix(".csv")
MASK_FOLDERS = ("SegmentationClass", "SegmentationClassPNG")
IMAGE_FOLDER, LISTS, LABEL_MAP, CLASS_NAMES = "JPEGImages", "ImageSets/Segmentation", "labelmap.txt", "class_names.txt"
SPLITS: Mapping[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "validation", "valid", "test"),
}
"""Names of the lists, in lower case, the first that is there; CVAT's subsets are called Train, Validation and Test."""
IGNORED_LABELS = ("ignored", "ignore", "void", IGNORED_LABEL)
"""Labels of a labelmap.txt that are not learned."""
VOID: Color = (224, 224, 192)
"""Color that Pascal VOC gives to 255."""
OF_VOC = re.compile(r"(\d{4}_)?\d{6}")
"""Names of the images of Pascal VOC: 2007_000032, 000032."""
SAMPLED_MASKS = 8
"""Masks that are read to see whether they are those of Pascal VOC."""


class Labels(NamedTuple):
    """What the masks mean.

    Args:
        classes: Names and colors; None if nothing tells.
        renumber: Value in the masks -> class index or 255; None: they are class indices.
        ignored_colors: Colors that are ignored.
    """

    classes: Classes | None
    renumber: dict[int, int] | None = None
    ignored_colors: tuple[Color, ...] = ()


def voc(root: str | Path, split: str | None, *, channels: int = 3) -> SegmentationDataset:
    """Find the pairs of a list; all that are listed, or all masks where there are no lists, if it is None.

    Args:
        root: Folder with SegmentationClass, or one above it.
        split: Name of a list of ImageSets/Segmentation.
        channels: Channels to read the images with: 1, 3 or 4.

    Raises:
        ValueError: A folder or list is missing, images and masks do not pair up, or the labelmap.txt is wrong.
    """
    home = home_of(Path(root))
    lists = _lists(home)
    folder = next(home / name for name in MASK_FOLDERS if (home / name).is_dir())
    mask_of = _by_name(folder, tree(folder)[0], MASK_SUFFIXES)
    if not mask_of:
        raise ValueError(f"{one_line(folder)}: no masks there; looked for {', '.join(MASK_SUFFIXES)}")
    wanted = _wanted(home, lists, split) if lists or split is not None else sorted(mask_of)
    image_of = _find_images(home, wanted)
    if not image_of:
        raise ValueError(
            f"{one_line(home)}: the folder has masks but none of their images: export again with images (CVAT: "
            f'"Save images"), or copy the images to {IMAGE_FOLDER}; looked for {one_line(wanted[0])}.jpg and the like'
        )
    has_map = (home / LABEL_MAP).is_file()
    # CVAT lists images on which nothing was drawn too, and writes no mask for them.
    unlabeled = [name for name in wanted if name not in mask_of] if has_map else []
    if len(unlabeled) == len(wanted):
        raise ValueError(f"{one_line(folder)}: none of the {len(wanted)} listed images has a mask there")
    names = sorted(set(wanted) - set(unlabeled))
    ours = {name: image_of[name] for name in names if name in image_of}
    theirs = {name: mask_of[name] for name in names if name in mask_of}
    require_pairs(ours, theirs, images=home / IMAGE_FOLDER, masks=folder)
    if len(ours) < len(names):
        lost = [name for name in names if name not in ours]
        raise ValueError(f"{one_line(home)}: {len(lost)} listed images are missing, and their masks: {listed(lost)}")
    labels = _labels(home, names, [theirs[name] for name in names])
    return SegmentationDataset(
        [(ours[name], theirs[name]) for name in names],
        labels.classes,
        name=home.absolute().name,
        renumber=labels.renumber,
        colored_masks=labels.classes is not None,
        ignored_colors=labels.ignored_colors,
        channels=channels,
        unlabeled=[image_of[name] for name in unlabeled if name in image_of],
    )


def home_of(root: Path) -> Path:
    """The folder that holds the folder of the masks: VOC's archive has VOCdevkit/VOC2012 above it.

    Raises:
        ValueError: If there is none, or more than one.
    """
    if not root.is_dir():
        raise ValueError(f"{one_line(root)}: no such folder; expected one with {MASK_FOLDERS[0]}")
    for above in ("", "*/", "*/*/"):
        homes = sorted({path.parent for name in MASK_FOLDERS for path in root.glob(above + name) if path.is_dir()})
        if len(homes) == 1:
            return homes[0]
        if homes:
            found = listed([home.relative_to(root).as_posix() for home in homes])
            raise ValueError(f"{one_line(root)}: {len(homes)} folders have masks of Pascal VOC, give one: {found}")
    raise ValueError(f"{one_line(root)}: no folder {MASK_FOLDERS[0]} there, needed for Pascal VOC and CVAT")


def _lists(home: Path) -> dict[str, Path]:
    """Name of a list -> its file."""
    return {path.stem: path for path in sorted((home / LISTS).glob("*.txt")) if path.is_file()}


def _wanted(home: Path, lists: Mapping[str, Path], split: str | None) -> list[str]:
    """The names in a list, or in all."""
    if split is not None and split not in lists:
        raise ValueError(f"{one_line(home / LISTS)}: no {one_line(split)}.txt there; it has {listed(sorted(lists))}")
    names: set[str] = set()
    for path in lists.values() if split is None else [lists[split]]:
        lines = [line.strip() for line in read_text(path).splitlines()]
        names |= {line.strip('"').replace("\\", "/") for line in lines if line}
    if not names:
        said = one_line(home / LISTS if split is None else lists[split])
        raise ValueError(f"{said}: the list is empty, expected the name of an image on every line")
    return sorted(names)


def _by_name(folder: Path, files: Sequence[Path], suffixes: Sequence[str]) -> dict[str, Path]:
    """Path below a folder without its ending -> path."""
    found: dict[str, Path] = {}
    for path in files:
        if path.suffix.lower() in suffixes:
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise ValueError(f"{one_line(path)}: {one_line(found[name].name)} has the same stem: keep one of them")
            found[name] = path
    return found


def _find_images(home: Path, names: Sequence[str]) -> dict[str, Path]:
    """The images of some names: below JPEGImages, or else wherever a file has this name."""
    images = home / IMAGE_FOLDER
    found = _by_name(images, tree(images)[0], IMAGE_SUFFIXES) if images.is_dir() else {}
    found = {name: found[name] for name in names if name in found}
    left = {name for name in names if name not in found}
    lengths = {len(PurePosixPath(name).parts) for name in left}
    for path in tree(home)[0] if left else ():
        parts = path.relative_to(home).with_suffix("").parts
        if path.suffix.lower() not in IMAGE_SUFFIXES or parts[0].startswith("Segmentation"):
            continue
        for name in {"/".join(parts[-length:]) for length in lengths} & left:
            if name in found:
                raise ValueError(
                    f"{one_line(path)}: {one_line(found[name])} has the same name: put the images into {IMAGE_FOLDER}"
                )
            found[name] = path
    return found


def _labels(home: Path, names: Sequence[str], masks: Sequence[Path]) -> Labels:
    """What the values and colors of the masks mean."""
    if (home / LABEL_MAP).is_file():
        return read_label_map(home / LABEL_MAP)
    if (home / CLASS_NAMES).is_file():
        lines = [line.strip() for line in read_text(home / CLASS_NAMES).splitlines() if line.strip()]
        try:
            return Labels(Classes(tuple(lines), colormap(len(lines))))
        except ValueError as error:
            raise ValueError(f"{one_line(home / CLASS_NAMES)}: {error}") from error
    named = all(OF_VOC.fullmatch(name) for name in names) or home.absolute().name.upper().startswith("VOC")
    if named and _are_of_voc(masks):
        return Labels(Classes.from_csv(CLASSES_TABLE), ignored_colors=(VOID,))
    return Labels(None)


def read_label_map(path: Path) -> Labels:
    """Read a labelmap.txt: a line label:color_rgb:parts:actions for each label, in the order of their indices.

    Raises:
        ValueError: If it can't be read, or a line is wrong.
    """
    labels: dict[str, Color | None] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        # A name may have colons, the rest has none.
        fields = line.rsplit(":", 3) if line.count(":") >= 3 else [*line.split(":"), "", ""][:3]
        color = re.fullmatch(r"\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*|\s*", fields[1], re.ASCII)
        if color is None or not fields[0].strip() or fields[0].strip() in labels:
            raise ValueError(
                f"{one_line(path)}: line {number} is {quoted(line, longest=60)}: expected a label of its own, a colon "
                "and its color, e.g. road:128,64,128::"
            )
        red, green, blue = color.groups()
        labels[fields[0].strip()] = (int(red), int(green), int(blue)) if red is not None else None
    if any(color is None for color in labels.values()):  # Datumaro then takes the colors of Pascal VOC for all
        if any(color is not None for color in labels.values()):
            raise ValueError(f"{one_line(path)}: some labels have a color and some have none: give each its color")
        labels = dict(zip(labels, colormap(len(labels)), strict=True))
    colors = {name: color for name, color in labels.items() if color is not None}
    learned = [name for name in labels if name.lower() not in IGNORED_LABELS]
    ignored = [name for name in labels if name not in learned]
    index_of = dict.fromkeys(ignored, IGNORE_INDEX) | {name: index for index, name in enumerate(learned)}
    try:
        classes = Classes(tuple(learned), tuple(colors[name] for name in learned))
    except ValueError as error:
        raise ValueError(f"{one_line(path)}: {error}") from error
    return Labels(
        classes,
        {value: index_of[name] for value, name in enumerate(labels)},
        tuple(colors[name] for name in ignored),
    )


def colormap(count: int) -> tuple[Color, ...]:
    """The colors of Pascal VOC: bits of the index, spread over red, green and blue from the highest bit down.

    >>> colormap(3)
    ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    """
    colors = []
    for index in range(count):
        parts = [sum((index >> 3 * bit + channel & 1) << 7 - bit for bit in range(3)) for channel in range(3)]
        colors.append((parts[0], parts[1], parts[2]))
    return tuple(colors)


def _are_of_voc(masks: Sequence[Path]) -> bool:
    """Whether some of the masks have the palette, or the colors, and the values of Pascal VOC 2012."""
    classes = Classes.from_csv(CLASSES_TABLE)
    for place in np.linspace(0, len(masks) - 1, min(SAMPLED_MASKS, len(masks))):
        path = masks[int(place)]
        values = read_mask(path)
        if values.ndim == 3:
            found = {(int(r), int(g), int(b)) for r, g, b in np.unique(values.reshape(-1, 3), axis=0)}
            own = found <= {*classes.palette, VOID}
        else:
            known = (values < len(classes)) | (values == IGNORE_INDEX)
            own = tuple((read_palette(path) or [])[: len(classes)]) == classes.palette and bool(known.all())
        if not own:
            return False
    return True


def splits(root: Path) -> dict[Split, str]:
    """Names of the lists for training and validation; {} if one is missing."""
    lists = {name.lower(): name for name in _lists(home_of(root))}
    found = {
        side: next(lists[name] for name in names if name in lists)
        for side, names in SPLITS.items()
        if any(name in lists for name in names)
    }
    return found if len(found) == len(SPLITS) else {}


def recognize(listing: Listing) -> str | None:
    """Say what shows that a folder is of this kind."""
    folder = next((name for name in sorted(listing.folders) if PurePosixPath(name).name in MASK_FOLDERS), None)
    if folder is None:
        return None
    home = PurePosixPath(folder).parent
    names = set(listing.names)
    if home / LABEL_MAP in names:
        return f"{one_line(folder)} and {LABEL_MAP}, as CVAT exports masks"
    if home / CLASS_NAMES in names:
        return f"{one_line(folder)} and {CLASS_NAMES}, as labelme2voc writes them"
    for other in (LISTS, IMAGE_FOLDER):
        if (home / other).as_posix() in listing.folders:
            return f"{one_line(folder)} and {other}, as in Pascal VOC"
    return None


FORMAT = Format(find=voc, splits=splits, recognize=recognize)
