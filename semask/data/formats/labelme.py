"""labelme: a JSON file next to each image, with polygons, rectangles, circles and masks.

ROOT/yard/0001.jpg
ROOT/yard/0001.json     {"imagePath": "0001.jpg", "shapes": [{"label": "road", "shape_type": "polygon", "points": ...}]}
ROOT/labels.txt         the classes in their order, if it is there (__ignore__, _background_, ...)

Folders train and val of the root are the splits, if both are there. Class 0 is "background"; without a labels.txt the
others are the labels in alphabetical order.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semask.data.annotations import (
    IGNORED_LABEL,
    ClassList,
    ImageIndex,
    Notes,
    has_keys,
    head_and_tail,
    read_json,
    require_all_images,
    split_folders,
)
from semask.data.dataset import SegmentationDataset
from semask.data.format import Format
from semask.data.listing import Listing
from semask.data.packed_masks import PngMask
from semask.data.pairs import require_folders
from semask.data.shapes import DrawnLabel, Overlap, PackedShapes, Shape, renumbering, ring_of, size_of
from semask.files.reading import read_text
from semask.files.schema import quoted
from semask.files.text import one_line, reason

LABELS_FILE = "labels.txt"
LARGEST_FILE = 2**28
"""Bytes of a JSON file, which may hold the image too."""
_LINES = ("point", "points", "line", "linestrip")
"""Shapes that have no area."""
_CORNERS_OF_A_CIRCLE = 128


class _File(NamedTuple):
    """What a JSON file says.

    Args:
        path: The file.
        image: Path of its image, as written.
        size: Height and width; None if it says none.
        shapes: Label and what is drawn, whose class index is not known yet.
        inside: The image is in the JSON file itself.
    """

    path: Path
    image: str
    size: tuple[int, int] | None
    shapes: list[tuple[str, Shape]]
    inside: bool


def labelme(root: str | Path, split: str | None, *, overlap: Overlap = "file") -> SegmentationDataset:
    """Find the images that have a JSON file.

    Args:
        root: Folder with the images and JSON files.
        split: Folder below it; None for all.
        overlap: Which of two objects a pixel in both belongs to.

    Raises:
        ValueError: There is none, a file is wrong, or an image is missing.
    """
    root = Path(root)
    require_folders(root, "labelme", *([split] if split else []))
    listing = Listing(root)
    place = root / split if split is not None else root
    paths = [path for path in listing.having(".json") if _looks_like_labelme(path)]
    notes = Notes(root)
    # All of them, so that the classes are those of both splits.
    files = [_read(path, notes if path.is_relative_to(place) else Notes(root)) for path in paths]
    if not any(file.path.is_relative_to(place) for file in files):
        raise ValueError(f'{one_line(place)}: no labelme JSON there: expected files with "shapes" and "imagePath"')
    classes = _classes(root, (label for file in files for label, _ in file.shapes))
    index = ImageIndex(listing)
    pairs: dict[Path, DrawnLabel] = {}
    missing, inside = [], False
    chosen = [file for file in files if file.path.is_relative_to(place)]
    for file in chosen:
        image = _image(file, index)
        if image is None:
            missing.append(f"{file.path.name} ({file.image})")
            inside = inside or file.inside
        elif image in pairs:
            raise ValueError(
                f"{one_line(file.path)}: {one_line(pairs[image].path.name)} is for the same image: keep one"
            )
        else:
            pairs[image] = _label(file, image, classes, overlap)
    more = "; the files hold their images themselves (imageData): save these next to them" if inside else ""
    require_all_images(missing, len(chosen), place, more=more)
    notes.add("images without a JSON file, not used", len(set(listing.images(split or "")) - pairs.keys()))
    return SegmentationDataset(
        sorted(pairs.items()),
        classes.classes,
        name=root.absolute().name,
        renumber=renumbering(len(classes.classes)),
        notes=notes.lines,
    )


def _looks_like_labelme(path: Path) -> bool:
    text = head_and_tail(path, 2**13)
    return has_keys(text, "shapes", "imagePath") == 2 or has_keys(text, "shapes", "imageData", "imageHeight") >= 2


def _recognize(listing: Listing) -> str | None:
    for path in listing.having(".json")[:20]:
        if _looks_like_labelme(path):
            return f"{path.relative_to(listing.root).as_posix()}: a JSON file of labelme"
    return None


def _read(path: Path, notes: Notes) -> _File:
    """Read a JSON file."""
    values = read_json(path, most=LARGEST_FILE)
    try:
        shapes, image = (values.get("shapes"), values.get("imagePath")) if isinstance(values, dict) else (None, None)
        if not isinstance(shapes, list) or not isinstance(image, str):
            raise ValueError('expected "shapes", a list, and "imagePath", a text, as labelme writes them')
        size = size_of(values.get("imageHeight"), values.get("imageWidth"))
        groups: dict[Any, int] = {}
        drawn = [pair for shape in shapes if (pair := _shape(shape, groups, notes)) is not None]
    except ValueError as error:
        raise ValueError(f"{one_line(path)}: {reason(error)}") from error
    return _File(path, image, size, drawn, bool(values.get("imageData")))


def _shape(shape: Any, groups: dict[Any, int], notes: Notes) -> tuple[str, Shape] | None:
    """Label and outline of a shape; None if it has no area."""
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"]:
        raise ValueError('a shape has no "label" (a text)')
    label, kind = shape["label"], shape.get("shape_type") or "polygon"
    said = f"a shape of {quoted(label, longest=60)}"
    if kind in _LINES:
        notes.add("points and lines left out, they have no area", 1)
        return None
    group = shape.get("group_id")
    number = None if type(group) is not int else groups.setdefault((label, group), len(groups))
    try:
        points = _points(shape.get("points"))
        if kind == "mask":
            _require_points(points, 2)
            return label, Shape(0, mask=PngMask.of(shape.get("mask"), points), group=number)
        ring = _ring(kind, points)
    except ValueError as error:
        raise ValueError(f"{said}: {error}") from error
    if ring is None:
        notes.add("polygons of fewer than 3 points left out")
        return None
    return label, Shape(0, [ring], group=number)


def _points(values: Any) -> NDArray[np.float32]:
    """Points of a shape: [n, 2]."""
    if not isinstance(values, list):
        raise ValueError('"points" is missing: expected a list of [x, y]')
    # Two points are no polygon, but the corners of a rectangle.
    padded = ring_of(values + [values[-1]] * 3 if values else values)
    return padded[:-3] if padded is not None else np.empty((0, 2), dtype=np.float32)


def _require_points(points: NDArray[np.float32], count: int) -> None:
    if len(points) != count:
        raise ValueError(f"has {len(points)} points, expected {count}")


def _ring(kind: str, points: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The polygon of a shape; None if it encloses nothing."""
    if kind == "rectangle":
        if len(points) == 4:  # some other tools write the corners
            return points
        _require_points(points, 2)
        (left, top), (right, bottom) = points
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float32)
    if kind == "circle":
        _require_points(points, 2)
        (x, y), (rim_x, rim_y) = points.astype(np.float64)
        angles = np.linspace(0, 2 * math.pi, _CORNERS_OF_A_CIRCLE, endpoint=False)
        radius = math.hypot(rim_x - x, rim_y - y)
        circle = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)
        return circle.astype(np.float32)
    if kind not in ("polygon", "oriented_rectangle"):
        raise ValueError(f"has the shape_type {quoted(kind, longest=40)}, which is not known: draw it as a polygon")
    return points if len(points) >= 3 else None


