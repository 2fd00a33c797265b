"""The regions of a label map as polygons along the edges of the pixels: filled again they give the same map.

A region is what hangs together by sides, not by corners. Coordinates are in pixels from the upper left corner of the
image, x to the right and y down: pixel (0, 0) is the square from 0 to 1.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semask.extras import require

Ring = list[tuple[float, float]]
MOST_SIMPLIFIED = 1000.0
"""Pixels by which borders may be simplified, at most."""


class Region(NamedTuple):
    """A region of one class."""

    value: int
    """Its value in the label map."""
    rings: list[Ring]
    """Its outline, then its holes; each ring ends where it begins."""

    @property
    def outline_area(self) -> float:
        """Pixels inside of the outline, with the holes."""
        x, y = np.array(self.rings[0], np.float64).T
        return abs(float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())) / 2

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the outline."""
        (left, top), (right, bottom) = (tuple(map(edge, zip(*self.rings[0], strict=True))) for edge in (min, max))
        return left, top, right, bottom


def regions(label: NDArray[np.uint8], simplify: float = 0.0) -> list[Region]:
    """Find the regions of a label map [H, W], ignored ones too.

    Args:
        label: The map.
        simplify: Pixels by which borders may be simplified; neighbors keep a border in common. 0 is exact.
    """
    from rasterio.features import shapes

    found = [
        Region(int(value), [[(int(x), int(y)) for x, y in ring] for ring in shape["coordinates"]])
        for shape, value in shapes(np.ascontiguousarray(label), connectivity=4)
    ]
    return simplified(found, simplify) if simplify > 0 and found else found


def numbered(found: list[Region], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Fill regions with their numbers, from 1 on: [H, W]."""
    from rasterio.features import rasterize

    shapes = [({"type": "Polygon", "coordinates": x.rings}, number) for number, x in enumerate(found, start=1)]
    numbers: NDArray[np.int32] = (
        rasterize(shapes, out_shape=shape, dtype=np.int32) if shapes else np.zeros(shape, np.int32)
    )
    return numbers


def simplified(found: list[Region], tolerance: float) -> list[Region]:
    """Simplify borders, each alike for the two regions that it parts; the outer border of all stays.

    Args:
        found: All regions of a map.
        tolerance: Corners are cut as long as a triangle is smaller than a square of this side in pixels.
    """
    require("shapely")
    import shapely

    # Neighbors must have the same corners: one at each pixel.
    fine = shapely.transform(shapely.segmentize(polygons(found), 1.0), np.round)
    coarse = shapely.coverage_simplify(fine, tolerance, simplify_boundary=False)
    straight = shapely.simplify(coarse, 0.0)  # corners within a straight line are not needed any more
    return [Region(x.value, rings_of(polygon)) for x, polygon in zip(found, straight, strict=True)]


def polygons(found: list[Region]) -> NDArray[Any]:
    """Make the polygons of shapely of regions."""
    import shapely

    return np.array([shapely.Polygon(x.rings[0], x.rings[1:]) for x in found], dtype=object)


def rings_of(polygon: Any) -> list[Ring]:
    """Rings of a polygon of shapely."""
    return [[(x, y) for x, y in ring.coords] for ring in (polygon.exterior, *polygon.interiors)]
