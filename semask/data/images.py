"""Files to pixels: every image becomes 8-bit RGB, every mask an array of the numbers in the file.

What cameras and tools write is read as they mean it: 16-bit samples are scaled to 8 bits, CMYK, palette and gray images
become RGB, alpha is dropped, of an animation the first frame is taken, and the EXIF orientation is applied. What cannot
be read is a `ValueError` of one line that names the file.
"""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from semask.data.file_types import file_type
from semask.files.reading import require_file
from semask.files.text import one_line, reason

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif")
"""Endings, in lower case, of the files that count as images."""

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
"""Endings, in lower case, of the files that count as masks: only formats that keep every value."""

MAX_PIXELS = 2 * 89_478_485
"""Largest image in pixels (Pillow's own limit); the environment variable SEMASK_MAX_PIXELS sets another one."""

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")
"""Formats that Pillow may read; it knows others that start programs."""
_LOSSY_FORMATS = ("JPEG", "MPO", "WEBP")  # MPO: the JPEG of phones, with several pictures
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
ALPHA = ("LA", "RGBA")
"""Modes with an alpha channel."""
# Pillow stretches gray files of 2 and 4 bits to 0..255; a mask needs the numbers of the file.
_PHOTOMETRIC, _MIN_IS_WHITE = 262, 0  # of a TIFF; with 8 bits Pillow turns the samples itself
_STRETCH = {"L;2": 85, "L;4": 17}
_REACH, _GEOREFERENCED = "semask reach", "semask georeferenced"  # in `info` of an image
_GEO_TAGS = (33550, 33922, 34264, 34735)  # of a TIFF: scale, tie points, matrix, keys
_DARK = 0.25
"""Fraction of the range that 16-bit samples must reach, or the image is called dark."""


class ImageSource(Protocol):
    """An image that is not a file of its own, for example a cell of a table."""

    @property
    def path(self) -> Path:
        """A name for messages and splits: the file that holds it, and its place in there."""

    def read_bytes(self) -> bytes:
        """Read what would be the file of the image.

        Raises:
            ValueError: If it can't be read, is missing or too large.
        """


Picture = Path | ImageSource
"""Where an image is."""


def image_path(image: str | Picture) -> Path:
    """The file of an image, or the name of what is not a file of its own."""
    return Path(image) if isinstance(image, str | Path) else image.path


class Reach(NamedTuple):
    """How much of their range the samples of an image of more than 8 bits use.

    Args:
        highest: Greatest sample; of colors that Pillow hands over with 8 bits, at most that.
        bits: Bits of a sample.
    """

    highest: int
    bits: int

    @property
    def most(self) -> int:
        """Greatest value that a sample can have."""
        return (1 << self.bits) - 1

    @property
    def dark(self) -> bool:
        """Whether the 8 bits that the model gets are nearly black; not if the image is all black in the file too."""
        return 0 < self.highest < _DARK * self.most

    def __str__(self) -> str:
        """For example "16-bit values reach 3,000 of 65,535"."""
        return f"{self.bits}-bit values reach {self.highest:,} of {self.most:,}"


def dark_line(reaches: Mapping[Path, Reach]) -> str | None:
    """One line that warns of dark images and counts them; None if there are none."""
    dark = {path: reach for path, reach in reaches.items() if reach.dark}
    if not dark:
        return None
    path, reach = next(iter(dark.items()))
    more = f" (and {len(dark) - 1} more images)" if len(dark) > 1 else ""
    return (
        f"{one_line(path)}: {reach}, so the image is nearly black as the model sees it: "
        f"stretch it to the full range first{more}"
    )


def reach_of(image: Image.Image) -> Reach | None:
    """Range of the samples in the file that `read_image` read; None if they have 8 bits."""
    reach: Reach | None = image.info.get(_REACH)
    return reach


def is_georeferenced(image: Image.Image) -> bool:
    """Whether `read_image` read a TIFF that says where on earth it lies."""
    return bool(image.info.get(_GEOREFERENCED))


