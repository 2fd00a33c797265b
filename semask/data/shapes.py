"""Labels that are drawn: polygons and brush strokes of an image, kept small in memory, become a mask when it is read.

A pixel belongs to a polygon if its center lies inside, so that a mask that was traced along the edges of its pixels
comes back exactly. Tools differ at the outline: see docs/dependencies.md.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from semask.data.classes import IGNORE_INDEX
from semask.data.images import max_pixels, read_size
from semask.extras import require
from semask.files.text import one_line, reason

Overlap = Literal["file", "small_over_large"]
"""Which of two objects a pixel in both belongs to: the later one in the file, or the smaller one."""

IGNORED = 256
"""What is drawn where nothing is to be learned: 255 alone next to 0 would look like a mask of black and white."""
MOST_POINTS = 100_000
"""Points of one polygon: drawing takes as many steps in every row."""
MOST_POINTS_OF_AN_IMAGE = 1_000_000
FARTHEST = 1e6
"""Largest coordinate in pixels: objects may reach beyond their image, but not anywhere."""


class Mask(Protocol):
    """Pixels of an object, packed."""

    def decode(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Unpack them for an image of a height and width: [H, W].

        Raises:
            ValueError: If they are not those of such an image.
        """


class Shape(NamedTuple):
    """An object, or a part of one.

    Args:
        value: Class index, or `IGNORED`.
        rings: Its polygons, each [n, 2] of x and y in pixels, 0 at the edge of the image. What two of them share
            belongs to it.
        mask: Its pixels instead.
        group: Parts with the same number are one object, whose size counts where small ones go over large ones.
    """

    value: int
    rings: Sequence[NDArray[np.float32]] = ()
    mask: Mask | None = None
    group: int | None = None


@dataclass(frozen=True, slots=True)
class DrawnLabel:
    """The label of an image, drawn when it is read.

    Args:
        path: File that holds the shapes, for messages.
        image: Image that they belong to.
        size: Height and width that the file says; None: those of the image, upright.
        shapes: Objects, in the order of the file.
        background: What pixels outside of all objects are.
        overlap: Which object is drawn last.
        edges: Pixels that an outline passes through belong to the object too, as Pillow draws polygons.
    """

    path: Path
    image: Path
    size: tuple[int, int] | None
    shapes: "PackedShapes"
    background: int = 0
    overlap: Overlap = "file"
    edges: bool = False

    def read(self) -> NDArray[np.int32]:
        """Draw the label: [H, W] of class indices and `IGNORED`.

        Raises:
            ValueError: If a mask does not fit, or the image is too large or can't be read.
        """
        size = self.size or read_size(self.image)
        try:
            require_drawable(size)
            return draw(self.shapes.unpack(), size, self.background, overlap=self.overlap, edges=self.edges)
        except ValueError as error:
            raise ValueError(f"{one_line(self.path)}: {one_line(self.image.name)}: {reason(error)}") from error


@dataclass(frozen=True, slots=True)
class PackedShapes:
    """Shapes of an image in a few arrays: a list of small ones for each of 100,000 images would take gigabytes.

    Args:
        points: Points of all polygons, [n, 2].
        rings: Number of points of each polygon, [r].
        rows: Class index, number of polygons and number of the group (-1: none) of each shape, [s, 3].
        masks: Position of a shape -> its pixels.
    """

    points: NDArray[np.float32]
    rings: NDArray[np.int32]
    rows: NDArray[np.int32]
    masks: dict[int, Mask] = field(default_factory=dict)

    @classmethod
    def of(cls, shapes: Iterable[Shape]) -> "PackedShapes":
        """Pack shapes.

        Raises:
            ValueError: If they have too many points.
        """
        shapes = list(shapes)
        rings = [ring for shape in shapes for ring in shape.rings]
        if sum(map(len, rings)) > MOST_POINTS_OF_AN_IMAGE:
            raise ValueError(f"its polygons have more than {MOST_POINTS_OF_AN_IMAGE:,} points: simplify them")
        rows = [(shape.value, len(shape.rings), -1 if shape.group is None else shape.group) for shape in shapes]
        return cls(
            np.concatenate(rings, dtype=np.float32) if rings else np.empty((0, 2), dtype=np.float32),
            np.array([len(ring) for ring in rings], dtype=np.int32),
            np.array(rows, dtype=np.int32).reshape(-1, 3),
            {place: shape.mask for place, shape in enumerate(shapes) if shape.mask is not None},
        )

    def unpack(self) -> list[Shape]:
        """The shapes."""
        rings = np.split(self.points, np.cumsum(self.rings)[:-1]) if len(self.rings) else []
        last = np.cumsum(self.rows[:, 1])
        return [
            Shape(int(index), rings[end - count : end], self.masks.get(place), None if group < 0 else int(group))
            for place, ((index, count, group), end) in enumerate(zip(self.rows, last, strict=True))
        ]


