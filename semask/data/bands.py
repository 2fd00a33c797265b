"""Images of any number of bands and any kind of samples: satellite scenes, elevation, microscopy.

    file(s) -> samples [C, h, w] as stored -> chosen bands -> (sample - low) / (high - low), in [0, 1] -> image

What a file calls no data, and NaN and infinity, is a hole: it gets the mean of its channel, which is 0 once normalized.
Files are opened with rasterio (GDAL), the extra `geo`, and can be read by windows.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from semask.data.geo_files import SETTINGS, NoImage, explained, gdal, import_rasterio, open_file, orientation
from semask.data.images import Reach, max_pixels
from semask.files.text import one_line

PHOTO_CHANNELS = (1, 3, 4)
"""Channels that files of photos are converted to: gray, RGB, RGBA."""
ValueRange = tuple[tuple[float, float], ...]
"""Lowest and highest sample of each channel, which become 0 and 1."""
_OPENING = threading.Lock()  # filters of warnings, which opening sets, belong to all threads


@dataclass(frozen=True)
class Reading:
    """How the samples of image files become the channels of an image.

    Args:
        channels: Channels C of the image.
        bands: Bands of the file to take, counted from 1, in the order of the channels; None for all of them.
        band_files: Endings of the names of the files that hold one image, such as ("_B02", "_B03"), in the order of the
            bands; None for one file.
        value_range: Sample of each channel that becomes 0, and that becomes 1; None: 8 bits as they are, of 16 the
            upper 8.
        fill: What a pixel without data is in each channel, in [0, 1]; None for 0.
        nodata: Sample that is no data, in addition to what the file says.
    """

    channels: int = 3
    bands: tuple[int, ...] | None = None
    band_files: tuple[str, ...] | None = None
    value_range: ValueRange | None = None
    fill: tuple[float, ...] | None = None
    nodata: float | None = None

    @property
    def photos(self) -> bool:
        """Whether files are read as photos, by `read_image`, which needs no rasterio."""
        special = (self.bands, self.band_files, self.value_range, self.nodata)
        return self.channels in PHOTO_CHANNELS and all(setting is None for setting in special)

    def for_model(self, config: Mapping[str, Any]) -> "Reading":
        """The same with the range of samples that a model was trained with, and its mean where there is no data.

        Args:
            config: The model's settings.
        """
        value_range = config.get("value_range")
        pairs = None if value_range is None else tuple((float(low), float(high)) for low, high in value_range)
        return replace(self, value_range=pairs, fill=tuple(config["mean"]))


class Window(NamedTuple):
    """Rows and columns of an image."""

    rows: range
    columns: range

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return len(self.rows), len(self.columns)


class Samples(NamedTuple):
    """Part of an image as it is stored.

    Args:
        values: Samples [C, h, w] of the kind that the file has.
        valid: Whether each is data [C, h, w]; None if all are.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_] | None


class Pixels(NamedTuple):
    """Part of an image as a model takes it.

    Args:
        image: [C, h, w], uint8, or float32 in [0, 1].
        holes: Where no channel has data [h, w]; None: nowhere.
    """

    image: NDArray[Any]
    holes: NDArray[np.bool_] | None


