"""One photo through the models: what the page shows of it, as plain values that become JSON.

Files are those that `semask predict` writes, made by the same code. Maps go to the browser as bytes, so that opacity,
switches, the stage and the pointer need neither the server nor the model.
"""

import base64
import contextlib
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.app.models import AppModel
from semask.data.classes import IGNORE_INDEX
from semask.data.geo_files import gdal
from semask.data.images import encoded, read_mask
from semask.data.reading import read_picture_size
from semask.extras import require
from semask.files.atomic import temporary_folder
from semask.files.reading import parse_json, read_text
from semask.files.text import one_line, without_folder
from semask.prediction.files import plain
from semask.prediction.pictures import confidence_map, to_picture
from semask.prediction.requested import Outputs
from semask.prediction.results import Result, predict_images

SHOWN = 1600
"""Longest side in pixels of what the page draws; of a larger image every n-th pixel. Downloads have all pixels."""
MOST_JSON = 2**28
"""Bytes of a JSON file that was just written."""
FILES = (
    (".png", "mask", "Mask (PNG)", "image/png"),
    (".tif", "mask", "Mask (TIFF)", "image/tiff"),
    (".json", "json", "Areas (JSON)", "application/json"),
    ("_polygons.json", "labelme", "Polygons (labelme)", "application/json"),
    ("_confidence.png", "confidence", "Confidence (PNG)", "image/png"),
    ("_confidence.tif", "confidence", "Confidence (TIFF)", "image/tiff"),
)
"""What can be downloaded: ending, name of the output, text of the button, type."""


class Limits(NamedTuple):
    """What is done with an image."""

    pixels: int
    """Pixels that it may have."""
    tile: int | None = None
    """Side of the tiles in which it is segmented; None for one piece."""
    overlap: int = 128
    """Pixels that tiles share with their neighbors."""


class Maps(NamedTuple):
    """What a model makes of a photo, in all pixels."""

    label: NDArray[np.uint8]
    confidence: NDArray[np.uint8] | None
    """0..255 for probabilities from 0 to 1; None if the model gives none."""
    priors: tuple[NDArray[np.uint8], ...]


def segment(models: Sequence[AppModel], file: Path, limits: Limits) -> dict[str, Any]:
    """Put a photo through models.

    Args:
        models: One, or two to compare.
        file: The photo.
        limits: Pixels that it may have, and tiles.

    Returns:
        What the page shows, see viewer.js.

    Raises:
        ValueError: If it can't be read or segmented, or is too large: a line for the page, without folders.
    """
    try:
        size = _size(models[0], file, limits.pixels)
        factor = -(-max(size) // SHOWN)
        picture: Image.Image | None = None
        panes = []
        for model in models:
            with temporary_folder() as out:
                result = _predicted(model, file, out, limits)
                maps = _maps(result)
                picture = picture or _picture(model, file, result, factor)
                panes.append(_pane(model, result, maps, factor))
    except ValueError as error:
        raise ValueError(without_folder(str(error), file)) from error
    assert picture is not None
    return {
        "name": file.name,
        "height": size[0],
        "width": size[1],
        "factor": factor,
        "image": _data_url(picture),
        "panes": panes,
    }


def _size(model: AppModel, file: Path, most: int) -> tuple[int, int]:
    """Height and width, read from the header."""
    allowed = f"at most {most:,} are allowed here: make it smaller"
    try:
        height, width = read_picture_size(file, model.predictor.reading)
    except ValueError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):  # who sent it can't set what the message names
            raise ValueError(f"{one_line(file)}: far too many pixels, {allowed}") from error
        raise
    if height * width > most:
        raise ValueError(f"{one_line(file)}: {width} x {height} pixels, {allowed}")
    return height, width


