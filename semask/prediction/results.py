"""Predictions of image files, one result after another, without a console: what every front is built on.

Imports no torch by itself: an exported file can be predicted without it.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.classes import IGNORE_INDEX
from semask.data.images import Reach, encoded
from semask.files.atomic import write_whole
from semask.files.reporter import Reporter
from semask.files.text import one_line, out_of_memory, reason
from semask.prediction.files import Unreadable, find_images, first_files, output_names, require_other_files
from semask.prediction.opening import open_predictor
from semask.prediction.pictures import MOST_JPEG, colorize, confidence_map, index_mask, overlay, thinned, with_legend
from semask.prediction.prediction import Prediction
from semask.prediction.whole import read_whole
from semask.settings.inference import Given
from semask.settings.precision import Precision

if TYPE_CHECKING:
    from semask.engines.runtime import Runtime
    from semask.model import SeMask
    from semask.prediction.array_predictor import ArrayPredictor
    from semask.prediction.predictor import Predictor
    from semask.prediction.raster import Place


@dataclass(frozen=True)
class Result:
    """What came of one image.

    Attributes:
        image: Path of the image.
        mask: Path of the label map that was written; None if it failed, or nothing was to be written.
        failure: Why the image could not be segmented, one line; None if it was.
        prediction: The prediction itself, where nothing was to be written.
        smaller_overlay: Whether the overlay was made smaller, because no JPEG has so many pixels in a row or column.
        unplaced: Whether the image is georeferenced and its mask is not, because rasterio is missing.
        reach: How much of their range the samples of an image of more than 8 bits use.
    """

    image: Path
    mask: Path | None = None
    failure: str | None = None
    prediction: Prediction | None = None
    smaller_overlay: bool = False
    unplaced: bool = False
    reach: Reach | None = None


@dataclass(frozen=True)
class Outputs:
    """What is asked for of each image.

    Attributes:
        overlays: NAME_overlay.jpg, the colors over the image, with a legend.
        priors: NAME_prior1.png ..., what the semantic prior of each stage favors.
        confidence: NAME_confidence, the probability of the chosen class.
        tile: Side in pixels of the tiles in which images are segmented; None for the image in one piece.
        overlap: Pixels that tiles share with their neighbors.
    """

    overlays: bool = True
    priors: bool = False
    confidence: bool = False
    tile: int | None = None
    overlap: int = 128


def predict(
    model: "str | Path | SeMask | Runtime",
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    inference: Given = None,
    overlays: bool = True,
    priors: bool = False,
    confidence: bool = False,
    tile: int | None = None,
    overlap: int = 128,
    device: str | None = None,
    precision: Precision = "auto",
    trust: bool = False,
) -> list[Result]:
    """Segment image files.

    With `out`, files are written as `semask predict` does, and a result names its mask. Without, nothing is written,
    and a result has the prediction, image included: for more images than memory holds give `out`, or go through
    `predict_images`, which gives one result after another.

    Args:
        model: Checkpoint (a .safetensors file, the folder of a run, OWNER/NAME on the Hugging Face Hub, or the name of
            a published model), an exported file such as model.onnx, or a model that is loaded already.
        images: Image file, folder (with all below it) or pattern such as "photos/*.jpg"; or several of these.
        out: Folder to write to; None writes nothing.
        inference: How images are put through the model: an `Inference`, or only what differs from the model's recipe,
            e.g. {"flip": True}; None for the recipe's.
        overlays: Write NAME_overlay.jpg: the colors over the image, with a legend.
        priors: Predict what the semantic prior of each stage favors too; written as NAME_prior1.png ...
        confidence: Predict the probability of the chosen class too; written as NAME_confidence.png.
        tile: Side in pixels of the tiles in which images of any size are segmented, at their own size; needs `out`.
        overlap: Pixels that tiles share with their neighbors and are blended in.
        device: Where to run, e.g. cpu or cuda; None for the GPU if there is one (an exported file: the CPU).
        precision: fp32, bf16 or auto: bf16 where the device computes in it, else fp32.
        trust: Open exported files that hold code too (.pt2, .engine): only those of your own making.

    Returns:
        A result for each image; one that could not be segmented has the reason as `failure`.

    Raises:
        ValueError: If the model can't be read, no image is found, a setting is wrong, or the output can't be written.
    """
    outputs = Outputs(overlays=overlays, priors=priors, confidence=confidence, tile=tile, overlap=overlap)
    files = find_images([images] if isinstance(images, str | Path) else images)
    check_outputs(outputs, out, inference)
    opened = open_predictor(
        model, inference=inference, tiles=tile is not None, device=device, precision=precision, trust=trust
    )
    return list(predict_images(opened.predictor, files, outputs, out=out))


def predict_images(
    predictor: "Predictor | ArrayPredictor",
    files: Sequence[Path],
    outputs: Outputs | None = None,
    *,
    out: str | Path | None = None,
    rank: int = 0,
    world_size: int = 1,
    reporter: Reporter | None = None,
) -> Iterator[Result]:
    """Segment image files, one after another; one image is in memory at a time, in tiles not even one.

    An image that can't be read or segmented gives a result that says why, and does not stop the others.

    Args:
        predictor: Model, and how images are put through it.
        files: Image files, see `find_images`.
        outputs: What is asked for of each image.
        out: Folder to write to; None writes nothing, and the results have the predictions.
        rank: This process among those that share the images; its images are rank, rank + world_size, ...
        world_size: Number of these processes.
        reporter: Is told how far the tiles of an image are; None for nobody.

    Returns:
        The results, each computed when it is asked for.

    Raises:
        ValueError: If the settings contradict each other or an output would replace an image; later, if an output
            can't be written.
    """
    outputs = outputs or Outputs()
    check_outputs(outputs, out, None)
    files = first_files(files, predictor.reading.band_files)
    names = output_names(list(files))
    if out is not None:
        require_other_files(list(files), names, Path(out))
    return (
        _predict_one(predictor, file, outputs, None if out is None else Path(out) / names[file], reporter)
        for file in files[rank::world_size]
    )


def check_outputs(outputs: Outputs, out: str | Path | None, inference: Given) -> None:
    """Refuse what does not go together, before a model is opened.

    Raises:
        ValueError: If `out` is no folder, tiles can't do what is asked for, or rasterio is missing for them.
    """
    tile = outputs.tile
    if out is not None and (str(out) == "" or (Path(out).exists() and not Path(out).is_dir())):
        raise ValueError(f"out is {str(out)!r}, which is no folder: give one to write to, e.g. --out predictions")
    if tile is None:
        return
    if isinstance(inference, Mapping):
        if inference.get("scale") is not None:
            scale = list(inference["scale"])
            raise ValueError(f"scale {scale} and tile {tile}: tiles have the image's own size; give one of the two")
        windows = [name for name in ("mode", "crop", "stride") if name in inference]
        if windows:
            raise ValueError(f"{windows[0]} and tile {tile}: tiles take the place of windows; give one of the two")
    if outputs.priors:
        raise ValueError("priors are not written in tiles: leave out --priors or --tile")
    if out is None:
        raise ValueError(f"tile is {tile}, but tiles are written to files: give a folder as out")
    from semask.data.geo_files import import_rasterio
    from semask.prediction.blending import check_grid

    check_grid(tile, outputs.overlap)
    import_rasterio()


def _predict_one(
    predictor: "Predictor | ArrayPredictor", file: Path, outputs: Outputs, stem: Path | None, reporter: Reporter | None
) -> Result:
    """Segment one image; `stem` is the path of its outputs without ending."""
    try:
        if outputs.tile is None or stem is None:
            return _predict_whole(predictor, file, outputs, stem)
        from semask.prediction.predictor import Predictor
        from semask.prediction.tiles import predict_file

        if not isinstance(predictor, Predictor):
            raise ValueError("tiles are predicted with torch: open the file with semask.load_exported")
        reaches: dict[Path, Reach] = {}
        mask = predict_file(
            predictor,
            file,
            stem,
            tile=outputs.tile,
            overlap=outputs.overlap,
            confidence=outputs.confidence,
            overlays=outputs.overlays,
            reporter=reporter,
            reaches=reaches,
        )
        return Result(file, mask, reach=reaches.get(file))
    except Unreadable as error:
        return Result(file, failure=str(error))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        said = reason(error, longest=100)
        hint = "use a smaller --scale or --tile, or --precision bf16"
        return Result(file, failure=f"{one_line(file)}: there is not enough memory ({said}): {hint}")


def _predict_whole(predictor: "Predictor | ArrayPredictor", file: Path, outputs: Outputs, stem: Path | None) -> Result:
    """Segment one image in one piece, and write what is asked for.

    Raises:
        Unreadable: If the image can't be read or segmented.
        ValueError: If an output can't be written.
    """
    try:
        whole = read_whole(file, predictor.reading)
        result = Result(file, reach=whole.reach, unplaced=whole.unplaced)
        prediction = predictor(whole.image, confidence=outputs.confidence, priors=outputs.priors)
    except ValueError as error:
        raise Unreadable(str(error)) from error
    if whole.holes is not None:
        prediction = _without(prediction, whole.holes)
    if stem is None:
        return replace(result, prediction=prediction)
    factor = -(-max(whole.picture.size) // MOST_JPEG)
    pictures = _pictures(whole.picture, prediction, outputs, factor)  # drawn before anything is written
    for ending, content in pictures.items():
        write_whole(stem.with_name(f"{stem.name}{ending}"), content)
    mask = _write_png(prediction, stem) if whole.place is None else _write_tiff(prediction, stem, whole.place)
    return replace(result, mask=mask, smaller_overlay=outputs.overlays and factor > 1)


def _without(prediction: Prediction, holes: NDArray[np.bool_]) -> Prediction:
    """Ignore the pixels of a prediction where the image has no data [H, W]."""
    sure = prediction.confidence
    return replace(
        prediction,
        label=np.where(holes, np.uint8(IGNORE_INDEX), prediction.label),
        confidence=None if sure is None else np.where(holes, np.float32(0), sure),
    )


def _pictures(image: Image.Image, prediction: Prediction, outputs: Outputs, factor: int) -> dict[str, bytes]:
    """Encode the overlay, made smaller by a whole factor, and the priors: ending of the name -> content."""
    pictures = {}
    if outputs.overlays:
        seen, label = (image, prediction.label) if factor == 1 else thinned(image, prediction.label, factor)
        picture = with_legend(overlay(seen, label, prediction.classes), label, prediction.classes)
        pictures["_overlay.jpg"] = encoded(picture, "JPEG")
    for stage, prior in enumerate(prediction.priors, start=1):
        pictures[f"_prior{stage}.png"] = encoded(colorize(prior, prediction.classes), "PNG")
    return pictures


def _write_png(prediction: Prediction, stem: Path) -> Path:
    """Write the label map, and the confidence if it was asked for, as PNGs; gives the path of the label map."""
    if prediction.confidence is not None:
        sure = confidence_map(prediction.confidence)
        write_whole(stem.with_name(f"{stem.name}_confidence.png"), encoded(sure, "PNG"))
    mask = stem.with_name(f"{stem.name}.png")
    write_whole(mask, encoded(index_mask(prediction.label, prediction.classes), "PNG"))
    return mask


def _write_tiff(prediction: Prediction, stem: Path, place: "Place") -> Path:
    """Write the same as GeoTIFFs in their place on earth."""
    from semask.prediction.raster import BLOCK, write

    def blocks(rows: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        return [rows[first : first + BLOCK] for first in range(0, len(rows), BLOCK)]

    height, width = prediction.label.shape
    mask = stem.with_name(f"{stem.name}.tif")
    with tempfile.TemporaryDirectory() as scratch:
        write_map = partial(write, size=(height, width), place=place, scratch=Path(scratch))
        if prediction.confidence is not None:
            sure = np.array(confidence_map(prediction.confidence))
            write_map(stem.with_name(f"{stem.name}_confidence.tif"), blocks(sure))
        write_map(mask, blocks(prediction.label), palette=prediction.classes.palette)
    return mask
