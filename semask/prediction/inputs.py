"""Images of any kind as arrays, and the windows that they are cut into. Without torch."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.bands import Reading, ValueRange
from semask.data.images import max_pixels
from semask.data.reading import read_picture
from semask.files.text import one_line, reason
from semask.settings.inference import Inference

MOST_WINDOWS = 2**15
"""Windows of one image, so that settings of anybody's file end some time."""
Picture = str | Path | Image.Image
"""One image that can't be taken for several."""
NOT_FINITE = (
    "the model gives NaN or infinite scores: its weights are damaged, or the image needs more than 16 bits; try fp32 "
    "or another checkpoint"
)
"""What is said of a broken model."""


def is_one(image: object) -> bool:
    """Whether one image is meant, or what is none, and not several."""
    dimensions = getattr(image, "ndim", None)  # of an array or a tensor
    if dimensions is not None:
        return bool(dimensions != 4)
    return isinstance(image, str | bytes | Mapping | os.PathLike | Image.Image) or not isinstance(image, Iterable)


@contextlib.contextmanager
def numbered(number: int | None) -> Iterator[None]:
    """Say which image of a list an error is about; `number` is its place, None for a single image."""
    try:
        yield
    except ValueError as error:
        if number is None:
            raise
        raise ValueError(f"image {number} of the list (from 0): {reason(error, longest=1000)}") from error


def to_array(image: object, *, channels: int, reading: Reading | None = None) -> NDArray[Any]:
    """Bring an image to [H, W, C], uint8 or float32 in [0, 1].

    Args:
        image: Path, PIL image, or array [H, W, C] or [H, W]; anything else is refused. Whole numbers are samples as
            files have them where the model has a range for them.
        channels: Channels C that it has to have.
        reading: How files are read; None: as photos.

    Raises:
        ValueError: If it can't be read, or has another shape or number of channels.
    """
    if isinstance(image, str | os.PathLike):
        if os.path.isdir(image):
            raise ValueError(f"{one_line(image)}: a folder: give its images, e.g. sorted(Path(folder).glob('*.jpg'))")
        return read_picture(Path(image), reading or Reading(channels)).pixels
    if isinstance(image, Image.Image):
        if image.mode[0] in "IF":  # converting cuts off what is above 255
            raise ValueError(f"image of mode {image.mode}: give the path of its file, or an array of float in [0, 1]")
        image = np.array(image.convert({1: "L", 3: "RGB", 4: "RGBA"}.get(channels, "RGB")))
    if not isinstance(image, np.ndarray):
        kind = type(image).__name__
        hint = "open it with PIL.Image.open(io.BytesIO(...))" if isinstance(image, bytes) else "give one of these"
        raise ValueError(f"image is a {kind}, not a path, PIL image, array [H, W, C] or tensor [C, H, W]: {hint}")
    value_range = None if reading is None else reading.value_range
    if value_range is not None and np.issubdtype(image.dtype, np.integer):
        image = in_range(image, value_range)
    array = _from_array(image, channels)
    require_shape((array.shape[2], *array.shape[:2]), channels)
    if array.dtype != np.uint8 and (not np.isfinite(array).all() or array.min() < 0 or array.max() > 1):
        raise ValueError(outside(value_range))
    return array


def in_range(image: NDArray[Any], value_range: ValueRange) -> NDArray[np.float32]:
    """Bring whole numbers [H, W, C] or [H, W], as files have them, to [0, 1] by the range of the model."""
    low, high = (np.array(side, np.float64) for side in zip(*value_range, strict=True))  # [C]
    values = image[..., None] if image.ndim == 2 else image
    if values.shape[-1] not in (1, len(low)):
        return image.astype(np.float32)  # what is wrong is told of its shape
    scaled: NDArray[np.float32] = np.clip((values - low) / (high - low), 0, 1).astype(np.float32)
    return scaled


def outside(value_range: ValueRange | None) -> str:
    """What is said of an image of floats that are not in [0, 1]."""
    advice = "divide by the largest possible value"
    if value_range is not None:
        advice = "give whole numbers or the path of a file, or bring them there by the model's value_range"
    return f"image has float values outside [0, 1]: {advice}"


def _from_array(image: NDArray[Any], channels: int) -> NDArray[Any]:
    """Array [H, W, C], or [H, W] for all channels alike -> a copy [H, W, C] of uint8 or float32.

    Raises:
        ValueError: If it has another shape, or other values than an image has.
    """
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"image has values of type {image.dtype}: give uint8, or float in [0, 1]")
    if image.ndim == 2:
        image = np.repeat(image[..., None], channels, axis=-1)
    if image.ndim != 3:
        raise ValueError(f"image array has shape {list(image.shape)}: give [H, W, C] or [H, W]")
    if image.shape[0] == channels != image.shape[-1]:
        raise ValueError(
            f"image array has shape {list(image.shape)}, but arrays are [H, W, C] with {channels} channels: is this "
            "[C, H, W]? transpose it (array.transpose(1, 2, 0)) or give a tensor"
        )
    return np.array(image, dtype=np.uint8 if image.dtype == np.uint8 else np.float32)


def require_shape(shape: Sequence[int], channels: int) -> None:
    """Refuse an image whose shape is not [C, H, W] with the channels that the model takes.

    Raises:
        ValueError: If it has another shape.
    """
    if len(shape) == 3 and shape[0] == channels and 0 not in shape:
        return
    turned = len(shape) == 3 and shape[-1] == channels
    raise ValueError(
        f"image has shape {list(shape)} as [C, H, W], the model takes {channels} channels: "
        + ("is this [H, W, C]? " if turned else "")
        + "give an array [H, W, C] or a tensor [C, H, W]"
    )


def require_pixels(size: tuple[int, int]) -> None:
    """Refuse to enlarge an image beyond what is read from a file.

    Raises:
        ValueError: If the settings ask for it.
    """
    if size[0] * size[1] > (most := max_pixels()):
        raise ValueError(
            f"evaluation.scale and ratios make an image of {size[0]:,} x {size[1]:,}, more than {most:,} pixels: set "
            "them lower, or SEMASK_MAX_PIXELS higher"
        )


def windows(size: tuple[int, int], inference: Inference) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """Cut an image into overlapping windows; those at the right and the bottom edge are moved inside.

    Args:
        size: Height H and width W of the image that the model sees.
        inference: Crop and stride; a window is never larger than the image.

    Returns:
        Height and width of the windows, and row and column of the first pixel of each.

    Raises:
        ValueError: If there are too many.
    """
    (H, W), stride = size, inference.stride
    height, width = min(inference.crop[0], H), min(inference.crop[1], W)
    rows, columns = starts(H, height, stride[0]), starts(W, width, stride[1])
    if len(rows) * len(columns) > MOST_WINDOWS:
        raise ValueError(
            f"an image of {H} x {W} has {len(rows) * len(columns):,} windows of {height} x {width}, a stride of "
            f"{stride} apart, more than {MOST_WINDOWS:,}: set evaluation.crop and evaluation.stride larger"
        )
    return (height, width), [(y, x) for y in rows for x in columns]


def starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows start along an axis, the last one moved inside.

    >>> starts(100, 40, 30), starts(40, 40, 30), starts(101, 40, 30)
    ([0, 30, 60], [0], [0, 30, 60, 61])
    """
    count = -(-(length - crop) // stride) + 1
    return [min(i * stride, length - crop) for i in range(count)]
