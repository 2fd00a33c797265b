"""Image files that do not fit into memory: read and written by windows, with rasterio (GDAL), the extra `geo`.

Photos are read by the rules of `read_image`, other bands and samples by those of `semask.data.bands`.
"""

import contextlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.bands import Bands, Reading, Window
from semask.data.classes import IGNORE_INDEX, Color
from semask.data.geo_files import (
    SETTINGS,
    NoImage,
    explained,
    gdal,
    import_rasterio,
    local_name,
    open_file,
    orientation,
)
from semask.data.images import Reach, read_image
from semask.files.atomic import written_whole
from semask.files.reading import read_text
from semask.files.text import one_line, reason
from semask.prediction.files import WORLD_FILES, Unreadable
from semask.prediction.pictures import to_picture

READ_ROWS = 64
"""Rows of an image that are read at once."""
BLOCK = 512
"""Side of the blocks of a GeoTIFF that is written, in pixels."""


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

    Raises:
        Unreadable: If it is missing, damaged, no image, or its samples are not of 8 or 16 bits.
        ValueError: If rasterio is not installed.
    """

    def __init__(self, path: Path, *, channels: int, reading: Reading | None = None) -> None:
        self.path, self.channels = path, channels
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
        """Which pixels [n, W] a TIFF says to be no data, by value, mask or alpha; None: none can be."""
        if self.other is not None:
            with self._explained():
                return self.other.read(Window(rows, range(self.width))).holes
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
                return self.other.read(Window(rows, range(self.width))).image
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


def place_and_holes(path: Path, size: tuple[int, int]) -> tuple[Place | None, NDArray[np.bool_] | None]:
    """Where a TIFF lies that was read whole, and which of its pixels [H, W] are no data.

    Args:
        path: The file.
        size: Height and width as it was read. If the file has others, it was turned, and lies nowhere.

    Raises:
        ImportError: If rasterio is not installed.
        Unreadable: If GDAL can't read the file.
    """
    import rasterio  # noqa: F401

    with gdal(), contextlib.closing(Raster(path, channels=1)) as image:
        if (image.height, image.width) != size or image.place is None:
            return None, None
        return image.place, image.invalid(range(image.height))


def write(
    target: Path,
    rows: Iterable[NDArray[np.uint8]],
    size: tuple[int, int],
    *,
    place: Place | None,
    scratch: Path,
    palette: Sequence[Color] = (),
) -> None:
    """Write a map of the size of an image: a GeoTIFF in its place on earth, or a PNG; and read it again.

    Args:
        target: File to write.
        rows: The map from top to bottom, `BLOCK` rows at a time, [BLOCK, W]; the last may have fewer.
        size: Height and width.
        place: Where the GeoTIFF lies; None for a PNG.
        scratch: Folder for a GeoTIFF that a PNG is made of.
        palette: Colors of class indices; a TIFF says then that `IGNORE_INDEX` is no data.

    Raises:
        ValueError: If it can't be written; what was there before is untouched.
    """
    rasterio = import_rasterio()
    with written_whole(target) as temporary, _writing():
        tiff = temporary if place else scratch / f"{target.stem}.tif"
        sums = []
        with rasterio.open(
            local_name(tiff), "w", driver="GTiff", dtype="uint8", count=1, height=size[0], width=size[1],
            tiled=True, blockxsize=BLOCK, blockysize=BLOCK, compress="deflate", BIGTIFF="IF_SAFER",
            nodata=IGNORE_INDEX if place and palette else None, **(place._asdict() if place else {}),
        ) as file:  # fmt: skip
            if palette:
                file.write_colormap(1, {i: palette[i] if i < len(palette) else (0, 0, 0) for i in range(256)})
            first = 0
            for part in rows:
                file.write(part, 1, window=((first, first + len(part)), (0, size[1])))
                sums.append(zlib.crc32(part.tobytes()))
                first += len(part)
        if not place:
            _verify(tiff, "GTiff", size, sums)
            rasterio.shutil.copy(local_name(tiff), local_name(temporary), driver="PNG")
        _verify(temporary, "GTiff" if place else "PNG", size, sums)


def _verify(path: Path, driver: str, size: tuple[int, int], sums: Sequence[int]) -> None:
    """Compare a file with the checksums of its parts: GDAL does not notice every write that fails.

    Raises:
        OSError: If it holds something else.
    """
    with import_rasterio().open(local_name(path), driver=driver) as file:
        for part, expected in enumerate(sums):
            first = part * BLOCK
            window = ((first, min(first + BLOCK, size[0])), (0, size[1]))
            if zlib.crc32(file.read(1, window=window).tobytes()) != expected:
                raise OSError("what was written is not what can be read: is the disk full?")


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Turn what rasterio raises into the errors of the system that it stands for."""
    rasterio = import_rasterio()
    try:
        with rasterio.Env(**SETTINGS):
            yield
    except Exception as error:
        if not type(error).__module__.startswith("rasterio"):
            raise
        raise OSError(reason(error.__cause__ or error)) from error
