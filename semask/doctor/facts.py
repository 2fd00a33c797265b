"""What one pair of files says, found out in a process of its own: a small record, whatever the size of the images."""

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.bands import Reading, Window
from semask.data.dataset import Label
from semask.data.images import (
    FORMATS,
    Picture,
    image_path,
    max_pixels,
    reach_of,
    read_image,
    read_mask,
    read_palette,
)
from semask.data.labels import color_codes
from semask.data.reading import is_photo
from semask.data.similarity import thumbnail
from semask.data.stored import StoredMask
from semask.data.survey import counted
from semask.doctor.records import Facts, Header, ImageFacts, MaskFacts
from semask.doctor.samples import PHOTOS
from semask.doctor.scenes import look_at_bands
from semask.files.reading import require_file
from semask.files.text import reason

MOST_VALUES = 256
"""Different values or colors of a mask that are kept: the most frequent ones."""
LOSSY = ("JPEG", "MPO", "WEBP")
SAMPLED_PIXELS = 4096
_ORIENTATION = 0x0112
THICK = 4
"""Side in pixels of a square that an object must hold somewhere, or it is called thin: the output stride."""


def facts_of(
    image: Picture, label: Label, reading: Reading = PHOTOS, window: Window | None = None, *, pixels: bool = True
) -> Facts:
    """Look at an image and its label.

    Args:
        image: The image.
        label: Its mask, or where its label is drawn from.
        reading: How the samples of the file become channels.
        window: Part of the image that the label is for; None for all of it.
        pixels: Decode both; otherwise only the headers are read, and of a label that is drawn nothing.
    """
    if is_bands(image, reading, window):
        image_header, image_facts = look_at_bands(image_path(image), reading, window, pixels=pixels)
    else:
        image_header, image_facts = _look_at_image(image, pixels=pixels)
    mask_header, mask_facts = _look_at_label(label, pixels=pixels)
    return Facts(image_header, mask_header, image_facts, mask_facts)


def is_bands(image: Picture, reading: Reading, window: Window | None) -> bool:
    """Whether an image is read by its bands, not as a photo, as `read_picture` decides."""
    return window is not None or not is_photo(image, reading)


def _look_at_image(image: Picture, *, pixels: bool) -> tuple[Header, ImageFacts | None]:
    header = read_header(image)
    if header.problem or not pixels:
        return header, None
    try:
        return header, image_facts(image, header)
    except ValueError as error:
        kind = "float-image" if header.mode in ("F", "I") else "corrupt-file"
        return _with_problem(header, kind, reason(error)), None


def _look_at_label(label: Label, *, pixels: bool) -> tuple[Header, MaskFacts | None]:
    file = mask_file(label)
    if file is None:
        if not pixels:
            return Header(), None
        try:
            header, raw = read_label(label)
        except Exception as error:  # of whatever reads the file of labels
            return Header(problem=reason(error), kind="corrupt-file"), None
        return header, mask_facts(raw)
    header = read_header(file)
    if header.problem or not pixels:
        return header, None
    try:
        facts = mask_facts(read_any_mask(file, header))
        return header, replace(facts, palette=_palette(file, facts)) if header.mode == "P" else facts
    except ValueError as error:
        return _with_problem(header, "corrupt-file", reason(error)), None


def mask_file(label: Label) -> Picture | None:
    """The image file that a label is, on the disk or in a table; None if it is made from something else."""
    return label if isinstance(label, Path | StoredMask) else None


def read_label(label: Label) -> tuple[Header, NDArray[Any]]:
    """Read a label, also one that training refuses: its header, and whole numbers [H, W] or colors [H, W, 3].

    Without them, and with a problem in the header, if its file can't be read.

    Raises:
        ValueError: If it can't be decoded or drawn.
    """
    file = mask_file(label)
    if file is None:
        assert not isinstance(label, Path)
        raw = label.read()
        return Header(height=raw.shape[0], width=raw.shape[1]), raw
    header = read_header(file)
    return header, np.empty((0, 0), dtype=np.uint8) if header.problem else read_any_mask(file, header)


def _palette(file: Picture, facts: MaskFacts) -> dict[int, int]:
    """Colors that the palette of a file has for the values of its mask."""
    colors = read_palette(file) or []
    kept = ((value, colors[value]) for value in facts.values if 0 <= value < len(colors))
    return {value: red << 16 | green << 8 | blue for value, (red, green, blue) in kept}


def opened(picture: Picture) -> Image.Image:
    """Open an image file on the disk or in a table, for its header; a context, which closes it.

    Raises:
        Exception: Whatever Pillow raises for a damaged one.
    """
    file = picture if isinstance(picture, Path) else io.BytesIO(picture.read_bytes())
    return Image.open(file, formats=FORMATS)


