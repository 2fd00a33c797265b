"""An image file read in one piece: what the model sees of it, and where on earth it lies."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.bands import Bands, Reading
from semask.data.images import Reach, is_georeferenced, reach_of, read_image
from semask.data.reading import is_photo
from semask.prediction.files import has_world_file
from semask.prediction.pictures import to_picture

if TYPE_CHECKING:
    from semask.prediction.raster import Place


class Whole(NamedTuple):
    """An image that was read in one piece.

    Args:
        image: What a predictor takes: a PIL image, or an array [H, W, C].
        picture: What is drawn of it.
        reach: How much of their range its samples use; None if they have 8 bits, or the model has a range for them.
        place: Where it lies; None: nowhere, or not known.
        holes: Where it has no data [H, W]; None: nowhere, or not known.
        unplaced: Whether it is georeferenced and rasterio is missing to say where.
    """

    image: Any
    picture: Image.Image
    reach: Reach | None = None
    place: "Place | None" = None
    holes: NDArray[np.bool_] | None = None
    unplaced: bool = False


def read_whole(file: Path, reading: Reading, *, nodata: int | None = None) -> Whole:
    """Read an image as a model takes it.

    Args:
        file: The file; of the files of several bands the first.
        reading: How its samples become channels.
        nodata: Value that says in all channels that a pixel is no data, in addition to what the file declares.

    Raises:
        ValueError: If it can't be read.
    """
    if not is_photo(file, reading):
        return _read_bands(file, reading, nodata)
    image = read_image(file, channels=reading.channels)
    found = Whole(image, image, reach_of(image))
    georeferenced = is_georeferenced(image) or (file.suffix.lower() in (".tif", ".tiff") and has_world_file(file))
    if not georeferenced and nodata is None:
        return found
    from semask.prediction.raster import place_and_holes

    try:
        place, holes = place_and_holes(file, (image.height, image.width), nodata=nodata)
    except ImportError:
        return found._replace(unplaced=True)
    return found._replace(place=place if georeferenced else None, holes=holes)


def _read_bands(file: Path, reading: Reading, nodata: int | None) -> Whole:
    from semask.prediction.raster import place_of

    with Bands(file, reading) as bands:
        pixels = bands.read(nodata=nodata)
        image = np.ascontiguousarray(pixels.image.transpose(1, 2, 0))
        place = place_of(bands.files[0], file) if bands.files[0].driver == "GTiff" else None
        return Whole(image, to_picture(image), bands.reach, place, pixels.holes)
