"""Image files that do not fit into memory: read and written by windows, with rasterio (GDAL), the extra `geo`."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from semask.data.dataset import IGNORE_INDEX, Color
from semask.data.images import read_image
from semask.files import written_whole
from semask.inference import to_image

READ_ROWS = 64
"""Rows of an image that are read at once."""
BLOCK = 512
"""Side of the blocks of a GeoTIFF that is written, in pixels."""
DRIVERS = ("GTiff", "PNG", "JPEG", "BMP", "WEBP", "GIF", "BIGGIF")
SETTINGS = {
    "GDAL_CACHEMAX": 64,  # MB of decoded blocks; else a share of the machine's memory
    # With these, JPEG and PNG files that are cut off are errors and not noise.
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
}


class Unreadable(ValueError):
    """The image is at fault, not a setting."""


class Raster:
    """An image file whose rows are read when they are needed, with the samples that `read_image` gives.

    A file that is stored turned (EXIF) is read whole, within the limit of `read_image`: windows can't turn it.

    Args:
        path: Image file.
        channels: Bands that the model takes; a file with just as many is taken as it is, whatever they are.

    Raises:
        Unreadable: If it is missing, damaged, no image, or its samples are not of 8 or 16 bits.
        ValueError: If rasterio is not installed.
    """

    def __init__(self, path: Path, *, channels: int) -> None:
        self.path, self.channels = path, channels
        with self._explained():
            self.dataset = data = import_rasterio().open(path)
        if data.driver not in DRIVERS:
            raise Unreadable(f"{path}: a file of kind {data.driver} is not read: convert it to TIFF or PNG")
        if set(data.dtypes) not in ({"uint8"}, {"uint16"}):
            raise Unreadable(f"{path}: samples of {data.dtypes[0]} have no known range: convert them to 8 or 16 bits")
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
                raise Unreadable(f"{path}: {data.count} bands, the model takes {channels}: give a file with as many")
        self.upright: NDArray[np.uint8] | None = None
        if self._turned():
            try:
                upright = np.array(read_image(path, channels=channels))
            except ValueError as error:
                raise Unreadable(str(error)) from error
            self.upright = upright.reshape(*upright.shape[:2], channels).transpose(2, 0, 1)
        self.height, self.width = (data.height, data.width) if self.upright is None else self.upright.shape[1:]

    def windows(self, windows: Sequence[range]) -> Iterator[Tensor]:
        """Read windows of as many rows each, from top to bottom; rows that they share are read once.

        Yields:
            [C, rows, W] uint8, until the next is asked for.
        """
        pixels = np.empty((self.channels, len(windows[0]), self.width) if windows else 0, np.uint8)
        end = 0
        for window in windows:
            known = max(end - window.start, 0)
            pixels[:, :known] = pixels[:, pixels.shape[1] - known :].copy()
            for first in range(known, len(window), READ_ROWS):
                last = min(first + READ_ROWS, len(window))
                pixels[:, first:last] = self._rows(window[first:last])
            end = window.stop
            yield torch.from_numpy(pixels)

    def invalid(self, rows: range) -> Tensor | None:
        """Which pixels [n, W] a TIFF says to be no data, by value, mask or alpha; None: none can be."""
        if not self.is_tiff or self.upright is not None:
            return None
        if all("all_valid" in (flag.name for flag in flags) for flags in self.dataset.mask_flag_enums):
            return None
        with self._explained():
            window = ((rows.start, rows.stop), (0, self.width))
            return torch.from_numpy(self.dataset.dataset_mask(window=window) == 0)

    def overview(self, factor: int) -> Image.Image:
        """Read every `factor`-th pixel of every `factor`-th row; a reading at a smaller size takes a PNG whole."""
        step = factor * max(READ_ROWS // factor, 1)
        pixels = [
            self._rows(range(first, min(first + step, self.height)))[:, ::factor, ::factor].copy()
            for first in range(0, self.height, step)
        ]
        return to_image(torch.from_numpy(np.concatenate(pixels, axis=1)))

    def close(self) -> None:
        """Close the file."""
        self.dataset.close()

    def _rows(self, rows: range) -> NDArray[np.uint8]:
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
            pixels = (pixels >> (self.bits - 8)).astype(np.uint8)
        if self.negative:
            pixels = 255 - pixels
        if self.mode is None:
            return pixels
        converted = np.array(to_image(torch.from_numpy(pixels)).convert(self.mode))
        return converted.reshape(*converted.shape[:2], self.channels).transpose(2, 0, 1)

    def _turned(self) -> bool:
        if self.dataset.crs is not None:
            return False
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(self.path) as image:
                # Pillow decodes a whole PNG to look for an orientation behind the pixels, where hardly any has it.
                known = image.format != "PNG" or not {"exif", "Raw profile type exif"}.isdisjoint(image.info)
                return known and image.getexif().get(0x0112, 1) != 1
        except Exception:  # Pillow's readers raise nearly anything, first of all for files that are too large for them
            return bool(self.dataset.tags().get("EXIF_Orientation", "1") != "1")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise Unreadable(f"{self.path}: no image, or damaged ({reason}): copy it again or convert it") from error


def import_rasterio() -> Any:
    """Import rasterio, which the extra `geo` installs.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import rasterio
        import rasterio.shutil
    except ImportError as error:
        raise ValueError("tiles are read and written with rasterio: pip install 'semask[geo]'") from error
    return rasterio


@contextlib.contextmanager
def gdal() -> Iterator[None]:
    """Set up GDAL for reading by windows: little memory, and damaged files are errors.

    Raises:
        ValueError: If rasterio is not installed.
    """
    rasterio = import_rasterio()
    with warnings.catch_warnings(), rasterio.Env(**SETTINGS):
        warnings.simplefilter("ignore", category=rasterio.errors.NotGeoreferencedWarning)
        yield


def write(
    target: Path, rows: Iterable[NDArray[np.uint8]], like: Raster, scratch: Path, *, palette: Sequence[Color] = ()
) -> None:
    """Write a map of the size of an image: a GeoTIFF in its place on earth if it is a TIFF, else a PNG.

    Args:
        target: File to write.
        rows: The map from top to bottom, `BLOCK` rows at a time, [BLOCK, W]; the last may have fewer.
        like: The image.
        scratch: Folder for a GeoTIFF that a PNG is made of.
        palette: Colours of class indices; a TIFF says then that `IGNORE_INDEX` is no data.

    Raises:
        ValueError: If it can't be written; what was there before is untouched.
    """
    rasterio = import_rasterio()
    with written_whole(target) as temporary:
        tiff = temporary if like.is_tiff else scratch / f"{target.stem}.tif"
        place = {"crs": like.dataset.crs, "transform": like.dataset.transform} if like.is_tiff else {}
        with rasterio.open(
            tiff, "w", driver="GTiff", dtype="uint8", count=1, height=like.height, width=like.width,
            tiled=True, blockxsize=BLOCK, blockysize=BLOCK, compress="deflate", BIGTIFF="IF_SAFER",
            nodata=IGNORE_INDEX if like.is_tiff and palette else None, **place,
        ) as file:  # fmt: skip
            if palette:
                file.write_colormap(1, {i: palette[i] if i < len(palette) else (0, 0, 0) for i in range(256)})
            first = 0
            for part in rows:
                file.write(part, 1, window=((first, first + len(part)), (0, like.width)))
                first += len(part)
        if not like.is_tiff:
            with rasterio.Env(GDAL_PAM_ENABLED="NO"):
                rasterio.shutil.copy(tiff, temporary, driver="PNG")