def read_header(picture: Picture) -> Header:
    """Read the header of an image file; what is wrong with it is part of the answer."""
    try:
        if isinstance(picture, Path):
            require_file(picture)
            empty = picture.stat().st_size == 0
        else:
            empty = not picture.read_bytes()
        if empty:
            return Header(problem=f"{image_path(picture).name}: the file is empty (0 bytes)", kind="empty-file")
        with opened(picture) as image:
            known = {
                "format": str(image.format),
                "mode": image.mode,
                "height": image.height,
                "width": image.width,
                "frames": int(getattr(image, "n_frames", 1)) if image.format != "MPO" else 1,
            }
            turn = image.getexif().get(_ORIENTATION, 1)
        if image.width * image.height > max_pixels():
            said = f"{image.width} x {image.height} pixels"
            return Header(**known, problem=said, kind="too-large")  # type: ignore[arg-type]
        orientation = turn if type(turn) is int and 1 <= turn <= 8 else 1
        return Header(**known, orientation=orientation)  # type: ignore[arg-type]
    except Image.DecompressionBombError as error:
        return Header(problem=reason(error), kind="too-large")
    except PermissionError as error:
        return Header(problem=reason(error), kind="unreadable-file")
    except Exception:  # damaged files make Pillow's readers raise nearly anything
        return _refused(picture)


def _refused(picture: Picture) -> Header:
    """The header of a file that can't be opened: what training says of it."""
    try:
        read_image(picture)
    except ValueError as error:
        said = reason(error)
        unknown = "not an image of a known format" in said or "which is not read" in said
        could = "cannot be opened" not in said
        return Header(problem=said, kind="unknown-file" if unknown else "corrupt-file" if could else "unreadable-file")
    return Header(problem="its header is damaged", kind="corrupt-file")


def _with_problem(header: Header, kind: str, problem: str) -> Header:
    return replace(header, problem=problem, kind=kind)


def image_facts(picture: Picture, header: Header) -> ImageFacts:
    """Look at the pixels of an image.

    Raises:
        ValueError: If it can't be decoded.
    """
    with_alpha = header.mode in ("RGBA", "LA", "PA", "P")
    image = read_image(picture, channels=4 if with_alpha else 3, upright=False)
    values = np.asarray(image)  # [H, W, C]
    flat = values.reshape(-1, values.shape[-1])
    some = flat[:: max(1, len(flat) // SAMPLED_PIXELS)]
    reach = reach_of(image)
    digest = hashlib.sha256(repr((values.shape, header.orientation)).encode() + values.tobytes())
    return ImageFacts(
        digest=digest.hexdigest()[:32],
        thumbnail=thumbnail(image).tobytes().hex(),
        colors=len(np.unique(some[:, :3], axis=0)),
        blank=bool((flat[:, :3] == flat[0, :3]).all()),
        transparent=float((flat[:, 3] < 128).mean()) if with_alpha else 0.0,
        highest=reach.highest if reach else 0,
        dark=bool(reach and reach.dark),
    )


def read_any_mask(file: Picture, header: Header) -> NDArray[Any]:
    """Read a mask as training does; also those that training refuses: lossy ones, and floats as rounded numbers.

    Returns:
        Whole numbers [H, W], or colors [H, W, 3].

    Raises:
        ValueError: If it can't be decoded.
    """
    if header.format not in LOSSY and header.mode not in ("F", "CMYK", "YCbCr", "LAB", "HSV"):
        return read_mask(file)
    try:
        with opened(file) as image:
            if image.mode == "F":
                whole = np.nan_to_num(np.rint(np.array(image, dtype=np.float64)))
                return whole.clip(-(2**31), 2**31 - 1).astype(np.int32)
            gray = image.mode in ("L", "LA", "1")
            values = np.array(image.convert("L" if gray else "RGB"))
    except Exception as error:
        raise ValueError(f"{image_path(file).name}: the image is damaged ({reason(error)})") from error
    if values.ndim == 3 and (np.ptp(values.astype(np.int16), axis=-1) <= 2).all():
        return values[..., 0]  # gray, saved as colors
    return values


def mask_facts(raw: NDArray[Any]) -> MaskFacts:
    """Look at the values or colors of a mask.

    Args:
        raw: Whole numbers [H, W], or colors [H, W, 3].
    """
    digest = hashlib.sha256(repr((raw.shape, str(raw.dtype))).encode() + np.ascontiguousarray(raw).tobytes())
    present, counts, colored = counted(raw)
    flat = color_codes(raw) if colored else raw
    order = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    thin: tuple[int, ...] = ()
    if len(present) <= MOST_VALUES and min(flat.shape) >= 2 * THICK:
        inner = np.isin(present, flat[:-3, :-3][_same_squares(flat)])
        thin = tuple(int(value) for value in present[~inner])
    values = {int(present[i]): int(counts[i]) for i in order}
    return MaskFacts(colored, values, len(present), thin, digest.hexdigest()[:32])


def _same_squares(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the 4 x 4 pixels right of and below each one are of its value: [H - 3, W - 3]."""
    rows = values[:, 1:] == values[:, :-1]  # [H, W - 1]
    rows = rows[:, 2:] & rows[:, 1:-1] & rows[:, :-2]  # [H, W - 3]: 4 in a row
    columns = values[1:] == values[:-1]  # [H - 1, W]
    columns = (columns[2:] & columns[1:-1] & columns[:-2])[:, :-3]  # [H - 3, W - 3]: 4 in a column
    same: NDArray[np.bool_] = columns & rows[:-3] & rows[1:-2] & rows[2:-1] & rows[3:]
    return same
