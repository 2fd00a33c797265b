"""Regions of Label Studio to shapes: polygons, rectangles and ellipses in percent of the image, and brush strokes."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semask.data.annotations import Notes
from semask.data.packed_masks import BrushMask
from semask.data.shapes import Shape, ring_of, size_of
from semask.files.schema import quoted
from semask.files.text import one_line

LABELS = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels", "labels")
"""Where a region has its labels."""
KINDS = {
    "brush": ("rle",),
    "polygon": ("points",),
    "ellipse": ("x", "y", "radiusX", "radiusY"),
    "rectangle": ("x", "y", "width", "height"),
}
"""Kinds of regions, and what is in each."""
_CORNERS = 128
"""Corners that an ellipse is drawn with."""


class Region(NamedTuple):
    """A labeled region.

    Args:
        label: Its label.
        shape: What is drawn; its class index is not known yet.
        size: Height and width of the image.
    """

    label: str
    shape: Shape
    size: tuple[int, int]


def region_labels(value: dict[str, Any]) -> list[str]:
    """Labels of a region; [] if it has none."""
    for key in LABELS:
        labels = value.get(key)
        if isinstance(labels, list) and labels and all(isinstance(label, str) for label in labels):
            return labels
    return []


def region(result: dict[str, Any], notes: Notes) -> Region | None:
    """Read a result.

    Args:
        result: As in the list "result" of an annotation.
        notes: Counts what is not used.

    Returns:
        The region; None if it has no label or no area.

    Raises:
        ValueError: If it is wrong.
    """
    value = result.get("value")
    labels = region_labels(value) if isinstance(value, dict) else []
    if not isinstance(value, dict) or not labels:
        notes.add("results without a label of a region (choices, texts, ...) left out")
        return None
    kind = next((kind for kind, keys in KINDS.items() if all(key in value for key in keys)), None)
    if kind is None:
        notes.add("regions without an area (key points, ...) left out")
        return None
    label = labels[0]
    notes.add("regions with several labels, of which the first one counts", int(len(labels) > 1))
    try:
        size = size_of(result.get("original_height"), result.get("original_width"))
        if size is None:
            raise ValueError('has no "original_width" and "original_height"')
        if result.get("image_rotation") not in (None, 0):
            raise ValueError(
                f"the image was turned by {one_line(result['image_rotation'], longest=20)} degrees in Label Studio, "
                "its file was not: turn it back there, or turn the file"
            )
        if kind == "brush":
            return Region(label, Shape(0, mask=BrushMask.of(value["rle"])), size)
        ring = _ring(kind, value, size)
    except ValueError as error:
        raise ValueError(f"a region of {quoted(label, longest=60)}: {error}") from error
    if ring is None:
        notes.add("polygons of fewer than 3 points left out")
        return None
    return Region(label, Shape(0, [ring]), size)


def _ring(kind: str, value: dict[str, Any], size: tuple[int, int]) -> NDArray[np.float32] | None:
    """The polygon of a region in pixels; None if it encloses nothing."""
    scale = np.array([size[1] / 100, size[0] / 100])
    if kind == "polygon":
        ring = ring_of(value["points"])
        return None if ring is None else _in_pixels(np.array(value["points"], dtype=np.float64), scale)
    x, y = _number(value, "x"), _number(value, "y")
    if kind == "ellipse":
        angles = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
        radii = np.array([_number(value, "radiusX"), _number(value, "radiusY")])
        corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii
    else:
        width, height = _number(value, "width"), _number(value, "height")
        corners = np.array([(0, 0), (width, 0), (width, height), (0, height)])
    angle = math.radians(_number(value, "rotation", 0))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    # Turned in pixels, around the first corner or the center: a percent is not equally long in both directions.
    return ring_of(np.array([x, y]) * scale + (corners * scale) @ turn)


def _in_pixels(points: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Percent to pixels; whole numbers that were rounded as percent are whole again."""
    pixels = points.reshape(-1, 2) * scale
    near = pixels.round()
    return ring_of(np.where(np.abs(pixels - near) < 1e-6, near, pixels))


def _number(value: dict[str, Any], key: str, default: float | None = None) -> float:
    number = value.get(key, default)
    if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= 1e6:
        raise ValueError(f'"{key}" is {quoted(number, longest=40)}: expected a number')
    return float(number)
