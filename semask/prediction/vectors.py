"""The regions of a georeferenced label map as polygons on the map, strip by strip."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semask.data.classes import IGNORE_INDEX
from semask.prediction.areas import on_map
from semask.prediction.polygons import polygons, regions
from semask.prediction.segmentation import Segmentation


class Features(NamedTuple):
    """Polygons of a strip of an image."""

    polygons: NDArray[Any]
    """Polygons of shapely [n], in the coordinates of the map."""
    values: NDArray[np.int64]
    """Class of each, [n]."""
    pixels: NDArray[np.int64]
    """Pixels of each, [n]."""


def features(segmentation: Segmentation, *, longest: float | None = None) -> Iterator[Features]:
    """Give the regions of all classes, strip by strip; ignored ones are left out.

    Args:
        segmentation: Of a georeferenced image.
        longest: Longest side of a polygon in pixels; longer ones get corners in between, for who bends them. None: any.
    """
    import shapely

    place, first = segmentation.place, 0
    assert place is not None
    for label in segmentation.rows(segmentation.strip or segmentation.size[0]):
        found = [x for x in regions(label, segmentation.simplify) if x.value != IGNORE_INDEX]
        shapes = polygons(found)
        values = np.array([x.value for x in found], np.int64)
        pixels = np.rint(shapely.area(shapes)).astype(np.int64)
        if longest is not None:
            shapes = shapely.segmentize(shapes, longest)

        def moved(xy: NDArray[Any], first: int = first) -> NDArray[Any]:
            return np.stack(on_map(place, xy[:, 0], xy[:, 1] + first), axis=1)

        if found:
            yield Features(shapely.transform(shapes, moved), values, pixels)
        first += len(label)