def _predicted(model: AppModel, file: Path, out: Path, limits: Limits) -> Result:
    kinds = ["mask", "json"]
    if not getattr(model.predictor.model, "makes_labels", False):
        kinds.append("confidence")
    if limits.tile is None and _has_rasterio():
        kinds.append("labelme")
    priors = model.without_priors is None
    outputs = Outputs(write=kinds, priors=priors, tile=limits.tile, overlap=limits.overlap)
    (result,) = predict_images(model.predictor, [file], outputs, out=out, keep=True)
    if result.failure is not None:
        raise ValueError(result.failure)
    return result


def _maps(result: Result) -> Maps:
    prediction = result.prediction
    if prediction is not None:
        sure = None if prediction.confidence is None else np.array(confidence_map(prediction.confidence))
        return Maps(prediction.label, sure, prediction.priors)
    assert result.mask is not None  # in tiles: what was written is read again
    confidence = result.mask.with_name(f"{result.mask.stem}_confidence{result.mask.suffix}")
    return Maps(read_mask(result.mask), read_mask(confidence) if confidence.is_file() else None, ())


def _picture(model: AppModel, file: Path, result: Result, factor: int) -> Image.Image:
    """The photo as the model saw it, every `factor`-th pixel."""
    if result.prediction is not None and result.prediction.image is not None:
        return to_picture(result.prediction.image[::factor, ::factor])
    from semask.prediction.raster import Raster

    reading = model.predictor.reading
    with gdal(), contextlib.closing(Raster(file, channels=reading.channels, reading=reading)) as image:
        return image.overview(factor).convert("RGB")


def _pane(model: AppModel, result: Result, maps: Maps, factor: int) -> dict[str, Any]:
    classes = model.predictor.classes
    small = [x[::factor, ::factor] for x in (maps.label, *maps.priors)]
    return {
        "model": model.name,
        "classes": list(classes.names),
        "colors": [list(color) for color in classes.palette],
        "height": small[0].shape[0],
        "width": small[0].shape[1],
        "label": packed(small[0].tobytes()),
        "priors": [packed(prior.tobytes()) for prior in small[1:]],
        "shares": [_shares(x, len(classes)) for x in (maps.label, *maps.priors)],
        "confidence": None if maps.confidence is None else packed(maps.confidence[::factor, ::factor].tobytes()),
        "without_priors": model.without_priors,
        "files": _files(result),
    }


def _shares(label: NDArray[np.uint8], classes: int) -> list[float]:
    """Share of each class in the pixels that have one."""
    counts = np.bincount(label.ravel(), minlength=IGNORE_INDEX + 1)[:classes]
    return [round(float(x), 6) for x in counts / max(int(counts.sum()), 1)]


def _files(result: Result) -> list[dict[str, str]]:
    """The files that were written, packed, by the name of the photo."""
    stem = result.stem
    assert stem is not None
    found = []
    for ending, kind, text, mime in FILES:
        path = stem.parent / kind / f"{stem.name}.json" if kind == "labelme" else stem.with_name(stem.name + ending)
        if path.is_file():
            content = path.read_bytes() if path.suffix != ".json" else _without_folders(path, result.image)
            found.append(
                {"name": plain(stem.name) + ending, "kind": kind, "text": text, "type": mime, "data": packed(content)}
            )
    return found


def _without_folders(path: Path, image: Path) -> bytes:
    """A JSON file, in which the photo is called by its name: the folder was ours, and is gone."""
    content = parse_json(read_text(path, most=MOST_JSON))
    for key in ("image", "imagePath"):
        if key in content:
            content[key] = image.name
    return json.dumps(content).encode()


def packed(content: bytes) -> str:
    """Bytes as text that the page unpacks: zlib, then base64."""
    return base64.b64encode(zlib.compress(content, 6)).decode()


def _data_url(picture: Image.Image) -> str:
    jpeg = encoded(picture.convert("RGB"), "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _has_rasterio() -> bool:
    try:
        require("rasterio")
    except ValueError:
        return False
    return True
