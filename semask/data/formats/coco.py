"""COCO JSON: polygons and run lengths (RLE) of objects, of COCO itself and of the many tools that export it.

ROOT/annotations/instances_{train2017,val2017}.json     images in ROOT/train2017, ROOT/images/train2017, ...
ROOT/{train,valid}/_annotations.coco.json               Roboflow: images next to it
ROOT/result.json, ROOT/annotations/instances_default.json, ...      one file: no splits

Class 0 is "background", what no object covers; then the categories in the order of their ids. Crowds are ignored, but
CVAT calls every brush mask a crowd: its masks are objects.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from semask.data.annotations import (
    ClassList,
    ImageIndex,
    Notes,
    has_keys,
    head_and_tail,
    is_other_split,
    read_json,
    require_all_images,
    split_of,
)
from semask.data.dataset import SegmentationDataset
from semask.data.format import Format, Split
from semask.data.listing import Listing
from semask.data.packed_masks import CocoMask
from semask.data.pairs import listed
from semask.data.shapes import IGNORED, DrawnLabel, Overlap, PackedShapes, Shape, renumbering, ring_of, size_of
from semask.files.schema import quoted
from semask.files.text import one_line, reason

_KEYS = ("images", "annotations", "categories")
_NOT_OUTLINES = ("captions_", "person_keypoints_", "image_info_", "panoptic_")
"""Other files of COCO's own downloads."""


def coco(root: str | Path, split: str | None, *, overlap: Overlap = "file") -> SegmentationDataset:
    """Find the images of a split and what is drawn on them.

    Args:
        root: Folder with the images and JSON files.
        split: Name of the split as in the name of its file or folder, e.g. "train2017"; None for all files.
        overlap: Which of two objects a pixel in both belongs to.

    Raises:
        ValueError: There is no such file, it is wrong, or images are missing.
    """
    listing = Listing(Path(root))
    files = _files(listing)
    if split is not None:
        if split not in files:
            found = listed(sorted(files))
            raise ValueError(f"{one_line(root)}: no COCO JSON of a split {quoted(split, longest=60)}; found {found}")
        files = {split: files[split]}
    if not files:
        raise ValueError(f'{one_line(root)}: no COCO JSON there: expected a file with "images" and "annotations"')
    index = ImageIndex(listing)
    parts = [_read(path, name, index, overlap) for name, path in files.items()]
    first = parts[0]
    for path, part in zip(files.values(), parts, strict=True):
        if part.names != first.names:
            raise ValueError(
                f"{one_line(path)}: its categories are not those of {one_line(next(iter(files.values())))}: "
                "make them the same, or choose one split"
            )
    pairs = sorted((pair for part in parts for pair in part.pairs), key=lambda pair: pair[0])
    for (image, _), (other, _) in pairwise(pairs):
        if image == other:
            raise ValueError(f"{one_line(image)}: is listed twice in the COCO JSON: keep one of the two")
    return SegmentationDataset(
        pairs,
        ClassList(first.names).classes,
        name=Path(root).absolute().name,
        renumber=renumbering(1 + len(first.names)),
        notes=[note for part in parts for note in part.notes],
    )


class _Part(NamedTuple):
    """What one file gives: names of its classes without the background, pairs, and what is not used."""

    names: tuple[str, ...]
    pairs: list[tuple[Path, DrawnLabel]]
    notes: list[str]


def _files(listing: Listing) -> dict[str, Path]:
    """Name of a split -> its COCO JSON."""
    candidates = [
        path
        for name, path in zip(listing.names, listing.files, strict=True)
        if len(name.parts) <= 3 and name.suffix.lower() == ".json" and not name.name.startswith(_NOT_OUTLINES)
    ]
    if len(candidates) > 64:  # one for each image: another format
        candidates = [path for path in candidates if path.parent == listing.root]
    found = [path for path in candidates[:64] if _looks_like_coco(path)]
    instances = [path for path in found if path.name.startswith("instances_")]
    files: dict[str, Path] = {}
    for path in instances or found:
        name = path.stem.removeprefix("instances_")
        if split_of(name) is None and not is_other_split(name) and path.parent != listing.root:
            name = path.parent.name if len(instances or found) > 1 or split_of(path.parent.name) else name
        if name in files:
            raise ValueError(f"{one_line(path)}: {one_line(files[name])} is a COCO JSON of the same split: keep one")
        files[name] = path
    return files


def _looks_like_coco(path: Path) -> bool:
    text = head_and_tail(path)
    if not text.lstrip("\ufeff \r\n\t").startswith("{"):
        return False
    return has_keys(text, *_KEYS) >= 2


def _splits(root: Path) -> Mapping[Split, str]:
    """Names of the splits; {} unless there is one for training and one for validation."""
    found: dict[Split, str] = {}
    for name in _files(Listing(root)):
        split = split_of(name)
        if split is not None:
            found.setdefault(split, name)
    return found if len(found) == 2 else {}


def _recognize(listing: Listing) -> str | None:
    files = _files(listing)
    if not files or not listing.images():
        return None
    return f"{listed([path.relative_to(listing.root).as_posix() for path in files.values()])}: COCO JSON"