def _classes(root: Path, labels: Iterable[str]) -> ClassList:
    """The classes: of labels.txt, or the labels that occur."""
    found = set(labels)
    path = root / LABELS_FILE
    if not path.is_file():
        return ClassList(sorted(found))
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    try:
        classes = ClassList([*names, IGNORED_LABEL])
    except ValueError as error:
        raise ValueError(f"{one_line(path)}: {error}") from error
    unknown = sorted(found - classes.index.keys())
    if unknown:
        raise ValueError(
            f"{one_line(path)}: {quoted(unknown[0], longest=60)} is the label of a shape, but not in the list: add it"
        )
    return classes


def _image(file: _File, index: ImageIndex) -> Path | None:
    try:
        return index.find(file.image, near=[file.path.parent])
    except ValueError as error:
        raise ValueError(f"{one_line(file.path)}: {error}") from error


def _label(file: _File, image: Path, classes: ClassList, overlap: Overlap) -> DrawnLabel:
    numbered = (shape._replace(value=classes.index[label]) for label, shape in file.shapes)
    try:
        return DrawnLabel(file.path, image, file.size, PackedShapes.of(numbered), overlap=overlap)
    except ValueError as error:
        raise ValueError(f"{one_line(file.path)}: {error}") from error


FORMAT = Format(find=labelme, splits=split_folders, recognize=_recognize)
