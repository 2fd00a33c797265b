"""Small pictures for the page: an image, and its mask in colors, or what can be shown of them."""

import base64
import contextlib
from pathlib import Path

import numpy as np
from PIL import Image

from semask.data.classes import IGNORE_INDEX, Classes, default_palette
from semask.data.dataset import Label
from semask.data.images import encoded, read_image
from semask.doctor.facts import read_any_mask, read_header

SIDE = 220
"""Greatest side of a picture, in pixels."""


def picture_of_image(path: Path, *, upright: bool = True) -> Image.Image | None:
    """A small RGB picture of an image; None if it can't be read."""
    with contextlib.suppress(ValueError):
        return small(read_image(path, upright=upright))
    return None


def picture_of_label(label: Label, classes: Classes | None) -> Image.Image | None:
    """A small picture of a mask in colors, also of one that training refuses; None if it can't be read."""
    try:
        if not isinstance(label, Path):
            raw = label.read()
        else:
            header = read_header(label)
            if header.problem:
                return None
            raw = read_any_mask(label, header)
    except Exception:  # of whatever reads the file of labels; what is wrong with it is told elsewhere
        return None
    if raw.ndim == 3:
        return small(Image.fromarray(raw.astype(np.uint8)), exact=True)
    own = classes.palette if classes is not None else ()
    table = np.array([*own, *default_palette(IGNORE_INDEX)[len(own) :]], dtype=np.uint8)
    values = raw.astype(np.int64)
    colors = table[np.clip(values, 0, len(table) - 1)]  # [H, W, 3]
    colors[(values < 0) | (values >= IGNORE_INDEX)] = (255, 255, 255) if classes is None else (0, 0, 0)
    return small(Image.fromarray(colors), exact=True)


def overlaid(image: Image.Image, mask: Image.Image) -> Image.Image:
    """A picture with the colors of its mask over it; pixels that are black in the mask stay."""
    if image.size != mask.size:
        mask = mask.resize(image.size, Image.Resampling.NEAREST)
    shown = np.asarray(image).astype(np.float32)
    colors = np.asarray(mask).astype(np.float32)
    painted = colors.any(-1, keepdims=True)
    return Image.fromarray(np.where(painted, 0.5 * shown + 0.5 * colors, shown).astype(np.uint8))


def small(picture: Image.Image, *, exact: bool = False) -> Image.Image:
    """Scale a picture down to be shown, without new colors if it has to be exact."""
    picture = picture.convert("RGB")
    factor = min(1.0, SIDE / max(picture.size))
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.NEAREST if exact else Image.Resampling.BILINEAR)


def data_url(picture: Image.Image, *, exact: bool = False) -> str:
    """A picture as text that a page can hold: JPEG, or PNG if it has to be exact."""
    content = encoded(picture, "PNG") if exact else encoded(picture, "JPEG", quality=80)
    return f"data:image/{'png' if exact else 'jpeg'};base64,{base64.b64encode(content).decode()}"
