"""What images of bands say, of which only a window may fit into memory."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.bands import Bands, Reading, Samples, Window
from semask.data.geo_files import orientation
from semask.data.similarity import thumbnail
from semask.doctor.records import Header, ImageFacts
from semask.files.text import reason

KNOWN = ("uint8", "uint16")
"""Kinds of samples whose range is known."""


def look_at_bands(
    path: Path, reading: Reading, window: Window | None, *, pixels: bool
) -> tuple[Header, ImageFacts | None]:
    """Look at an image of bands, or a part of it; what is wrong with it is part of the answer."""
    try:
        with Bands(path, _as_stored(reading), upright=False) as bands:
            height, width = window.size if window is not None else (bands.height, bands.width)
            file, band = bands.chosen[0]
            kind = str(file.dtypes[band - 1])
            turn = orientation(path, file) if window is None else 1
            header = Header(file.driver.replace("GTiff", "TIFF"), kind, height, width, turn)
            if kind not in KNOWN and reading.value_range is None:
                said = f"samples of {kind} have no known range: set data.measure to range"
                return replace(header, problem=said, kind="float-image"), None
            return header, _facts(bands.samples(window), window) if pixels else None
    except Exception as error:  # of whatever reads the file
        said = reason(error)
        return Header(problem=said, kind="too-large" if "too large" in said else "corrupt-file"), None


def picture_of_bands(path: Path, reading: Reading, window: Window | None) -> Image.Image:
    """The first bands of an image, or of a part of it, as a picture.

    Raises:
        ValueError: If it can't be read.
    """
    with Bands(path, _as_stored(reading)) as bands:
        return _picture(bands.samples(window))


def _as_stored(reading: Reading) -> Reading:
    """The same with samples of any range, which are not scaled here."""
    return replace(reading, value_range=((0.0, 1.0),) * reading.channels)


def _facts(samples: Samples, window: Window | None) -> ImageFacts:
    values = samples.values
    blank = bool((values == values[:, :1, :1]).all())
    digest = hashlib.sha256(repr((values.shape, str(values.dtype))).encode() + values.tobytes()).hexdigest()[:32]
    picture = _picture(samples)
    some = np.asarray(picture.convert("RGB")).reshape(-1, 3)[:: max(1, picture.width * picture.height // 4096)]
    return ImageFacts(
        # Scenes have parts of nothing but sea, or without data: that these are the same says nothing.
        digest="" if blank and window is not None else digest,
        thumbnail=thumbnail(picture).tobytes().hex(),
        colors=len(np.unique(some, axis=0)),
        blank=blank and window is None,
    )


def _picture(samples: Samples) -> Image.Image:
    """The first bands in 8 bits, each stretched to its range unless it has 8 bits."""
    values, valid = samples
    shown = values[:3] if len(values) >= 3 else values[:1]  # [1 or 3, H, W]
    if shown.dtype != np.uint8:
        shown = np.stack([_stretched(each, None if valid is None else valid[i]) for i, each in enumerate(shown)])
    return Image.fromarray(shown[0] if len(shown) == 1 else np.ascontiguousarray(shown.transpose(1, 2, 0)))


def _stretched(band: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    real = band.astype(np.float64)
    known = np.isfinite(real) if valid is None else valid & np.isfinite(real)
    if not known.any():
        return np.zeros(band.shape, dtype=np.uint8)
    low, high = real[known].min(), real[known].max()
    scaled = np.where(known, real - low, 0) * (255 / max(high - low, 1e-12))
    eight: NDArray[np.uint8] = scaled.clip(0, 255).astype(np.uint8)
    return eight