def read_image(path: str | Picture, *, channels: int = 3, upright: bool = True) -> Image.Image:
    """Read a photograph as 8-bit samples.

    Args:
        path: JPEG, PNG, TIFF, BMP, WebP or GIF file of any color mode, 8 or 16 bits a sample; or its source.
        channels: 3 for RGB, 1 for gray (mode "L"), 4 for RGBA.
        upright: Turn the image as its EXIF orientation says; False gives the stored rows and columns.

    Returns:
        Image of mode "RGB", "L" or "RGBA", detached from the file.

    Raises:
        ValueError: The file is missing, empty, damaged, no image or too large, or its samples are of 32 bits.
    """
    if channels not in _MODES:
        raise ValueError(f"channels={channels}: images are read with 1 (gray), 3 (RGB) or 4 (RGBA) channels")
    image, rawmode = _load(path, upright=upright)
    try:
        converted = _eight_bit(image, path).convert(_MODES[channels])
    except ValueError as error:
        raise ValueError(
            f"{one_line(image_path(path))}: cannot be read as {_MODES[channels]}: {reason(error)}"
        ) from error
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    converted.info[_REACH] = _reach(image, rawmode)
    converted.info[_GEOREFERENCED] = any(tag in tags for tag in _GEO_TAGS)
    return converted


def read_small(path: str | Picture, *, side: int) -> Image.Image:
    """Read a photograph in gray, at a fraction of its size where its format decodes one faster (JPEG).

    Args:
        path: As for `read_image`.
        side: Least height and width in pixels of what is read, if the image has them.

    Returns:
        Image of mode "L", turned as its EXIF orientation says.

    Raises:
        ValueError: As `read_image`.
    """
    image, _ = _load(path, upright=True, side=side)
    return _eight_bit(image, path).convert("L")


def read_mask(path: str | Picture) -> NDArray[Any]:
    """Read the numbers of a mask as the file has them: palette entries as indices, 1-bit as 0 and 1.

    Args:
        path: PNG, TIFF, BMP or GIF file of mode P, L, 1, I;16, I, RGB or RGBA; alpha is dropped, see `AlphaMask`.

    Returns:
        Array [H, W] of uint8 or int32, or [H, W, 3] uint8 for a mask of colors.

    Raises:
        ValueError: The file is missing, empty, damaged or too large, or its format does not keep label values.
    """
    image, rawmode = _load_mask(path)
    if image.mode in ALPHA:
        *colors, alpha = image.getextrema()
        if all(low == high for low, high in colors) and alpha[0] != alpha[1]:  # type: ignore[index,misc]
            raise ValueError(
                f"{one_line(image_path(path))}: all pixels of the mask have one color, only its alpha channel differs: "
                "set data.mask_channel to alpha, or save class indices in one channel"
            )
        image = image.convert(image.mode.removesuffix("A"))
    if image.mode in ("P", "L", "RGB"):
        return np.array(image) // np.uint8(_STRETCH.get(rawmode, 1))
    if image.mode == "1":
        return np.array(image).astype(np.uint8)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return np.array(image).astype(np.int32)
    raise ValueError(
        f"{one_line(image_path(path))}: a mask of mode {image.mode} has no label values: save indices (modes P, L, "
        "I;16) as PNG"
    )


def load_mask(path: str | Picture) -> Image.Image:
    """Decode the file of a mask, with all its channels.

    Raises:
        ValueError: The file is missing, empty, damaged or too large, or its format does not keep label values.
    """
    return _load_mask(path)[0]


def read_palette(path: str | Picture) -> list[tuple[int, int, int]] | None:
    """Read the colors of a file with a palette, in their order, without its pixels; None if it has none.

    Raises:
        ValueError: As `read_size`.
    """
    try:
        with _open(path) as image:
            colors = (image.getpalette() or []) if image.mode == "P" else None
    except Exception as error:
        raise _explained(path, error) from error
    return None if colors is None else list(zip(colors[::3], colors[1::3], colors[2::3], strict=True))


def read_size(path: str | Picture, *, upright: bool = True) -> tuple[int, int]:
    """Read the size from the header of a file, without decoding the pixels where the format allows it.

    Args:
        path: Image or mask file.
        upright: Height and width after the EXIF orientation is applied; False gives the stored ones.

    Returns:
        Height and width in pixels.

    Raises:
        ValueError: As `read_image`, except for damage beyond the header.
    """
    try:
        with _open(path) as image:
            swapped = upright and image.format != "TIFF" and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.width, image.height) if swapped else (image.height, image.width)
    except Exception as error:
        raise _explained(path, error) from error


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    """Make the file of a picture in memory: Pillow may not notice that a disk is full when it writes for itself."""
    buffer = io.BytesIO()
    picture.save(buffer, format=format, **options)
    return buffer.getvalue()


