"""NAME_confidence.png or .tif: the probability of the chosen class, 0..255."""

from semask.data.images import encoded
from semask.files.atomic import write_whole
from semask.prediction.output import Output
from semask.prediction.pictures import confidence_map
from semask.prediction.segmentation import Segmentation


def write(segmentation: Segmentation) -> None:
    """Write the confidence: a GeoTIFF of a TIFF with a place, else a PNG."""
    prediction = segmentation.prediction
    if prediction is not None and prediction.confidence is not None and segmentation.place is None:
        picture = confidence_map(prediction.confidence)
        write_whole(segmentation.path("_confidence.png"), encoded(picture, "PNG"))
        return
    from semask.prediction.raster_writing import BLOCK, write

    assert segmentation.confidence is not None
    write(
        segmentation.path("_confidence.png" if segmentation.place is None else "_confidence.tif"),
        segmentation.confidence(BLOCK),
        segmentation.size,
        place=segmentation.place,
        scratch=segmentation.scratch,
    )


OUTPUT = Output(write, endings=("_confidence.png", "_confidence.tif"))
