"""What one pair of files says, found out in a process of its own: a small record, whatever the size of the images."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.dataset import Label, label_path
from semask.data.images import FORMATS, max_pixels, reach_of, read_image, read_mask
from semask.data.similarity import thumbnail
from semask.files.reading import require_file
from semask.files.text import reason

MOST_VALUES = 256
"""Different values or colors of a mask that are kept: the most frequent ones."""
LOSSY = ("JPEG", "MPO", "WEBP")
SAMPLED_PIXELS = 4096
_ORIENTATION = 0x0112
THICK = 4
"""Side in pixels of a square that an object must hold somewhere, or it is called thin: the output stride."""


@dataclass(frozen=True)
class Header:
    """What the header of a file says.

    Args:
        format: Pillow's name of the format, e.g. "PNG"; "" for what is no image file.
        mode: Pillow's name of the kind of pixels, e.g. "RGB".
        height: Stored rows.
        width: Stored columns.
        orientation: EXIF orientation, 1 to 8; 1 is upright.
        frames: Frames or pages.
        problem: What is wrong with the file, in the words of training; "" if nothing is.
        kind: Name of the finding for the problem.
    """

    format: str = ""
    mode: str = ""
    height: int = 0
    width: int = 0
    orientation: int = 1
    frames: int = 1
    problem: str = ""
    kind: str = ""

    @property
    def stored(self) -> tuple[int, int]:
        """Height and width as stored."""
        return self.height, self.width

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width after the turn."""
        turned = self.orientation >= 5 and self.format != "TIFF"
        return (self.width, self.height) if turned else (self.height, self.width)


@dataclass(frozen=True)
class ImageFacts:
    """What the pixels of an image say.

    Args:
        digest: Hash of the pixels and the turn.
        thumbnail: 256 gray values in hexadecimal digits.
        colors: Different colors among up to 4096 pixels.
        blank: Whether all pixels are the same.
        transparent: Share of pixels that are more than half transparent.
        highest: Greatest sample of more than 8 bits; 0 for 8 bits.
        dark: Whether these samples use less than a quarter of their range.
    """

    digest: str = ""
    thumbnail: str = ""
    colors: int = 0
    blank: bool = False
    transparent: float = 0.0
    highest: int = 0
    dark: bool = False


@dataclass(frozen=True)
class MaskFacts:
    """What the pixels of a mask say.

    Args:
        colored: Whether they are colors.
        values: Value, or color as 0xRRGGBB -> pixels; the most frequent ones.
        distinct: Different values or colors.
        thin: Values or colors whose objects are nowhere as wide as 4 pixels.
        digest: Hash of the pixels.
        palette: For values of a mask with a palette: value -> its color 0xRRGGBB.
    """

    colored: bool = False
    values: dict[int, int] = field(default_factory=dict)
    distinct: int = 0
    thin: tuple[int, ...] = ()
    digest: str = ""
    palette: dict[int, int] = field(default_factory=dict)

    @property
    def pixels(self) -> int:
        """Pixels whose values are kept."""
        return sum(self.values.values())


@dataclass(frozen=True)
class Facts:
    """What a pair says: headers, and pixels where they were read."""

    image: Header
    mask: Header
    image_pixels: ImageFacts | None = None
    mask_pixels: MaskFacts | None = None


def facts_of(image: Path, label: Label, *, pixels: bool = True) -> Facts:
    """Look at an image and its label.

    Args:
        image: The image.
        label: Its mask, or where its label is drawn from.
        pixels: Decode both; otherwise only the headers are read, and of a label that is drawn nothing.
    """
    image_header, image_facts = _look_at_image(image, pixels=pixels)
    mask_header, mask_facts = _look_at_label(label, pixels=pixels)
    return Facts(image_header, mask_header, image_facts, mask_facts)


def _look_at_image(path: Path, *, pixels: bool) -> tuple[Header, ImageFacts | None]:
    header = read_header(path)
    if header.problem or not pixels:
        return header, None
    try:
        return header, image_facts(path, header)
    except ValueError as error:
        kind = "float-image" if header.mode in ("F", "I") else "corrupt-file"
        return _with_problem(header, kind, reason(error)), None


def _look_at_label(label: Label, *, pixels: bool) -> tuple[Header, MaskFacts | None]:
    path = label_path(label)
    if not isinstance(label, Path):
        if not pixels:
            return Header(), None
        try:
            raw = label.read()
        except Exception as error:  # of whatever reads the file of labels
            return Header(problem=reason(error), kind="corrupt-file"), None
        return Header(height=raw.shape[0], width=raw.shape[1]), mask_facts(raw)
    header = read_header(path)
    if header.problem or not pixels:
        return header, None
    try:
        facts = mask_facts(read_any_mask(path, header))
        return header, replace(facts, palette=_palette(path, facts.values)) if header.mode == "P" else facts
    except ValueError as error:
        return _with_problem(header, "corrupt-file", reason(error)), None


