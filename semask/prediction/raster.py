"""Image files that do not fit into memory: read by windows, with rasterio (GDAL), the extra `geo`.

Photos are read by the rules of `read_image`, other bands and samples by those of `semask.data.bands`.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.bands import Bands, Reading, Window
from semask.data.geo_files import NoImage, explained, gdal, open_file, orientation
from semask.data.images import Reach, read_image
from semask.files.reading import read_text
from semask.files.text import one_line
from semask.prediction.files import WORLD_FILES, Unreadable
from semask.prediction.pictures import to_picture

READ_ROWS = 64
"""Rows of an image that are read at once."""


class Place(NamedTuple):
    """Where on earth an image lies: coordinate reference system (None: unknown) and transform, as rasterio has them."""

    crs: Any
    transform: Any


class Raster:
    """An image file whose rows are read when they are needed, with the samples that `read_image` gives.

    A file that is stored turned (EXIF) is read whole, within the limit of `read_image`: windows can't turn it.

    Args:
        path: Image file; of the files of several bands the first.
        channels: Bands that the model takes; a file with just as many is taken as it is, whatever they are.
        reading: How the samples become channels, where it is not as those of photos do.
        nodata: Value that says in all of these bands that a pixel is no data, whatever the file declares.

    Raises:
        Unreadable: If it is missing, damaged, no image, or its samples are not of 8 or 16 bits.
        ValueError: If rasterio is not installed.
    """

    def __init__(self, path: Path, *, channels: int, reading: Reading | None = None, nodata: int | None = None) -> None:
        self.path, self.channels, self.nodata = path, channels, nodata
        self.highest = 0
        self.other: Bands | None = None
        if reading is not None and not reading.photos:
            with self._explained():
                self.other = Bands(path, reading)
            self.dataset, self.height, self.width = self.other.files[0], self.other.height, self.other.width
            self.is_tiff = self.dataset.driver == "GTiff"
            return
        with self._explained():
            self.dataset = open_file(path)
        with self._explained():
            self._describe()

    def _describe(self) -> None:
        """Find out how the bands of the file become those of the model."""
        data, path, channels = self.dataset, self.path, self.channels
        if set(data.dtypes) not in ({"uint8"}, {"uint16"}):
            raise Unreadable(
                f"{one_line(path)}: samples of {data.dtypes[0]} have no known range: convert them to 8 or 16 bits"
            )
        self.bits = int(data.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8 * np.dtype(data.dtypes[0]).itemsize))
        kinds = [kind.name for kind in data.colorinterp]
        self.palette = data.colormap(1) if kinds[0] == "palette" else None
        self.is_tiff = data.driver == "GTiff"
        self.negative = data.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES" and not self.palette
        self.bands = list(range(1, channels + 1))
        self.mode: str | None = None
        if self.palette or data.count != channels:
            colors = [band for band, kind in enumerate(kinds, start=1) if kind != "alpha"]
            self.bands = colors[:3] if len(colors) >= 3 and not self.palette else colors[:1]
            self.mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels)
            if self.mode is None:
                raise Unreadable(
                    f"{one_line(path)}: {data.count} bands, the model takes {channels}: give a file with as many"
                )
        self.upright: NDArray[np.uint8] | None = None
        if orientation(path, data) != 1:
            try:
                upright = np.array(read_image(path, channels=channels))
            except ValueError as error:
                raise Unreadable(str(error)) from error
            self.upright = upright.reshape(*upright.shape[:2], channels).transpose(2, 0, 1)
        self.height, self.width = (data.height, data.width) if self.upright is None else self.upright.shape[1:]

    @property
    def place(self) -> Place | None:
        """Where a TIFF lies; None for other files."""
        with self._explained():  # a reference system can be damaged too
            return place_of(self.dataset, self.path) if self.is_tiff else None

    @property
    def reach(self) -> Reach | None:
        """How much of their range the samples use that were read so far; None if they have 8 bits or are negative."""
        if self.other is not None:
            return self.other.reach
        return Reach(self.highest, self.bits) if self.bits > 8 and not self.negative else None

    def windows(self, windows: Sequence[range]) -> Iterator[NDArray[Any]]:
        """Read windows of as many rows each, from top to bottom; rows that they share are read once.

        Yields:
            [C, rows, W] uint8, or float32 in [0, 1] where the model has a range, until the next is asked for.
        """
        kind = np.float32 if self.other is not None and self.other.reading.value_range is not None else np.uint8
        pixels = np.empty((self.channels, len(windows[0]), self.width) if windows else 0, kind)
        end = 0
        for window in windows:
            known = max(end - window.start, 0)
            pixels[:, :known] = pixels[:, pixels.shape[1] - known :].copy()
            for first in range(known, len(window), READ_ROWS):
                last = min(first + READ_ROWS, len(window))
                pixels[:, first:last] = self._rows(window[first:last])
            end = window.stop
            yield pixels

    def invalid(self, rows: range) -> NDArray[np.bool_] | None:
        """Which pixels [n, W] are no data, as a TIFF says by value, mask or alpha, or as `nodata` says; None: none."""
        if self.other is not None:
            with self._explained():
                return self.other.read(Window(rows, range(self.width)), nodata=self.nodata).holes
        declared = self._declared(rows)
        if self.nodata is None:
            return declared
        with self._explained():
            window = ((rows.start, rows.stop), (0, self.width))
            pixels = self.dataset.read(self.bands, window=window) if self.upright is None else self._rows(rows)
        empty: NDArray[np.bool_] = (pixels == self.nodata).all(axis=0)
        return empty if declared is None else empty | declared

    def _declared(self, rows: range) -> NDArray[np.bool_] | None:
        """Which pixels [n, W] of a photo are no data, as a TIFF says by value, mask or alpha; None: none can be."""
        if not self.is_tiff or self.upright is not None:
            return None
        if all("all_valid" in (flag.name for flag in flags) for flags in self.dataset.mask_flag_enums):
            return None
        with self._explained():
            window = ((rows.start, rows.stop), (0, self.width))
            invalid: NDArray[np.bool_] = self.dataset.dataset_mask(window=window) == 0
            return invalid

    def overview(self, factor: int) -> Image.Image:
        """Read every `factor`-th pixel of every `factor`-th row; a reading at a smaller size takes a PNG whole."""
        step = factor * max(READ_ROWS // factor, 1)
        pixels = [
            self._rows(range(first, min(first + step, self.height)))[:, ::factor, ::factor].copy()
            for first in range(0, self.height, step)
        ]
        return to_picture(np.concatenate(pixels, axis=1).transpose(1, 2, 0))

    def close(self) -> None:
        """Close the file."""
        if self.other is not None:
            self.other.close()
        self.dataset.close()

    def _rows(self, rows: range) -> NDArray[Any]:
        if self.other is not None:
            with self._explained():
                return self.other.read(Window(rows, range(self.width)), nodata=self.nodata).image
        if self.upright is not None:
            return self.upright[:, rows.start : rows.stop]
        with self._explained():
            return self._converted(self.dataset.read(self.bands, window=((rows.start, rows.stop), (0, self.width))))

    def _converted(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """Samples as they are in the file to the 8-bit bands of the model, by Pillow's rules."""
        if self.palette:
            table = np.array([self.palette.get(i, (0, 0, 0))[:3] for i in range(256)], np.uint8)
            pixels = table[pixels[0]].transpose(2, 0, 1)
        elif self.bits < 8:
            pixels = pixels * np.uint8(255 // (2**self.bits - 1))
        else:
            if self.bits > 8:
                data = pixels if self.dataset.nodata is None else pixels[pixels != self.dataset.nodata]
                self.highest = max(self.highest, int(data.max(initial=0)))
            pixels = (pixels >> (self.bits - 8)).astype(np.uint8)
        if self.negative:
            pixels = 255 - pixels
        if self.mode is None:
            return pixels
        converted = np.array(to_picture(pixels.transpose(1, 2, 0)).convert(self.mode))
        return converted.reshape(*converted.shape[:2], self.channels).transpose(2, 0, 1)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Say of whatever GDAL raises that the image is at fault."""
        try:
            with explained(self.path):
                yield
        except Unreadable:
            raise
        except NoImage as error:
            raise Unreadable(str(error)) from error


def place_of(dataset: Any, path: Path) -> Place:
    """Where an open TIFF lies; a world file next to it says where, if the file itself does not."""
    transform = dataset.transform
    for suffix in WORLD_FILES if transform.is_identity else ():
        with contextlib.suppress(ValueError):
            a, d, b, e, c, f = map(float, read_text(path.with_suffix(suffix), most=2000).split())
            # It says where the middle of the first pixel lies, a transform where its corner.
            return Place(dataset.crs, type(transform)(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2))
    return Place(dataset.crs, transform)


def place_and_holes(
    path: Path, size: tuple[int, int], *, nodata: int | None = None
) -> tuple[Place | None, NDArray[np.bool_] | None]:
    """Where an image lies that was read whole, if it is a TIFF, and which of its pixels [H, W] are no data.

    Args:
        path: The file.
        size: Height and width as it was read. If the file has others, it was turned, and lies nowhere.
        nodata: Value that says in all colors that a pixel is no data, whatever the file declares.

    Raises:
        ImportError: If rasterio is not installed.
        Unreadable: If GDAL can't read the file.
    """
    import rasterio  # noqa: F401

    channels = 1 if nodata is None else 3
    with gdal(), contextlib.closing(Raster(path, channels=channels, nodata=nodata)) as image:
        if (image.height, image.width) != size or (image.place is None and nodata is None):
            return None, None
        return image.place, image.invalid(range(image.height))
