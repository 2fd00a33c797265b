"""Drawing label maps: colors, overlays with a legend, and the steps of the model side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from semask.data.classes import IGNORE_INDEX, Classes

LEGEND_WIDTH = 180
MARGIN = 6
MOST_JPEG = 65_000
"""Longest side in pixels of a picture that, with its legend, can be a JPEG."""


def to_picture(image: NDArray[Any]) -> Image.Image:
    """Make an RGB picture of an image [H, W, C], uint8 or float in [0, 1]: of its first 3 channels, or the first."""
    channels = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    if channels.dtype != np.uint8:
        channels = (channels * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(channels))


def colorize(label: NDArray[np.uint8], classes: Classes) -> Image.Image:
    """Paint a label map [H, W] in the colors of its classes; ignored pixels are black."""
    return Image.fromarray(_table(classes)[label])


def index_mask(label: NDArray[np.uint8], classes: Classes) -> Image.Image:
    """Make a palette image whose pixel values are the class indices of a label map [H, W]."""
    mask = Image.fromarray(label)
    mask.putpalette(_table(classes).tobytes())  # turns the image into mode P; the indices stay
    return mask


def overlay(image: Image.Image, label: NDArray[np.uint8], classes: Classes, *, opacity: float = 0.55) -> Image.Image:
    """Lay the colors of a label map [H, W] over its image; opacity from 0 (image only) to 1 (colors only)."""
    return Image.blend(image.convert("RGB"), colorize(label, classes), opacity)


def with_legend(picture: Image.Image, label: NDArray[np.uint8], classes: Classes) -> Image.Image:
    """Put the names of the classes that occur in a label map at the right, the most frequent first."""
    strip = legend(picture.height, np.bincount(label.ravel(), minlength=IGNORE_INDEX + 1) / label.size, classes)
    canvas = Image.new("RGB", (picture.width + strip.width, strip.height), "white")
    canvas.paste(picture, (0, 0))
    canvas.paste(strip, (picture.width, 0))
    return canvas


def legend(height: int, shares: NDArray[np.float64], classes: Classes) -> Image.Image:
    """Draw the names and shares [256] of the classes that occur, the most frequent first, as a column."""
    shares = shares[: len(classes)]
    present = [int(i) for i in np.argsort(-shares, kind="stable") if shares[i] > 0]
    font_size = max(12, min(28, height // 30))
    row, width = font_size + 6, LEGEND_WIDTH * font_size // 12
    canvas = Image.new("RGB", (width, max(height, 2 * MARGIN + row)), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(font_size)
    rows = (canvas.height - 2 * MARGIN) // row
    for line, i in enumerate(present[:rows]):
        x, y = MARGIN, MARGIN + line * row
        if line == rows - 1 and len(present) > rows:
            draw.text((x, y), f"and {len(present) - line} more", fill="black", font=font)
            break
        draw.rectangle((x, y + 2, x + font_size, y + 2 + font_size), fill=classes.palette[i], outline="black")
        text = _shortened(f"{classes.names[i]} {shares[i]:.1%}", font, width - font_size - 3 * MARGIN)
        draw.text((x + font_size + MARGIN, y), text, fill="black", font=font)
    return canvas


def confidence_map(confidence: NDArray[np.float32]) -> Image.Image:
    """Paint probabilities [H, W] from 0 (black) to 1 (white); scores of several masks can sum up to more."""
    return Image.fromarray((confidence.clip(0, 1) * 255).round().astype(np.uint8))


def side_by_side(pictures: Sequence[Image.Image], *, gap: int = 4) -> Image.Image:
    """Put pictures in a row, all at the height of the first."""
    height = pictures[0].height
    scaled = [p.convert("RGB").resize((max(round(p.width * height / p.height), 1), height)) for p in pictures]
    canvas = Image.new("RGB", (sum(p.width for p in scaled) + gap * (len(scaled) - 1), height), "white")
    x = 0
    for picture in scaled:
        canvas.paste(picture, (x, 0))
        x += picture.width + gap
    return canvas


def _table(classes: Classes) -> NDArray[np.uint8]:
    """Color of each label value, [256, 3]."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(classes)] = classes.palette
    return table


def _shortened(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    while len(text) > 4 and font.getlength(text) > width:
        text = text[:-2].rstrip("…") + "…"
    return text