def _palette(path: Path, values: Iterable[int]) -> dict[int, int]:
    """Colors that the palette of a file has for some values."""
    with Image.open(path, formats=FORMATS) as image:
        parts = image.getpalette() or []
    kept = (value for value in values if 0 <= value < len(parts) // 3)
    return {value: parts[3 * value] << 16 | parts[3 * value + 1] << 8 | parts[3 * value + 2] for value in kept}


def read_header(path: Path) -> Header:
    """Read the header of an image file; what is wrong with it is part of the answer."""
    try:
        require_file(path)
        if path.stat().st_size == 0:
            return Header(problem=f"{path.name}: the file is empty (0 bytes)", kind="empty-file")
        with Image.open(path, formats=FORMATS) as image:
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
        return _refused(path)


def _refused(path: Path) -> Header:
    """The header of a file that can't be opened: what training says of it."""
    try:
        read_image(path)
    except ValueError as error:
        said = reason(error)
        unknown = "not an image of a known format" in said or "which is not read" in said
        opened = "cannot be opened" not in said
        return Header(problem=said, kind="unknown-file" if unknown else "corrupt-file" if opened else "unreadable-file")
    return Header(problem="its header is damaged", kind="corrupt-file")


def _with_problem(header: Header, kind: str, problem: str) -> Header:
    return replace(header, problem=problem, kind=kind)


def image_facts(path: Path, header: Header) -> ImageFacts:
    """Look at the pixels of an image.

    Raises:
        ValueError: If it can't be decoded.
    """
    with_alpha = header.mode in ("RGBA", "LA", "PA", "P")
    image = read_image(path, channels=4 if with_alpha else 3, upright=False)
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


def read_any_mask(path: Path, header: Header) -> NDArray[Any]:
    """Read a mask as training does; also those that training refuses: lossy ones, and floats as rounded numbers.

    Returns:
        Whole numbers [H, W], or colors [H, W, 3].

    Raises:
        ValueError: If it can't be decoded.
    """
    if header.format not in LOSSY and header.mode not in ("F", "CMYK", "YCbCr", "LAB", "HSV"):
        return read_mask(path)
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode == "F":
                whole = np.nan_to_num(np.rint(np.array(image, dtype=np.float64)))
                return whole.clip(-(2**31), 2**31 - 1).astype(np.int32)
            gray = image.mode in ("L", "LA", "1")
            values = np.array(image.convert("L" if gray else "RGB"))
    except Exception as error:
        raise ValueError(f"{path.name}: the image is damaged ({reason(error)})") from error
    if values.ndim == 3 and (np.ptp(values.astype(np.int16), axis=-1) <= 2).all():
        return values[..., 0]  # gray, saved as colors
    return values


def mask_facts(raw: NDArray[Any]) -> MaskFacts:
    """Look at the values or colors of a mask.

    Args:
        raw: Whole numbers [H, W], or colors [H, W, 3].
    """
    digest = hashlib.sha256(repr((raw.shape, str(raw.dtype))).encode() + np.ascontiguousarray(raw).tobytes())
    colored = raw.ndim == 3
    flat = codes(raw) if colored else raw
    if flat.dtype == np.uint8:
        counts = np.bincount(flat.ravel(), minlength=256)
        present = np.flatnonzero(counts)
        counts = counts[present]
    else:
        present, counts = np.unique(flat, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    thin: tuple[int, ...] = ()
    if len(present) <= MOST_VALUES and min(flat.shape) >= 2 * THICK:
        inner = np.isin(present, flat[:-3, :-3][_same_squares(flat)])
        thin = tuple(int(value) for value in present[~inner])
    values = {int(present[i]): int(counts[i]) for i in order}
    return MaskFacts(colored, values, len(present), thin, digest.hexdigest()[:32])


def codes(colors: NDArray[Any]) -> NDArray[np.int32]:
    """Colors [H, W, 3] as numbers 0xRRGGBB [H, W]."""
    return colors.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)


def _same_squares(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the 4 x 4 pixels right of and below each one are of its value: [H - 3, W - 3]."""
    rows = values[:, 1:] == values[:, :-1]  # [H, W - 1]
    rows = rows[:, 2:] & rows[:, 1:-1] & rows[:, :-2]  # [H, W - 3]: 4 in a row
    columns = values[1:] == values[:-1]  # [H - 1, W]
    columns = (columns[2:] & columns[1:-1] & columns[:-2])[:, :-3]  # [H - 3, W - 3]: 4 in a column
    same: NDArray[np.bool_] = columns & rows[:-3] & rows[1:-2] & rows[2:-1] & rows[3:]
    return same
