"""Label Studio: the export "JSON" or "JSON-MIN", with polygons, rectangles, ellipses and brush strokes.

ROOT/project-1-at-2026-01-01.json     [{"data": {"image": "/data/upload/1/1a2b3c4d-photo.jpg"}, "annotations": ...}]
ROOT/images/photo.jpg                 anywhere below the root, with or without the 1a2b3c4d- of the upload

There are no splits. Class 0 is "background"; the others are the labels in alphabetical order.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from semask.data.annotations import (
    ClassList,
    ImageIndex,
    Notes,
    has_keys,
    head_and_tail,
    read_json,
    require_all_images,
)
from semask.data.dataset import SegmentationDataset
from semask.data.format import Format, Split
from semask.data.label_studio_regions import KINDS, LABELS, region, region_labels
from semask.data.listing import Listing
from semask.data.pairs import listed
from semask.data.shapes import DrawnLabel, Overlap, PackedShapes, Shape, renumbering
from semask.files.text import one_line, reason

_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif")
_PREFIX = 8
"""Digits that the name of an upload begins with."""


def label_studio(root: str | Path, split: str | None, *, overlap: Overlap = "file") -> SegmentationDataset:
    """Find the images of an export.

    Args:
        root: Folder with the JSON file and the images.
        split: Must be None: an export has no splits.
        overlap: Which of two objects a pixel in both belongs to.

    Raises:
        ValueError: There is no such file, or more than one, it is wrong, or images are missing.
    """
    root = Path(root)
    if split is not None:
        raise ValueError(f"{one_line(root)}: an export of Label Studio has no splits: leave out data.train_split")
    listing = Listing(root)
    path = _the_file(listing)
    notes = Notes(path)
    values = read_json(path, each=_compact)
    try:
        if not isinstance(values, list) or not all(isinstance(task, dict) for task in values):
            raise ValueError("expected a list of tasks, as Label Studio exports them")
        tasks = [task for number, value in enumerate(values) if (task := _task(value, number, notes)) is not None]
        classes = ClassList(sorted({label for task in tasks for label, _ in task.shapes}))
        pairs = _pairs(tasks, classes, ImageIndex(listing), path, overlap)
    except ValueError as error:
        raise ValueError(f"{one_line(path)}: {reason(error, longest=500)}") from error
    notes.add("images that no annotated task is for, not used", len(set(listing.images()) - pairs.keys()))
    return SegmentationDataset(
        sorted(pairs.items()),
        classes.classes,
        name=root.absolute().name,
        renumber=renumbering(len(classes.classes)),
        notes=notes.lines,
    )


class _Task(NamedTuple):
    """What is known of an image: its name as written, its size, and labels with what is drawn."""

    image: str
    size: tuple[int, int] | None
    shapes: list[tuple[str, Shape]]


def _the_file(listing: Listing) -> Path:
    """The export.

    Raises:
        ValueError: If there is none or more than one, and what to do.
    """
    found = _exports(listing)
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{one_line(listing.root)}: {len(found)} exports of Label Studio, {listed([path.name for path in found])}: "
            "keep the latest one"
        )
    if _pictures(listing):
        raise ValueError(
            f"{one_line(listing.root)}: the PNG export of Label Studio does not say which image a mask is for: export "
            "JSON instead, and put the file and the images into one folder"
        )
    raise ValueError(f"{one_line(listing.root)}: no JSON export of Label Studio there")


def _exports(listing: Listing) -> list[Path]:
    names = zip(listing.names, listing.files, strict=True)
    near = [path for name, path in names if len(name.parts) <= 2 and name.suffix.lower() == ".json"]
    return [path for path in near[:64] if _looks_like_label_studio(path)]


def _pictures(listing: Listing) -> bool:
    return any(name.name.startswith("task-") and "-annotation-" in name.name for name in listing.names)


def _looks_like_label_studio(path: Path) -> bool:
    text = head_and_tail(path)
    if not text.lstrip("\ufeff \r\n\t").startswith("["):
        return False
    return has_keys(text, "annotations", "data") == 2 or has_keys(text, "annotation_id", "lead_time", *LABELS) >= 2


def _recognize(listing: Listing) -> str | None:
    found = _exports(listing)
    if found:
        return f"{found[0].relative_to(listing.root).as_posix()}: an export of Label Studio"
    return "task-...-annotation-...: masks of Label Studio" if _pictures(listing) else None


def _compact(value: dict[str, Any]) -> dict[str, Any]:
    """Make bytes of a brush stroke as soon as it is read: its list of numbers takes 8 times more."""
    strokes = value.get("rle")
    if isinstance(strokes, list):
        try:
            return {**value, "rle": bytes(strokes)}
        except (TypeError, ValueError):
            return value
    return value


def _task(task: dict[str, Any], number: int, notes: Notes) -> _Task | None:
    """Read a task; None if it is not annotated."""
    said = f"task {one_line(task.get('id', number), longest=40)}"
    try:
        image = _image_name(task)
        results = _results(task, notes)
        if results is None:
            notes.add("tasks without an annotation, or with a canceled one, left out")
            return None
        shapes: list[tuple[str, Shape]] = []
        sizes: set[tuple[int, int]] = set()
        for result in results:
            found = region(result, notes)
            if found is not None:
                shapes.append((found.label, found.shape))
                sizes.add(found.size)
        if len(sizes) > 1:
            raise ValueError("its results are for images of different sizes")
    except ValueError as error:
        raise ValueError(f"{said}: {error}") from error
    return _Task(image, next(iter(sizes), None), shapes)


def _image_name(task: dict[str, Any]) -> str:
    """Name of the image, as written.

    Raises:
        ValueError: If the task is for none, or for several.
    """
    data = task["data"] if isinstance(task.get("data"), dict) else task
    texts = {
        key: value
        for key, value in data.items()
        if isinstance(value, str) and _file_name(value).lower().endswith(_IMAGE_ENDINGS)
    }
    if "image" in texts:
        return texts["image"]
    if len(texts) != 1:
        raise ValueError(f"has {len(texts)} images among its data: expected one")
    return next(iter(texts.values()))


def _file_name(written: str) -> str:
    """Path of an image in a URL: /data/upload/1/a.jpg, /data/local-files/?d=yard/a.jpg, s3://bucket/a.jpg."""
    try:
        parts = urlsplit(written)
        inside = parse_qs(parts.query, errors="surrogateescape").get("d")  # a name may be no text
    except ValueError:  # a URL that is none
        return written
    if inside:
        return inside[0]
    return unquote(parts.path) if parts.scheme or written.startswith("/data/") else written


