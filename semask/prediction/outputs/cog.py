"""NAME_cog.tif: the label map as a cloud-optimized GeoTIFF, with smaller copies of itself."""

from semask.prediction.output import Output
from semask.prediction.raster_writing import BLOCK, write
from semask.prediction.segmentation import Segmentation


def write_cog(segmentation: Segmentation) -> None:
    """Write the label map with the colors of the classes; of any image, with a place where it has one."""
    write(
        segmentation.path("_cog.tif"),
        segmentation.rows(BLOCK),
        segmentation.size,
        place=segmentation.place,
        scratch=segmentation.scratch,
        palette=segmentation.classes.palette,
        cloud=True,
    )


OUTPUT = Output(write_cog, endings=("_cog.tif",), packages=("rasterio",))
