"""YOLO segmentation: a text file for each image, with one object a line: class x1 y1 x2 y2 ..., as fractions.

ROOT/data.yaml                        names: [road, ...], train: ../train/images, val: ../valid/images
ROOT/train/images/0001.jpg            or images/train/0001.jpg, as Ultralytics has it
ROOT/train/labels/0001.txt            or labels/train/0001.txt
ROOT/classes.txt                      instead of data.yaml: one name a line (Label Studio)

Class 0 is "background", then the classes of the file. An image without a text file has no object, which is YOLO's rule.
"""

from collections.abc import Mapping
from pathlib import Path

from semask.data.annotations import ClassList, ImageIndex, Notes, head_and_tail, split_folders
from semask.data.dataset import SegmentationDataset
from semask.data.format import Format, Split
from semask.data.listing import Listing
from semask.data.pairs import listed
from semask.data.shapes import Overlap, renumbering
from semask.data.yolo_files import YoloLabel, read_description, read_names
from semask.files.reading import read_text
from semask.files.text import one_line

_DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_CLASSES_FILE = "classes.txt"
_KEYS: Mapping[Split, tuple[str, ...]] = {"train": ("train",), "val": ("val", "valid", "validation")}
LARGEST_LIST = 2**28
"""Bytes of a list of images."""


def yolo(root: str | Path, split: str | None, *, overlap: Overlap = "file") -> SegmentationDataset:
    """Find the images of a split and the text files for them.

    Args:
        root: Folder with the data.yaml.
        split: Name of the split in the data.yaml; None for all images.
        overlap: Which of two objects a pixel in both belongs to.

    Raises:
        ValueError: There is no data.yaml, it is wrong, or there are no images or no text files.
    """
    listing = Listing(Path(root))
    names, places = _described(listing)
    classes = ClassList(names)
    index = ImageIndex(listing)
    if split is not None and split not in places:
        raise ValueError(
            f"{one_line(root)}: no split {one_line(split, longest=60)}: its description names {listed(sorted(places))}"
        )
    wanted = places[split] if split is not None else [place for found in places.values() for place in found]
    images = sorted({path for place in wanted or [""] for path in _images(place, listing, index)})
    if not images:
        raise ValueError(f"{one_line(root)}: no images in {listed(wanted) if wanted else 'it'}")
    texts = set(listing.having(".txt"))
    numbers = [classes.index[name] for name in names]
    pairs, without = [], 0
    for image in images:
        text = _text_of(image, listing.root, texts)
        without += text is None
        pairs.append((image, YoloLabel(image, text, tuple(numbers), overlap)))
    if without == len(images):
        raise ValueError(
            f"{one_line(root)}: none of the {len(images)} images has a text file with its objects; looked for "
            f"{one_line(_candidates(images[0], listing.root)[0])}"
        )
    notes = Notes(listing.root)
    said = f"images of {split} without a text file, all of them background" if split else "images without a text file"
    notes.add(said, without)
    return SegmentationDataset(
        pairs,
        classes.classes,
        name=listing.root.absolute().name,
        renumber=renumbering(len(classes.classes)),
        notes=notes.lines,
    )


def _described(listing: Listing) -> tuple[list[str], dict[str, list[str]]]:
    """Names of the classes, and the folders or lists of each split, below the root.

    Raises:
        ValueError: If there is no description, or it is wrong.
    """
    path = _description(listing)
    if path is not None:
        described = read_description(path)
        return described.names, described.places
    path = listing.root / _CLASSES_FILE
    if not path.is_file():
        raise ValueError(f"{one_line(listing.root)}: no data.yaml there, which names the classes and the splits")
    splits = split_folders(listing.root / "images")
    places = {name: [f"images/{name}"] for name in splits.values()}
    return read_names(path), places or {"all": ["images"] if "images" in listing.folders else [""]}


def _description(listing: Listing) -> Path | None:
    """The data.yaml, whatever it is called."""
    for name in _DESCRIPTIONS:
        if (listing.root / name).is_file():
            return listing.root / name
    others = [path for path in listing.having(".yaml", ".yml") if path.parent == listing.root]
    return others[0] if len(others) == 1 else None


def _splits(root: Path) -> Mapping[Split, str]:
    """Names of the splits; {} unless there is one for training and one for validation with images."""
    listing = Listing(root)
    try:
        _, places = _described(listing)
    except ValueError:  # `yolo` tells it
        return {}
    index = ImageIndex(listing)
    found: dict[Split, str] = {}
    for split, keys in _KEYS.items():
        for key in keys:
            # Who has not sorted the images gives the same folder twice.
            if places.get(key) and any(_images(place, listing, index) for place in places[key]):
                found.setdefault(split, key)
    return found if len(found) == 2 and places[found["train"]] != places[found["val"]] else {}


def _recognize(listing: Listing) -> str | None:
    path = _description(listing)
    texts = [path for path in listing.having(".txt") if path.name != _CLASSES_FILE]
    lines = [line.split() for path in texts[:50] for line in head_and_tail(path, 2**12).splitlines()[:1]]
    if not any(_is_object(line) for line in lines) or not listing.images():
        return None
    if path is not None and "names" in head_and_tail(path):
        return f"{path.name} and text files: YOLO segmentation"
    if (listing.root / _CLASSES_FILE).is_file():
        return f"{_CLASSES_FILE} and text files: YOLO segmentation"
    return None


def _is_object(words: list[str]) -> bool:
    """Whether a line is a class and numbers."""
    try:
        return len(words) >= 5 and words[0].isdecimal() and all(-1 <= float(word) <= 2 for word in words[1:])
    except ValueError:
        return False


def _images(place: str, listing: Listing, index: ImageIndex) -> list[Path]:
    """Images that an entry of a split means: those of a folder, or of a list.

    Raises:
        ValueError: If the images of a list are not there.
    """
    folder = next((part for part in _tails(place) if part in listing.folders), None)
    if folder is not None:
        return listing.images(folder)
    if not place:
        return listing.images()
    path = next((listing.root / part for part in _tails(place) if (listing.root / part).is_file()), None)
    if path is None or path.suffix.lower() != ".txt":
        return []
    names = [line.strip() for line in read_text(path, most=LARGEST_LIST).splitlines() if line.strip()]
    found = [index.find(name) for name in names]
    missing = [name for name, image in zip(names, found, strict=True) if image is None]
    if missing:
        raise ValueError(f"{one_line(path)}: {len(missing)} of {len(names)} images are not there: {listed(missing)}")
    return [image for image in found if image is not None]


def _tails(place: str) -> list[str]:
    """Paths below the root that an entry may mean: it may lead out of it, or be one of another machine."""
    parts = [part for part in place.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return ["/".join(parts[first:]) for first in range(len(parts))]


def _text_of(image: Path, root: Path, texts: set[Path]) -> Path | None:
    """The text file of an image; None if it has none."""
    return next((path for path in _candidates(image, root) if path in texts), None)


def _candidates(image: Path, root: Path) -> list[Path]:
    """Where the text file of an image may be: in labels where the image is in images, or next to it."""
    parts = list(image.relative_to(root).parts)
    found = []
    for place in reversed([place for place, part in enumerate(parts[:-1]) if part == "images"]):
        found.append(root.joinpath(*parts[:place], "labels", *parts[place + 1 :]).with_suffix(".txt"))
    return [*found, image.with_suffix(".txt")]


FORMAT = Format(find=yolo, splits=_splits, recognize=_recognize)
