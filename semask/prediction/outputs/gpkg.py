"""NAME.gpkg: the regions of a georeferenced image as polygons of a GeoPackage, in the image's reference system."""

import shutil

import numpy as np

from semask.files.atomic import written_whole
from semask.files.text import reason
from semask.prediction.output import Output
from semask.prediction.segmentation import Segmentation
from semask.prediction.vectors import features

LAYER = "classes"


def write(segmentation: Segmentation) -> None:
    """Write the polygons, with the class, its index and the number of pixels of each."""
    import shapely
    from pyogrio.errors import DataSourceError
    from pyogrio.raw import write as write_layer

    assert segmentation.place is not None
    names = np.array(segmentation.classes.names, dtype=object)
    file = segmentation.scratch / "polygons.gpkg"  # SQLite needs the ending, and files of its own beside
    file.unlink(missing_ok=True)
    empty = np.zeros(0, np.int64)
    with written_whole(segmentation.path(".gpkg")) as temporary:
        try:
            layers = ((x.polygons, x.values, x.pixels) for x in features(segmentation))
            for polygons, values, pixels in (*[(np.zeros(0, object), empty, empty)], *layers):
                write_layer(
                    file,
                    geometry=shapely.to_wkb(polygons),
                    field_data=[names[values], values, pixels],
                    fields=["class", "id", "pixels"],
                    layer=LAYER,
                    driver="GPKG",
                    geometry_type="Polygon",
                    crs=segmentation.place.crs.to_wkt(),
                    append=file.exists(),
                )
        except DataSourceError as error:
            raise OSError(reason(error)) from error
        shutil.copyfile(file, temporary)
    file.unlink()


OUTPUT = Output(write, endings=(".gpkg",), packages=("pyogrio", "rasterio", "shapely"), placed=True)