def _load(path: str | Picture, *, upright: bool, side: int | None = None) -> tuple[Image.Image, str]:
    """Decode the first frame; also returns Pillow's name of the sample layout in the file ("" if it has none)."""
    try:
        with _open(path) as image:
            if side is not None:
                image.draft("L", (side, side))
            layout = image.tile[0].args if image.tile else ""
            rawmode = layout[0] if isinstance(layout, tuple) and layout else layout
            image.load()
            if upright:
                ImageOps.exif_transpose(image, in_place=True)
            return image, str(rawmode)
    except Exception as error:  # damaged files make Pillow's readers raise nearly anything
        raise _explained(path, error) from error


def _load_mask(path: str | Picture) -> tuple[Image.Image, str]:
    image, rawmode = _load(path, upright=False)
    if image.format in _LOSSY_FORMATS:
        raise ValueError(
            f"{one_line(image_path(path))}: {image.format} does not keep label values exactly: save masks as PNG"
        )
    return image, rawmode


def _open(path: str | Picture) -> ImageFile.ImageFile:
    try:
        if isinstance(path, str | Path):
            file: Path | io.BytesIO = require_file(path, otherwise="give the path of an image")
        else:
            file = io.BytesIO(path.read_bytes())
    except ValueError as error:
        raise _Complete(str(error)) from error
    limit = max_pixels()
    if Image.MAX_IMAGE_PIXELS is not None and limit > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit  # Pillow has no other way to let a larger image pass
    image = Image.open(file, formats=FORMATS)
    if image.width * image.height > limit:
        image.close()
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels, the limit is {limit}")
    return image


def max_pixels() -> int:
    """Largest image in pixels: `MAX_PIXELS`, or what the environment variable SEMASK_MAX_PIXELS says."""
    text = os.environ.get("SEMASK_MAX_PIXELS", str(MAX_PIXELS))
    if not text.isdecimal() or int(text) == 0:
        raise _Complete(f"the environment variable SEMASK_MAX_PIXELS is {text!r}: expected a number of pixels")
    return int(text)


class _Complete(ValueError):
    """The message is complete: the environment is wrong, or there is no file."""


def _explained(image: str | Picture, error: Exception) -> ValueError:
    """The error for a user: which file, what is wrong, what to do."""
    path = image_path(image)
    name = one_line(path)
    if isinstance(error, _Complete):
        return error
    if isinstance(error, OSError) and error.strerror is not None:
        return ValueError(f"{name}: cannot be opened: {error.strerror}")
    if isinstance(error, MemoryError):
        return ValueError(f"{name}: there is not enough memory to read it: make it smaller, or see `predict --tile`")
    if isinstance(error, Image.DecompressionBombError):
        said = reason(error).removesuffix(", could be decompression bomb DOS attack.")
        return ValueError(f"{name}: too large: {said}; if you trust it, set SEMASK_MAX_PIXELS to a larger number")
    size = path.stat().st_size if isinstance(image, str | Path) else len(image.read_bytes())
    if size == 0:
        return ValueError(f"{name}: the file is empty (0 bytes): copy it again or remove it")
    known = file_type(path)
    if known is not None and (known.unsupported or isinstance(error, UnidentifiedImageError)):
        return ValueError(f"{name}: is {known.description}, which is not read: {known.advice}")
    if isinstance(error, UnidentifiedImageError):
        return ValueError(f"{name}: not an image of a known format ({', '.join(FORMATS)}), or its header is damaged")
    return ValueError(f"{name}: the image is damaged ({reason(error)}): copy it again or remove it")


def _eight_bit(image: Image.Image, path: str | Picture) -> Image.Image:
    if image.mode.startswith("I;16"):
        samples = (np.array(image) >> 8).astype(np.uint8)
        negative = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _MIN_IS_WHITE  # type: ignore[attr-defined]
        return Image.fromarray(255 - samples if negative else samples)
    if image.mode in ("I", "F"):
        raise ValueError(f"samples of 32 bits have no known range: convert {image_path(path).name} to 8 or 16 bits")
    return image


def _reach(image: Image.Image, rawmode: str) -> Reach | None:
    """Range of the samples of an image as Pillow gives it, 16 bits or the upper 8 of them."""
    if image.mode.startswith("I;16"):
        return Reach(int(np.array(image).max()), 16)
    if ";16" not in rawmode:
        return None
    colors = image.getextrema()[: 1 if image.mode == "LA" else 3]
    return Reach(max(int(high) for _, high in colors) << 8 | 255, 16)  # type: ignore[misc]
