"""Image files that do not fit into memory: read by windows, with rasterio (GDAL), the extra `geo`.

GDAL takes many things for a file: addresses, archives, texts that name other files. Here it gets the name of a regular
file and the one driver that its first bytes ask for, and looks at no file next to it.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.images import FORMATS, Reach, read_image
from semask.files.reading import read_text, require_file
from semask.files.text import one_line, reason
from semask.prediction.files import WORLD_FILES, Unreadable
from semask.prediction.pictures import to_picture

READ_ROWS = 64
"""Rows of an image that are read at once."""
DRIVERS = {
    b"II*\0": ["GTiff"],
    b"MM\0*": ["GTiff"],
    b"II+\0": ["GTiff"],
    b"MM\0+": ["GTiff"],
    b"\x89PNG\r\n\x1a\n": ["PNG"],
    b"\xff\xd8\xff": ["JPEG"],
    b"BM": ["BMP"],
    b"GIF8": ["GIF", "BIGGIF"],
    b"RIFF": ["WEBP"],
}
"""First bytes of a file -> GDAL's drivers for it; none of them opens anything else."""
SETTINGS = {
    "GDAL_CACHEMAX": 64,  # MB of decoded blocks; else a share of the machine's memory
    # With these, JPEG and PNG files that are cut off are errors and not noise.
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
    # No files next to the image, which may name further ones; and no address is opened, should something name one.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
}


class Place(NamedTuple):
    """Where on earth an image lies: coordinate reference system (None: unknown) and transform, as rasterio has them."""

    crs: Any
    transform: Any


class Raster:
    """An image file whose rows are read when they are needed, with the samples that `read_image` gives.

    A file that is stored turned (EXIF) is read whole, within the limit of `read_image`: windows can't turn it.

    Args:
        path: Image file.
        channels: Bands that the model takes; a file with just as many is taken as it is, whatever they are.
        nodata: Value that says in all of these bands that a pixel is no data, whatever the file declares.

    Raises:
        Unreadable: If it is missing, damaged, no image, or its samples are not of 8 or 16 bits.
        ValueError: If rasterio is not installed.
    """

    def __init__(self, path: Path, *, channels: int, nodata: int | None = None) -> None:
        self.path, self.channels, self.nodata = path, channels, nodata
        self.highest = 0
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
        if self._turned():
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
        return Reach(self.highest, self.bits) if self.bits > 8 and not self.negative else None

    def windows(self, windows: Sequence[range]) -> Iterator[NDArray[np.uint8]]:
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
            yield pixels

    def invalid(self, rows: range) -> NDArray[np.bool_] | None:
        """Which pixels [n, W] are no data, as a TIFF says by value, mask or alpha, or as `nodata` says; None: none."""
        declared = self._declared(rows)
        if self.nodata is None:
            return declared
        with self._explained():
            window = ((rows.start, rows.stop), (0, self.width))
            pixels = self.dataset.read(self.bands, window=window) if self.upright is None else self._rows(rows)
        empty: NDArray[np.bool_] = (pixels == self.nodata).all(axis=0)
        return empty if declared is None else empty | declared

    def _declared(self, rows: range) -> NDArray[np.bool_] | None:
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

    def _turned(self) -> bool:
        if self.dataset.crs is not None:
            return False
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(self.path, formats=FORMATS) as image:
                # Pillow decodes a whole PNG to look for an orientation behind the pixels, where hardly any has it.
                known = image.format != "PNG" or not {"exif", "Raw profile type exif"}.isdisjoint(image.info)
                return known and image.getexif().get(0x0112, 1) != 1
        except Exception:  # Pillow's readers raise nearly anything, first of all for files that are too large for them
            return bool(self.dataset.tags().get("EXIF_Orientation", "1") != "1")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Say of whatever GDAL raises, which may be anything for a damaged file, that the image is at fault."""
        try:
            yield
        except (Unreadable, MemoryError):
            raise
        except UnicodeEncodeError as error:
            raise Unreadable(f"{one_line(self.path)}: the name of the file is no text: rename it") from error
        except Exception as error:
            said = reason(error.__cause__ or error)
            raise Unreadable(
                f"{one_line(self.path)}: no image, or damaged ({said}): copy it again or convert it"
            ) from error


def open_file(path: Path) -> Any:
    """Open an image with the driver of its first bytes, and no file or address but it.

    Raises:
        Unreadable: If there is no such file, or its first bytes are not those of an image.
        OSError: If GDAL can't read it; or another error of it.
    """
    rasterio = import_rasterio()
    try:
        require_file(path, otherwise="give the path of an image")
    except ValueError as error:
        raise Unreadable(str(error)) from error
    with open(path, "rb") as file:
        head = file.read(16)
    if not head:
        raise Unreadable(f"{one_line(path)}: no image, or damaged (the file is empty): copy it again or remove it")
    drivers = next((drivers for magic, drivers in DRIVERS.items() if head.startswith(magic)), None)
    if drivers is None or (drivers == ["WEBP"] and head[8:12] != b"WEBP"):
        raise Unreadable(
            f"{one_line(path)}: no image of a known format (TIFF, PNG, JPEG, BMP, WebP, GIF): convert it to TIFF or PNG"
        )
    with rasterio.Env(**SETTINGS):
        for driver in drivers[:-1]:
            with contextlib.suppress(rasterio.errors.RasterioIOError):
                return rasterio.open(local_name(path), driver=driver)
        return rasterio.open(local_name(path), driver=drivers[-1])


def local_name(path: Path) -> Path | str:
    """Name a file so that neither rasterio nor GDAL takes it for an address or an archive.

    >>> local_name(Path("/vsicurl/a.tif"))
    '/./vsicurl/a.tif'
    """
    path = path.absolute()
    return f"/.{path}" if str(path).startswith("/vsi") else path


def place_of(dataset: Any, path: Path) -> Place:
    """Where an open TIFF lies; a world file next to it says where, if the file itself does not."""
    transform = dataset.transform
    for suffix in WORLD_FILES if transform.is_identity else ():
        with contextlib.suppress(ValueError):
            a, d, b, e, c, f = map(float, read_text(path.with_suffix(suffix), most=2000).split())
            # It says where the middle of the first pixel lies, a transform where its corner.
            return Place(dataset.crs, type(transform)(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2))
    return Place(dataset.crs, transform)


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