class Bands:
    """The bands of an image, in one file or several of one size; a context, which closes them.

    Args:
        path: The file; of several the first.
        reading: Which bands, and how their samples become channels.
        upright: Turn the image as its EXIF orientation says, for which it is read whole.

    Attributes:
        height: Rows.
        width: Columns.
        files: The open files, as rasterio has them.

    Raises:
        NoImage: If a file is missing, damaged or no image, or does not have the bands or the samples asked for.
        ValueError: If rasterio is not installed.
    """

    def __init__(self, path: Path, reading: Reading, *, upright: bool = True) -> None:
        import_rasterio("images of other bands and samples than photos are read")
        self.path, self.reading = path, reading
        self.highest = 0
        self.height = self.width = 0
        self.files: list[Any] = []
        try:
            with _OPENING, gdal():
                for file in files_of(path, reading.band_files):
                    with explained(file):
                        self.files.append(open_file(file))
                turned = orientation(path, self.files[0]) if upright else 1
            with explained(path):
                self._describe()
            self._upright: Samples | None = None
            if turned != 1:
                require_small(path, (self.height, self.width), reading.channels)
                self._upright = _turned(self._stored(Window(range(self.height), range(self.width))), turned)
                self.height, self.width = self._upright.values.shape[1:]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for file in self.files:
            file.close()

    @property
    def reach(self) -> Reach | None:
        """How much of their range the samples use that were read so far, where 16 bits are made 8; else None."""
        return Reach(self.highest, self.bits) if self.bits > 8 and self.reading.value_range is None else None

    def read(self, window: Window | None = None, *, nodata: int | None = None) -> Pixels:
        """Read a part of the image, or all of it, as the model takes it.

        Args:
            window: The part; None for all of it.
            nodata: Sample that makes a pixel a hole if all its channels have it, or no data.
        """
        samples = self.samples(window)
        if nodata is not None:
            samples = _without(samples, nodata)
        value_range = self.reading.value_range
        image: NDArray[Any] = (
            self._eight_bit(samples) if value_range is None else scaled(samples, value_range, self.reading.fill)
        )
        if samples.valid is None:
            return Pixels(image, None)
        holes: NDArray[np.bool_] = np.logical_not(samples.valid.any(axis=0))
        return Pixels(image, holes if holes.any() else None)

    def samples(self, window: Window | None = None) -> Samples:
        """Read the chosen bands of a part of the image, or of all of it, as they are stored."""
        if window is None:
            require_small(self.path, (self.height, self.width), self.reading.channels)
            window = Window(range(self.height), range(self.width))
        if self._upright is None:
            return self._stored(window)
        values, valid = self._upright
        part = (slice(None), *(slice(side.start, side.stop) for side in window))
        return Samples(values[part], None if valid is None else valid[part])

    def _describe(self) -> None:
        """Find out which bands of which files become the channels."""
        first = self.files[0]
        self.height, self.width = first.height, first.width
        for file in self.files[1:]:
            if (file.height, file.width) != (self.height, self.width):
                raise NoImage(
                    f"{one_line(file.name)}: {file.width} x {file.height} pixels, but {one_line(self.path.name)} has "
                    f"{self.width} x {self.height}: bring all bands of an image to one size first"
                )
        self.chosen = self._choose()
        kinds = {file.dtypes[band - 1] for file, band in self.chosen}
        kind = np.result_type(*kinds)
        if kind.kind == "c":
            raise NoImage(f"{one_line(self.path)}: complex numbers ({kind}): give their magnitude")
        if self.reading.value_range is None and kinds not in ({"uint8"}, {"uint16"}):
            raise NoImage(
                f"{one_line(self.path)}: samples of {kind} have no known range: train with data.measure range, or set "
                "model.value_range"
            )
        file, band = self.chosen[0]
        self.bits = int(file.tags(band, ns="IMAGE_STRUCTURE").get("NBITS", 8 * kind.itemsize))
        # A TIFF says by value, mask or alpha what is no data; the alpha of other files is for show.
        self.masked = any(
            file.driver == "GTiff" and "all_valid" not in (flag.name for flag in file.mask_flag_enums[band - 1])
            for file, band in self.chosen
        )

    def _choose(self) -> list[tuple[Any, int]]:
        """File and band of each channel."""
        channels, wanted = self.reading.channels, self.reading.bands
        every = [(file, band) for file in self.files for band in file.indexes]
        if any(file.colorinterp[0].name == "palette" for file in self.files):
            raise NoImage(f"{one_line(self.path)}: has a palette, whose numbers are no samples: convert it to RGB")
        if wanted is not None:
            if max(wanted) > len(every):
                raise NoImage(f"{one_line(self.path)}: has no band {max(wanted)}, only {len(every)}: see data.bands")
            return [every[band - 1] for band in wanted]
        colors = [(file, band) for file, band in every if file.colorinterp[band - 1].name != "alpha"]
        if len(colors) == 1:
            return colors * channels  # gray, whatever the number of channels
        chosen = next((bands for bands in (every, colors) if len(bands) == channels), None)
        if chosen is None:
            raise NoImage(
                f"{one_line(self.path)}: {len(every)} bands, the model takes {channels}: choose them with data.bands, "
                "or give a file with as many"
            )
        return chosen

    def _stored(self, window: Window) -> Samples:
        (rows, columns), chosen = window, self.chosen
        where = ((rows.start, rows.stop), (columns.start, columns.stop))
        kind = np.result_type(*(file.dtypes[band - 1] for file, band in chosen))
        values = np.empty((len(chosen), *window.size), kind)
        valid = np.ones(values.shape, np.bool_)
        with import_rasterio().Env(**SETTINGS):
            for file in self.files:
                places = [place for place, (owner, _) in enumerate(chosen) if owner is file]
                if not places:
                    continue
                bands = [chosen[place][1] for place in places]
                with explained(Path(file.name)):
                    values[places] = file.read(bands, window=where)
                    if self.masked and file.driver == "GTiff":
                        valid[places] = file.read_masks(bands, window=where) > 0
        if self.reading.nodata is not None:
            valid &= values != self.reading.nodata
        if kind.kind == "f":
            valid &= np.isfinite(values)
        return Samples(values, None if valid.all() else valid)

    def _eight_bit(self, samples: Samples) -> NDArray[np.uint8]:
        """The upper 8 bits."""
        values, valid = samples
        if self.bits > 8:
            self.highest = max(self.highest, int((values if valid is None else values[valid]).max(initial=0)))
        eight: NDArray[np.uint8] = (values >> max(self.bits - 8, 0)).astype(np.uint8)
        return eight


