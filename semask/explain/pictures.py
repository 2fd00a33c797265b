"""Pictures of an explanation: maps in colors, at their own size or small enough for a page."""

import base64

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.images import encoded

RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""Colors from low to high: evenly brighter, also for readers who do not see all colors (viridis)."""
LEVELS = 64
"""Steps of a map of fractions: enough for the eye, and a PNG of half the size."""
LAST = (150, 150, 150)
"""Color of the decoder, which is no stage."""


def ramp(count: int) -> NDArray[np.uint8]:
    """Colors from low to high, [count, 3]."""
    places = np.linspace(0, len(RAMP) - 1, count)
    channels = [np.interp(places, range(len(RAMP)), channel) for channel in zip(*RAMP, strict=True)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def fractions(values: NDArray[np.float32], *, highest: float = 1.0) -> Image.Image:
    """Paint a map of numbers from 0 to `highest`."""
    scaled = np.clip(values / (highest or 1.0), 0, 1) * (LEVELS - 1)
    return indexed(scaled.round().astype(np.uint8), ramp(LEVELS))


def indexed(values: NDArray[np.uint8], colors: NDArray[np.uint8]) -> Image.Image:
    """Paint a map of indices in colors [n, 3]."""
    picture = Image.fromarray(values)
    picture.putpalette(colors.tobytes())
    return picture


def step_colors(stages: int) -> NDArray[np.uint8]:
    """Colors of the stages and the decoder, [stages + 1, 3]."""
    return np.concatenate([ramp(max(stages, 2))[:stages], np.array([LAST], np.uint8)])


def count_colors(stages: int) -> NDArray[np.uint8]:
    """Colors of 0, 1, ... different classes, [stages + 1, 3]; nothing has 0."""
    return np.concatenate([np.zeros((1, 3), np.uint8), ramp(max(stages, 2))[:stages]])


def fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width of a picture that is made smaller until no side is longer than `side`."""
    factor = min(1.0, side / max(size))
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)


def smaller(picture: Image.Image, side: int) -> Image.Image:
    """Make a picture smaller; colors of a palette are not mixed."""
    height, width = fitted((picture.height, picture.width), side)
    exact = picture.mode == "P"
    return picture.resize((width, height), Image.Resampling.NEAREST if exact else Image.Resampling.BILINEAR)


def data_url(picture: Image.Image) -> str:
    """A picture as text that a page can hold: PNG with a palette, JPEG of a photo."""
    if picture.mode == "P":
        return f"data:image/png;base64,{base64.b64encode(encoded(picture, 'PNG', optimize=True)).decode()}"
    return f"data:image/jpeg;base64,{base64.b64encode(encoded(picture, 'JPEG', quality=82)).decode()}"