def _read(path: Path, split: str, index: ImageIndex, overlap: Overlap) -> _Part:
    """Read one file."""
    notes = Notes(path)
    values = read_json(path, each=_compact)
    try:
        for key in _KEYS:
            if not isinstance(values, dict) or not _is_list_of_objects(values.get(key)):
                raise ValueError(f'"{key}" is missing: expected a list of objects, as in COCO JSON')
        categories = _categories(values["categories"])
        classes = ClassList(categories.values())
        images = _images(values["images"])
        shapes: dict[Any, list[Shape]] = {}
        for annotation in values["annotations"]:
            _add(annotation, images, shapes, categories, classes, notes)
        if values["annotations"] and not any(shapes.values()):
            raise ValueError(
                "none of its annotations has an outline, boxes alone do not say which pixels belong to an object: "
                "export polygons or masks (instance segmentation)"
            )
        pairs, missing = [], []
        root = index.root
        near = (path.parent, path.parent / "images", root / split, root / "images" / split, root / "images", root)
        for key, image in images.items():
            found = index.find(image["file_name"], near=near)
            if found is None:
                missing.append(image["file_name"])
            else:
                packed = PackedShapes.of(shapes.get(key, ()))
                pairs.append((found, DrawnLabel(path, found, image["size"], packed, overlap=overlap)))
    except ValueError as error:
        raise ValueError(f"{one_line(path)}: {reason(error, longest=500)}") from error
    require_all_images(missing, len(images), path)
    notes.add("images without an annotation, all of them background", len(images) - len(shapes))
    return _Part(classes.classes.names[1:], pairs, notes.lines)


def _compact(value: dict[str, Any]) -> dict[str, Any]:
    """Make arrays of the polygons of an annotation as soon as it is read: COCO's own file has 37 million numbers."""
    polygons = value.get("segmentation")
    if isinstance(polygons, list) and all(isinstance(polygon, list) for polygon in polygons):
        try:
            rings = [ring_of(polygon) for polygon in polygons]
        except ValueError as error:
            return {**value, "segmentation": str(error)}  # told where the annotation is known
        return {**value, "segmentation": tuple(rings)}
    return value


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def _categories(values: list[dict[str, Any]]) -> dict[int, str]:
    """Id -> name of the categories, in the order of their ids."""
    names: dict[int, str] = {}
    for value in values:
        key, name = value.get("id"), value.get("name")
        if type(key) is not int or not isinstance(name, str):
            raise ValueError('a category has no "id" (a whole number) or no "name" (a text)')
        if key in names:
            raise ValueError(f"two categories have the id {one_line(key, longest=40)}: give each its own")
        names[key] = name
    ordered = dict(sorted(names.items()))
    above = [value for value in values if value.get("supercategory") == "none"]
    others = [value for value in values if value.get("supercategory") != "none"]
    # Roboflow puts the group of all categories before them, as one that nothing belongs to.
    if len(above) == 1 and others and all(value.get("supercategory") == above[0]["name"] for value in others):
        del ordered[above[0]["id"]]
    return ordered


def _images(values: list[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    """Id -> name and size of the images."""
    images: dict[Any, dict[str, Any]] = {}
    for value in values:
        key, name = value.get("id"), value.get("file_name")
        if type(key) not in (int, str) or not isinstance(name, str) or not name:
            raise ValueError('an image has no "id" or no "file_name" (a text)')
        if key in images:
            raise ValueError(f"two images have the id {one_line(key, longest=40)}: give each its own")
        try:
            images[key] = {"file_name": name, "size": size_of(value.get("height"), value.get("width"))}
        except ValueError as error:
            raise ValueError(f"image {one_line(name, longest=100)}: {error}") from error
    return images


def _is_of_cvat(annotation: dict[str, Any]) -> bool:
    """Whether CVAT wrote an annotation: it says of all its shapes whether they are occluded."""
    attributes = annotation.get("attributes")
    return isinstance(attributes, dict) and "occluded" in attributes


def _add(
    annotation: dict[str, Any],
    images: Mapping[Any, dict[str, Any]],
    shapes: dict[Any, list[Shape]],
    categories: Mapping[int, str],
    classes: ClassList,
    notes: Notes,
) -> None:
    """Add what an annotation outlines to its image."""
    key, category = annotation.get("image_id"), annotation.get("category_id")
    if "segments_info" in annotation:
        raise ValueError("it is a panoptic COCO JSON, whose masks are PNG files of segment ids: use the instances file")
    if type(key) not in (int, str) or key not in images:
        notes.add("annotations left out, their image is not listed")
        return
    said = f"annotation {one_line(annotation.get('id'), longest=40)}"
    if type(category) is not int or category not in categories:
        raise ValueError(f"{said} has the category {one_line(category, longest=40)}, which is not listed")
    crowd = annotation.get("iscrowd", 0) and not _is_of_cvat(annotation)
    index = IGNORED if crowd else classes.index[categories[category]]
    outline = annotation.get("segmentation")
    here = shapes.setdefault(key, [])
    try:
        if isinstance(outline, str):
            raise ValueError(outline)
        if isinstance(outline, dict):
            here.append(Shape(index, mask=CocoMask.of(outline, images[key]["size"])))
            return
        if outline is not None and not isinstance(outline, tuple):
            raise ValueError('"segmentation" is neither a list of polygons nor run lengths (RLE)')
    except ValueError as error:
        raise ValueError(f"{said}: {error}") from error
    rings = [ring for ring in outline or () if ring is not None]
    notes.add("polygons of fewer than 3 points left out", len(outline or ()) - len(rings))
    if rings:
        here.append(Shape(index, rings))
    elif not outline:
        notes.add("annotations without an outline left out, only a box is given")


FORMAT = Format(find=coco, splits=_splits, recognize=_recognize)
