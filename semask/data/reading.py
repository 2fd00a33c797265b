"""One way to read the image of a sample, a photo or bands, whole or a window."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semask.data.bands import Bands, Reading, Window
from semask.data.file_types import has_fourth_band
from semask.data.images import Picture, Reach, image_path, reach_of, read_image, read_size


class ImageData(NamedTuple):
    """The image of a sample.

    Args:
        pixels: [H, W, C], uint8, or float32 in [0, 1].
        reach: How much of their range samples of 16 bits use of which the upper 8 were taken; else None.
        holes: Where it has no data [H, W]; None: nowhere.
    """

    pixels: NDArray[Any]
    reach: Reach | None = None
    holes: NDArray[np.bool_] | None = None


def is_photo(path: Picture, reading: Reading) -> bool:
    """Whether a file is read as a photo; one of four bands is not, unless the fourth is alpha."""
    if not isinstance(path, Path):
        return True
    return reading.photos and not (reading.channels == 4 and has_fourth_band(path))


def read_picture(path: Picture, reading: Reading, *, upright: bool = True, window: Window | None = None) -> ImageData:
    """Read an image.

    Args:
        path: The file; of the files of several bands the first.
        reading: How its samples become channels.
        upright: Turn the image as its EXIF orientation says.
        window: Part to read; None for all.

    Raises:
        ValueError: If it can't be read.
    """
    if window is None and is_photo(path, reading):
        image = read_image(path, channels=reading.channels, upright=upright)
        return ImageData(np.array(image).reshape(image.height, image.width, reading.channels), reach_of(image))
    with Bands(image_path(path), reading, upright=upright) as bands:
        found = bands.read(window)
        return ImageData(np.ascontiguousarray(found.image.transpose(1, 2, 0)), bands.reach, found.holes)


def read_picture_size(path: Picture, reading: Reading, *, upright: bool = True) -> tuple[int, int]:
    """Read height and width of an image.

    Raises:
        ValueError: If it can't be read.
    """
    if is_photo(path, reading):
        return read_size(path, upright=upright)
    with Bands(image_path(path), reading, upright=upright) as bands:
        return bands.height, bands.width