def files_of(path: Path, endings: Sequence[str] | None) -> list[Path]:
    """Files of one image, of which `path` is the first.

    Raises:
        NoImage: If its name does not have the first of the endings.

    >>> [file.name for file in files_of(Path("a_B02.tif"), ("_B02", "_B8A"))]
    ['a_B02.tif', 'a_B8A.tif']
    """
    if endings is None:
        return [path]
    if not path.stem.endswith(endings[0]):
        raise NoImage(
            f"{one_line(path)}: the name does not end in {one_line(endings[0])}, the first of data.band_files: give "
            "the file of that band"
        )
    return [path.with_name(f"{path.stem.removesuffix(endings[0])}{ending}{path.suffix}") for ending in endings]


def scaled(samples: Samples, value_range: ValueRange, fill: tuple[float, ...] | None) -> NDArray[np.float32]:
    """Bring samples [C, h, w] to [0, 1]: what is outside the range is clipped, holes get the fill of their channel."""
    values, valid = samples
    exact: Any = np.float32 if values.dtype.itemsize < 4 or values.dtype == np.float32 else np.float64
    limits: NDArray[Any] = np.array(value_range, np.float64)[:, :, None, None]  # [C, 2, 1, 1]
    low, spread = limits[:, 0].astype(exact), (limits[:, 1] - limits[:, 0]).astype(exact)
    with np.errstate(invalid="ignore", over="ignore"):  # of holes, which are replaced
        image: NDArray[np.float32] = np.clip((values.astype(exact) - low) / spread, 0, 1).astype(np.float32)
    if valid is not None:
        filled: NDArray[np.float32] = np.array(fill or [0] * len(image), np.float32)[:, None, None]
        image = np.where(valid, image, filled)
    return image


def _without(samples: Samples, nodata: int) -> Samples:
    """Call no data the pixels of which every channel has a value, or is no data already."""
    values, valid = samples
    data = values != nodata if valid is None else valid & (values != nodata)
    anywhere = data.any(axis=0)
    if anywhere.all():
        return samples
    return Samples(values, np.repeat(anywhere[None], len(values), axis=0) if valid is None else valid & anywhere)


def require_small(path: Path, size: tuple[int, int], channels: int) -> None:
    """Refuse to read an image whole that is too large for it.

    Raises:
        NoImage: If it has more pixels than `max_pixels`, or more samples than four channels of them.
    """
    (height, width), most = size, max_pixels()
    if height * width > most or height * width * channels > 4 * most:
        raise NoImage(
            f"{one_line(path)}: too large: {width} x {height} pixels of {channels} channels, the limit is {most:,} "
            "pixels: train on it with data.format raster, predict it with --tile, or set SEMASK_MAX_PIXELS higher"
        )


def _turned(samples: Samples, way: int) -> Samples:
    """Turn an image from how it is stored, an EXIF orientation of 2 to 8."""

    def turn(array: NDArray[Any]) -> NDArray[Any]:
        array = array.swapaxes(1, 2) if way >= 5 else array
        array = array[:, :, ::-1] if way in (2, 3, 6, 7) else array
        return array[:, ::-1] if way in (3, 4, 7, 8) else array

    return Samples(turn(samples.values), None if samples.valid is None else turn(samples.valid))
