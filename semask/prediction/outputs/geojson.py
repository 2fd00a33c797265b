"""NAME.geojson: the regions of a georeferenced image as polygons in longitude and latitude, as RFC 7946 asks for."""

import json
from typing import Any

import numpy as np

from semask.files.atomic import written_whole
from semask.files.text import one_line
from semask.prediction.files import Unreadable
from semask.prediction.output import Output
from semask.prediction.segmentation import Segmentation
from semask.prediction.vectors import features

LONGEST = 64
"""Pixels of a side of a polygon that are taken for straight in longitude and latitude too."""
DIGITS = 9
"""Digits behind the point of a degree: a tenth of a millimeter."""
AT_ONCE = 4096
"""Polygons that are converted together."""


def write(segmentation: Segmentation) -> None:
    """Write the polygons, with the class, its index and the number of pixels of each."""
    names, first = segmentation.classes.names, True
    with written_whole(segmentation.path(".geojson")) as temporary, open(temporary, "w", encoding="ascii") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for part in features(segmentation, longest=LONGEST):
            for start in range(0, len(part.values), AT_ONCE):
                end = start + AT_ONCE
                shapes = in_degrees(part.polygons[start:end], segmentation)
                for shape, value, pixels in zip(shapes, part.values[start:end], part.pixels[start:end], strict=True):
                    properties = {"class": names[value], "id": int(value), "pixels": int(pixels)}
                    entry = {"type": "Feature", "geometry": shape, "properties": properties}
                    file.write(("\n" if first else ",\n") + json.dumps(entry))
                    first = False
        file.write("]}\n")


def in_degrees(polygons: Any, segmentation: Segmentation) -> list[dict[str, Any]]:
    """Convert polygons of shapely to GeoJSON in WGS 84: outlines counterclockwise, cut at the date line.

    Raises:
        Unreadable: If the reference system of the image has no such place.
    """
    import shapely
    from rasterio.warp import transform_geom

    assert segmentation.place is not None
    try:
        moved = transform_geom(segmentation.place.crs, "EPSG:4326", [x.__geo_interface__ for x in polygons])
        turned = shapely.orient_polygons([shapely.geometry.shape(shape) for shape in moved])
        if not np.isfinite(shapely.get_coordinates(turned)).all():
            raise ValueError("infinite")
    except Exception as error:  # rasterio has errors of its own for each fault of a reference system
        raise Unreadable(
            f"{one_line(segmentation.image)}: its reference system has no longitude and latitude there: leave out "
            "geojson, or repair it"
        ) from error
    return [rounded(shape.__geo_interface__) for shape in turned]


def rounded(value: Any) -> Any:
    """Round all coordinates of a geometry."""
    if isinstance(value, dict):
        return {"type": value["type"], "coordinates": rounded(value["coordinates"])}
    return round(value, DIGITS) if isinstance(value, float) else [rounded(x) for x in value]


OUTPUT = Output(write, endings=(".geojson",), packages=("rasterio", "shapely"), placed=True)