def draw(
    shapes: Sequence[Shape], size: tuple[int, int], background: int, *, overlap: Overlap, edges: bool = False
) -> NDArray[np.int32]:
    """Draw shapes one over the other: [H, W].

    Ignored ones come first wherever the file has them: an object that is outlined inside a crowd is known.

    Raises:
        ValueError: If a mask does not fit the size.
    """
    label = np.full(size, background, dtype=np.int32)
    areas = _areas(shapes, size) if overlap == "small_over_large" else [0.0] * len(shapes)
    order = sorted(range(len(shapes)), key=lambda place: (shapes[place].value != IGNORED, -areas[place]))
    waiting: list[Shape] = []  # polygons are drawn together: each call has its cost
    for shape in (shapes[place] for place in order):
        if shape.mask is None:
            waiting.append(shape)
            continue
        _draw_rings(waiting, label, edges)
        waiting = []
        label[shape.mask.decode(size)] = shape.value
    _draw_rings(waiting, label, edges)
    return label


def _areas(shapes: Sequence[Shape], size: tuple[int, int]) -> list[float]:
    """Size of the object that each shape belongs to, in pixels."""
    areas = [
        float(np.count_nonzero(shape.mask.decode(size))) if shape.mask is not None else sum(map(_area, shape.rings))
        for shape in shapes
    ]
    groups: dict[int, float] = {}
    for shape, area in zip(shapes, areas, strict=True):
        if shape.group is not None:
            groups[shape.group] = groups.get(shape.group, 0.0) + area
    return [area if shape.group is None else groups[shape.group] for shape, area in zip(shapes, areas, strict=True)]


def _area(ring: NDArray[np.float32]) -> float:
    """Area of a polygon."""
    x, y = ring.astype(np.float64).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _draw_rings(shapes: Sequence[Shape], label: NDArray[np.int32], edges: bool) -> None:
    """Draw polygons into a label."""
    rings = [(ring, shape.value) for shape in shapes for ring in shape.rings]
    if not rings:
        return
    if edges:
        image = Image.fromarray(label)
        pen = ImageDraw.Draw(image)
        for ring, index in rings:
            pen.polygon(ring.ravel().tolist(), fill=index, outline=index)
        label[:] = np.array(image)
        return
    require("rasterio")
    from rasterio.features import rasterize

    polygons = [({"type": "Polygon", "coordinates": [[*ring.tolist(), ring[0].tolist()]]}, i) for ring, i in rings]
    rasterize(polygons, out=label)


def ring_of(values: Any) -> NDArray[np.float32] | None:
    """Check the points of a polygon: x1, y1, x2, y2, ..., or pairs of these.

    Returns:
        Points [n, 2]; None if they are fewer than 3, which enclose nothing.

    Raises:
        ValueError: If they are no such numbers, too large, or too many.
    """
    if not isinstance(values, list | tuple | np.ndarray):
        raise ValueError(f"a polygon is {type(values).__name__}: expected a list of numbers")
    if len(values) > 2 * MOST_POINTS:
        raise ValueError(f"a polygon has more than {MOST_POINTS:,} points: simplify it")
    try:
        points = np.array(values)
    except (ValueError, OverflowError) as error:
        raise ValueError("a polygon has points of different lengths: expected x and y of each") from error
    if not points.size:
        return None
    if points.dtype.kind not in "iuf" or points.ndim > 2 or (points.ndim == 2 and points.shape[1] != 2):
        raise ValueError("a polygon has something else than x and y, two numbers, for each point")
    if points.size % 2:
        raise ValueError(f"a polygon has {points.size} numbers: expected x and y for each point, an even number")
    points = points.reshape(-1, 2)
    if not (np.abs(points) <= FARTHEST).all():  # NaN is not
        raise ValueError("a polygon has a coordinate that is NaN, infinite or far outside of the image: correct it")
    if len(points) > MOST_POINTS:
        raise ValueError(f"a polygon has more than {MOST_POINTS:,} points: simplify it")
    return points.astype(np.float32) if len(points) >= 3 else None


def size_of(height: Any, width: Any) -> tuple[int, int] | None:
    """Height and width that a file says; None if it says none.

    Raises:
        ValueError: If they are no size of an image.
    """
    if height is None and width is None:
        return None
    if not all(type(side) is int or (type(side) is float and side.is_integer()) for side in (height, width)):
        raise ValueError("its height and width are not two whole numbers")
    size = (int(height), int(width))
    require_drawable(size)
    return size


def require_drawable(size: tuple[int, int]) -> None:
    """Refuse a size that no image has, before memory is taken for it.

    Raises:
        ValueError: If it is too large, or nothing.
    """
    if min(size) < 1 or size[0] * size[1] > max_pixels():
        raise ValueError(
            f"a label of {one_line(size[1], longest=20)} x {one_line(size[0], longest=20)} pixels: expected 1 to "
            f"{max_pixels():,} pixels; if you trust it, set SEMASK_MAX_PIXELS to a larger number"
        )


def renumbering(count: int) -> dict[int, int]:
    """What drawn numbers stand for, with a number of classes."""
    return {**{index: index for index in range(count)}, IGNORED: IGNORE_INDEX}
