"""How large the classes of a label map are: pixels, and square meters where the map lies on earth."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from semask.data.classes import IGNORE_INDEX

if TYPE_CHECKING:
    from semask.prediction.raster import Place

ROWS = 256
"""Rows that are counted at once."""
SEMI_MAJOR, FLATTENING = 6_378_137.0, 1 / 298.257223563  # of the WGS 84 ellipsoid, meters
TRUE = 0.01
"""A map in meters whose pixels are off by less, as a fraction, on the ground is measured as it is."""
NODES = (2048, 17)
"""Rows and columns, at most about as many, in which the area of a pixel is computed; it changes smoothly between."""


@dataclass(frozen=True)
class Areas:
    """What each class of an image covers.

    Attributes:
        pixels: Pixels of each class.
        ignored: Pixels without a class.
        square_meters: Area of each class; None where it is not known.
        measured: How the area was found. map: pixels times their size in the map, as GIS programs do it; ellipsoid: on
            the ground, for longitude and latitude and for maps whose scale is not true (Web Mercator); None: not at
            all, because the image is not georeferenced.
        crs: Coordinate reference system of the image.
    """

    pixels: tuple[int, ...]
    ignored: int
    square_meters: tuple[float, ...] | None = None
    measured: Literal["map", "ellipsoid"] | None = None
    crs: str | None = None

    def share(self, index: int) -> float:
        """Share of a class in the pixels that have one, from 0 to 1."""
        return self.pixels[index] / max(sum(self.pixels), 1)


def measure(
    rows: Callable[[int], Iterator[NDArray[np.uint8]]], size: tuple[int, int], classes: int, place: "Place | None"
) -> Areas:
    """Count the pixels of each class, and add up their areas.

    Args:
        rows: Gives the label map from top to bottom, so many rows at a time.
        size: Height and width.
        classes: Number of classes.
        place: Where the map lies; None for nowhere.
    """
    crs = None if place is None else place.crs
    ground = None if place is None or crs is None else ground_areas(place, size)
    planar = None if place is None else map_area(place)
    true = ground is not None and planar is not None and bool((np.abs(ground / planar - 1) < TRUE).all())
    counts, meters = np.zeros(IGNORE_INDEX + 1, np.int64), np.zeros(IGNORE_INDEX + 1)
    first = 0
    for part in rows(ROWS):
        label = part.ravel()
        counts += np.bincount(label, minlength=IGNORE_INDEX + 1)
        if ground is not None and not true:
            area = interpolated(ground, range(first, first + len(part)), size)
            meters += np.bincount(label, weights=area.ravel(), minlength=IGNORE_INDEX + 1)
        first += len(part)
    if true and planar is not None:
        meters[:] = counts * planar
    return Areas(
        pixels=tuple(counts[:classes].tolist()),
        ignored=int(counts[classes:].sum()),
        square_meters=None if ground is None else tuple(meters[:classes].tolist()),
        measured=None if ground is None else "map" if true else "ellipsoid",
        crs=None if crs is None else crs.to_string(),
    )


def map_area(place: "Place") -> float | None:
    """Square meters of a pixel in the plane of a projected map; None for other maps."""
    if place.crs is None or not place.crs.is_projected:
        return None
    factor = float(place.crs.linear_units_factor[1])
    return abs(float(place.transform.determinant)) * factor**2 or None


def nodes(size: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows and columns of the pixels whose area is computed."""
    rows, columns = (
        np.unique(np.linspace(0, side - 1, min(most, side)).round()) for side, most in zip(size, NODES, strict=True)
    )
    return rows, columns


def ground_areas(place: "Place", size: tuple[int, int]) -> NDArray[np.float64] | None:
    """Square meters on the ellipsoid of the pixels at `nodes`, [rows, columns]; None if they lie nowhere on earth."""
    from rasterio.warp import transform

    rows, columns = nodes(size)
    corners: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for right, down in ((0, 0), (1, 0), (1, 1), (0, 1)):
        x, y = np.meshgrid(columns + right, rows + down)
        try:
            longitude, latitude = transform(place.crs, "EPSG:4326", *on_map(place, x.ravel(), y.ravel()))[:2]
        except Exception:  # a damaged or fictional reference system
            return None
        corners.append((np.radians(longitude).reshape(x.shape), authalic(np.radians(latitude)).reshape(x.shape)))
    area, below = np.zeros(corners[0][0].shape), corners[0][1]  # small numbers, so that few digits are lost
    for (lon, q), (following, next_q) in zip(corners, [*corners[1:], corners[0]], strict=True):
        step = np.mod(following - lon + math.pi, 2 * math.pi) - math.pi  # across the date line too
        area += step * ((q - below) + (next_q - below)) / 2
    area = np.abs(area)
    return area if bool(np.isfinite(area).all()) and bool((area > 0).all()) else None


def on_map(place: "Place", x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Coordinates on the map of places in pixels, of the image's upper left corner."""
    a, b, c, d, e, f = tuple(place.transform)[:6]
    return a * x + b * y + c, d * x + e * y + f


def authalic(latitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area of the ellipsoid between the equator and a latitude in radians, for one radian of longitude."""
    e2 = FLATTENING * (2 - FLATTENING)
    e, s = math.sqrt(e2), np.sin(latitude)
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = SEMI_MAJOR**2 * (1 - e2) / 2 * (s / (1 - e2 * s**2) + np.arctanh(e * s) / e)
    return result


def interpolated(areas: NDArray[np.float64], rows: range, size: tuple[int, int]) -> NDArray[np.float64]:
    """Area of each pixel of some rows, [rows, W], from those at `nodes`."""
    at_rows, at_columns = nodes(size)
    down = np.stack([np.interp(np.arange(rows.start, rows.stop), at_rows, column) for column in areas.T], axis=1)
    return np.stack([np.interp(np.arange(size[1]), at_columns, row) for row in down])
