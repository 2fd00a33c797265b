"""NAME.png or NAME.tif: the class index of each pixel, with the colors of the classes as palette."""

from semask.data.images import encoded
from semask.files.atomic import write_whole
from semask.prediction.output import Output
from semask.prediction.pictures import index_mask
from semask.prediction.segmentation import Segmentation


def write(segmentation: Segmentation) -> None:
    """Write the label map: a GeoTIFF of a TIFF with a place, else a PNG."""
    if segmentation.prediction is not None and segmentation.place is None:
        picture = index_mask(segmentation.prediction.label, segmentation.classes)
        write_whole(segmentation.path(".png"), encoded(picture, "PNG"))
        return
    from semask.prediction.raster_writing import BLOCK, write

    write(
        segmentation.path(".png" if segmentation.place is None else ".tif"),
        segmentation.rows(BLOCK),
        segmentation.size,
        place=segmentation.place,
        scratch=segmentation.scratch,
        palette=segmentation.classes.palette,
    )


OUTPUT = Output(write, endings=(".png", ".tif"))