def _results(task: dict[str, Any], notes: Notes) -> list[dict[str, Any]] | None:
    """Results of the annotation that counts; None if there is none."""
    if "annotations" not in task:  # JSON-MIN: a key for each tag
        return list(_results_of_min(task)) or None
    annotations = task["annotations"]
    if not isinstance(annotations, list) or not all(isinstance(entry, dict) for entry in annotations):
        raise ValueError('"annotations" is no list of objects')
    valid = [entry for entry in annotations if not entry.get("was_cancelled") and not entry.get("skipped")]
    if not valid:
        return None
    # What was checked goes before the rest, and of several the latest.
    best = max(valid, key=lambda entry: (bool(entry.get("ground_truth")), str(entry.get("updated_at") or "")))
    notes.add("further annotations of the same task not used", len(valid) - 1)
    results = best.get("result") or []
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise ValueError('"result" is no list of objects')
    return results


def _results_of_min(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Results in the form of the full export."""
    for entries in task.values():
        for value in entries if isinstance(entries, list) else [entries]:
            if isinstance(value, dict) and region_labels(value):
                size = {key: value.get(key) for key in ("original_width", "original_height")}
                kind = next((kind for kind, keys in KINDS.items() if all(key in value for key in keys)), "other")
                yield {"type": kind, "value": value, **size}


def _pairs(
    tasks: list[_Task], classes: ClassList, index: ImageIndex, path: Path, overlap: Overlap
) -> dict[Path, DrawnLabel]:
    """Image -> label."""
    pairs: dict[Path, DrawnLabel] = {}
    missing = []
    for task in tasks:
        image = _find(_file_name(task.image), index)
        if image is None:
            missing.append(_file_name(task.image))
            continue
        if image in pairs:
            raise ValueError(f"two tasks are for {one_line(image.name)}: keep one of them")
        packed = PackedShapes.of(shape._replace(value=classes.index[label]) for label, shape in task.shapes)
        pairs[image] = DrawnLabel(path, image, task.size, packed, overlap=overlap)
    require_all_images(missing, len(tasks), path)
    if not pairs:
        raise ValueError("no task is annotated: annotate and export again")
    return pairs


def _find(name: str, index: ImageIndex) -> Path | None:
    """Find an image under the name of its upload, or the one that it had before."""
    found = index.find(name)
    folder, _, last = name.replace("\\", "/").rpartition("/")
    digits, dash, rest = last.partition("-")
    if found is None and dash and len(digits) == _PREFIX and all(digit in "0123456789abcdef" for digit in digits):
        return index.find(f"{folder}/{rest}" if folder else rest)
    return found


def _splits(root: Path) -> Mapping[Split, str]:
    """There are none."""
    return {}


FORMAT = Format(find=label_studio, splits=_splits, recognize=_recognize)
