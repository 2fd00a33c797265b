"""Predictions of image files, one result after another, without a console: what every front is built on.

Imports no torch by itself: an exported file can be predicted without it.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.classes import IGNORE_INDEX, Classes
from semask.data.film_files import films_of, is_film
from semask.data.images import Reach
from semask.files.reporter import Reporter
from semask.files.text import one_line, out_of_memory, reason
from semask.prediction.areas import Areas
from semask.prediction.files import (
    Unreadable,
    find_images,
    first_files,
    output_names,
    require_nothing_lost,
    require_other_files,
)
from semask.prediction.opening import open_predictor
from semask.prediction.output import Written, find, join_all, write_all
from semask.prediction.pictures import MOST_JPEG, confidence_map
from semask.prediction.prediction import Prediction
from semask.prediction.requested import Outputs, check_films, check_model, check_outputs
from semask.prediction.segmentation import Segmentation
from semask.prediction.summary import Row, write_summary
from semask.prediction.whole import Whole, read_whole
from semask.settings.film import FilmGiven, film_settings
from semask.settings.inference import Given
from semask.settings.precision import Precision

if TYPE_CHECKING:
    from semask.engines.runtime import Runtime
    from semask.model import SeMask
    from semask.prediction.array_predictor import ArrayPredictor
    from semask.prediction.films.predict import FilmDone
    from semask.prediction.predictor import Predictor


@dataclass(frozen=True)
class Result:
    """What came of one image.

    Attributes:
        image: Path of the image.
        mask: Path of the label map that was written; None if it failed, or none was to be written.
        failure: Why the image could not be segmented, one line; None if it was.
        prediction: The prediction itself, where nothing was to be written or it was to be kept.
        smaller_overlay: Whether the overlay was made smaller, because no JPEG has so many pixels in a row or column.
        unplaced: Whether the image is georeferenced and its mask is not, because rasterio is missing.
        reach: How much of their range the samples of an image of more than 8 bits use.
        stem: Path of the outputs without ending; None if nothing was written.
        skipped: Outputs that it does not have, because it is not georeferenced.
        areas: What each class covers; None if a summary was not asked for.
        film: What came of a film; its `mask` is a folder of label maps.
    """

    image: Path
    mask: Path | None = None
    failure: str | None = None
    prediction: Prediction | None = None
    smaller_overlay: bool = False
    unplaced: bool = False
    reach: Reach | None = None
    stem: Path | None = None
    skipped: tuple[str, ...] = ()
    areas: Areas | None = None
    film: "FilmDone | None" = None


def predict(
    model: "str | Path | SeMask | Runtime",
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    inference: Given = None,
    write: Sequence[str] | None = None,
    overlays: bool | None = None,
    priors: bool = False,
    confidence: bool = False,
    summary: str | Path | None = None,
    nodata: int | None = None,
    simplify: float = 0.0,
    tile: int | None = None,
    overlap: int = 128,
    film: FilmGiven = None,
    device: str | None = None,
    precision: Precision = "auto",
    trust: bool = False,
) -> list[Result]:
    """Segment image files and films.

    With `out`, files are written as `semask predict` does, and a result names its mask. Without, nothing is written,
    and a result has the prediction, image included: for more images than memory holds give `out`, or go through
    `predict_images`, which gives one result after another.

    Args:
        model: Checkpoint (a .safetensors file, the folder of a run, OWNER/NAME on the Hugging Face Hub, or the name of
            a published model), an exported file such as model.onnx, or a model that is loaded already.
        images: Image file, film, folder (with all below it) or pattern such as "photos/*.jpg"; or several of these.
        out: Folder to write to; None writes nothing.
        inference: How images are put through the model: an `Inference`, or only what differs from the model's recipe,
            e.g. {"flip": True}; None for the recipe's.
        write: What to write, e.g. ["mask", "json", "geojson"]; None for mask and overlay. Without `out` a prediction
            has what is named of confidence, priors and probabilities.
        overlays: Whether to write NAME_overlay.jpg too: the colors over the image, with a legend.
        priors: Predict what the semantic prior of each stage favors too; written as NAME_prior1.png ...
        confidence: Predict the probability of the chosen class too; written as NAME_confidence.png.
        summary: CSV file to write, with the area and the share of each class in all images.
        nodata: Value that says in all channels that a pixel is no data, e.g. 0 for scans with a black border.
        simplify: Pixels by which the borders of polygons may be simplified; 0: polygons are exact.
        tile: Side in pixels of the tiles in which images of any size are segmented, at their own size; needs `out`.
        overlap: Pixels that tiles share with their neighbors and are blended in.
        film: How films are segmented: a `FilmSettings`, or some of its fields, e.g. {"every": 5}; they need `out`.
        device: Where to run, e.g. cpu or cuda; None for the GPU if there is one (an exported file: the CPU).
        precision: fp32, bf16 or auto: bf16 where the device computes in it, else fp32.
        trust: Open exported files that hold code too (.pt2, .engine): only those of your own making.

    Returns:
        A result for each image; one that could not be segmented has the reason as `failure`.

    Raises:
        ValueError: If the model can't be read, no image is found, a setting is wrong, or the output can't be written.
    """
    outputs = Outputs(
        overlays=overlays,
        priors=priors,
        confidence=confidence,
        tile=tile,
        overlap=overlap,
        write=write,
        summary=summary,
        nodata=nodata,
        simplify=simplify,
        film=film_settings(film),
    )
    files = find_images([images] if isinstance(images, str | Path) else images)
    check_outputs(outputs, out, inference)
    check_films(outputs, out, films_of(files))
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
    keep: bool = False,
) -> Iterator[Result]:
    """Segment image files and films, one after another; one image is in memory at a time, in tiles not even one.

    An image that can't be read or segmented gives a result that says why, and does not stop the others.

    Args:
        predictor: Model, and how images are put through it.
        files: Image files and films, see `find_images`.
        outputs: What is asked for of each image.
        out: Folder to write to; None writes nothing, and the results have the predictions.
        rank: This process among those that share the images; its images are rank, rank + world_size, ...
        world_size: Number of these processes.
        reporter: Is told how far the tiles of an image, or the frames of a film, are; None for nobody.
        keep: Whether a result has the prediction too where files are written; in tiles and of a film it never has.

    Returns:
        The results, each computed when it is asked for. After the last one, what is of all images is written: the
        summary, files for labeling tools. Of several processes each gives its own results, and one of them has to call
        `finish` with those of all.

    Raises:
        ValueError: If the settings contradict each other or an output would replace an image; later, if an output
            can't be written.
    """
    outputs = outputs or Outputs()
    films = films_of(files)
    check_outputs(outputs, out, None)
    check_films(outputs, out, films)
    check_model(predictor, outputs)
    files = first_files(files, predictor.reading.band_files)
    endings = [ending for name in outputs.kinds for ending in find(name).endings]
    endings += [".mp4"] if films and "overlay" in outputs.kinds else []
    names = output_names(list(files), endings)
    if out is not None:
        require_other_files(list(files), names, Path(out), endings)
        if world_size == 1:  # of several processes another one may have begun to write
            require_nothing_lost(names, Path(out), endings)
    results = (
        _predict_one(predictor, file, outputs, None if out is None else Path(out) / names[file], reporter, keep=keep)
        for file in files[rank::world_size]
    )
    return results if world_size > 1 else _finished(results, outputs, out, predictor.classes)


def _finished(
    results: Iterator[Result], outputs: Outputs, out: str | Path | None, classes: Classes
) -> Iterator[Result]:
    """Give results on, and write what is of all images after the last."""
    done: list[Result] = []
    for result in results:
        done.append(replace(result, prediction=None))
        yield result
    finish(done, outputs, out, classes)


def finish(results: Sequence[Result], outputs: Outputs, out: str | Path | None, classes: Classes) -> None:
    """Write what is of all images: the summary, files for labeling tools.

    Args:
        results: What came of all images, of all processes.
        outputs: What was asked for.
        out: Folder of the outputs; None if nothing was written.
        classes: Names and colors of the classes.

    Raises:
        ValueError: If it can't be written, or a part of it is missing.
    """
    results = sorted(results, key=lambda result: result.image)  # the same, however many processes there were
    if out is not None:
        images = [Written(result.image, result.stem) for result in results if result.stem is not None]
        join_all(outputs.kinds, Path(out), images, classes)
    if outputs.summary is not None:
        rows = (Row(result.image, result.areas, result.failure) for result in results)
        write_summary(outputs.summary, rows, classes)


def _predict_one(
    predictor: "Predictor | ArrayPredictor",
    file: Path,
    outputs: Outputs,
    stem: Path | None,
    reporter: Reporter | None,
    *,
    keep: bool,
) -> Result:
    """Segment one image; `stem` is the path of its outputs without ending."""
    try:
        if is_film(file):
            return _predict_film(predictor, file, outputs, stem, reporter)
        if outputs.tile is None or stem is None:
            return _predict_whole(predictor, file, outputs, stem, keep=keep)
        return _predict_tiles(predictor, file, outputs, stem, reporter)
    except Unreadable as error:
        return Result(file, failure=str(error))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        said = reason(error, longest=100)
        hint = "use a smaller --scale or --tile, or --precision bf16"
        return Result(file, failure=f"{one_line(file)}: there is not enough memory ({said}): {hint}")


def _predict_film(
    predictor: "Predictor | ArrayPredictor", file: Path, outputs: Outputs, stem: Path | None, reporter: Reporter | None
) -> Result:
    """Segment a film, and write what is asked for.

    Raises:
        Unreadable: If the film can't be read or segmented.
        ValueError: If an output can't be written.
    """
    from semask.prediction.films.predict import predict_film

    assert stem is not None
    done = predict_film(predictor, file, stem, kinds=outputs.kinds, settings=outputs.film, reporter=reporter)
    mask = stem if "mask" in outputs.kinds else None
    return Result(file, mask, stem=stem, areas=done.areas if outputs.summary is not None else None, film=done)


def _predict_tiles(
    predictor: "Predictor | ArrayPredictor", file: Path, outputs: Outputs, stem: Path, reporter: Reporter | None
) -> Result:
    """Segment one image in tiles, and write what is asked for.

    Raises:
        Unreadable: If the image can't be read or segmented.
        ValueError: If an output can't be written.
    """
    from semask.prediction.predictor import Predictor
    from semask.prediction.tiles import predict_tiles

    if not isinstance(predictor, Predictor):
        raise ValueError("tiles are predicted with torch: open the file with semask.load_exported")
    assert outputs.tile is not None
    done = predict_tiles(
        predictor,
        file,
        stem,
        kinds=outputs.kinds,
        tile=outputs.tile,
        overlap=outputs.overlap,
        nodata=outputs.nodata,
        simplify=outputs.simplify,
        summary=outputs.summary is not None,
        reporter=reporter,
    )
    mask = done.mask if "mask" in outputs.kinds else None
    return Result(file, mask, reach=done.reach, stem=stem, skipped=done.skipped, areas=done.areas)


def _predict_whole(
    predictor: "Predictor | ArrayPredictor", file: Path, outputs: Outputs, stem: Path | None, *, keep: bool
) -> Result:
    """Segment one image in one piece, and write what is asked for.

    Raises:
        Unreadable: If the image can't be read or segmented.
        ValueError: If an output can't be written.
    """
    kinds = outputs.kinds
    try:
        whole = read_whole(file, predictor.reading, nodata=outputs.nodata)
        result = Result(file, reach=whole.reach, unplaced=whole.unplaced)
        asked: dict[str, Any] = {name: name in kinds for name in ("confidence", "priors")}
        prediction = predictor(whole.image, **asked, **({"probabilities": True} if "probabilities" in kinds else {}))
    except ValueError as error:
        raise Unreadable(str(error)) from error
    if whole.holes is not None:
        prediction = _without(prediction, whole.holes)
    with tempfile.TemporaryDirectory() as scratch:
        done = _segmentation(whole, prediction, file, stem or Path(file.stem), outputs, Path(scratch))
        result = replace(result, areas=done.areas if outputs.summary is not None else None)
        if stem is None or keep:
            result = replace(result, prediction=prediction)
        if stem is None:
            return result
        skipped = write_all(done)
    smaller = "overlay" in kinds and max(whole.picture.size) > MOST_JPEG
    mask = done.path(".png" if whole.place is None else ".tif") if "mask" in kinds else None
    return replace(result, mask=mask, stem=stem, skipped=skipped, smaller_overlay=smaller)


def _segmentation(
    whole: Whole, prediction: Prediction, file: Path, stem: Path, outputs: Outputs, scratch: Path
) -> Segmentation:
    """What outputs are written from, of an image in memory."""
    sure, shares = prediction.confidence, prediction.probabilities

    def picture(factor: int) -> Image.Image:
        drawn = whole.picture.convert("RGB")
        return drawn if factor == 1 else Image.fromarray(np.asarray(drawn)[::factor, ::factor])

    def probability(k: int, rows: range) -> NDArray[np.float16]:
        assert shares is not None
        return shares[k, rows.start : rows.stop]

    return Segmentation(
        image=file,
        stem=stem,
        classes=prediction.classes,
        size=(whole.picture.height, whole.picture.width),
        rows=partial(_rows, prediction.label),
        picture=picture,
        scratch=scratch,
        kinds=outputs.kinds,
        prediction=prediction,
        confidence=None if sure is None else partial(_rows, np.array(confidence_map(sure))),
        probability=None if shares is None else probability,
        place=whole.place,
        simplify=outputs.simplify,
    )


def _rows(whole: NDArray[np.uint8], step: int) -> Iterator[NDArray[np.uint8]]:
    """Give a map from top to bottom, `step` rows at a time."""
    return (whole[first : first + step] for first in range(0, len(whole), step))


def _without(prediction: Prediction, holes: NDArray[np.bool_]) -> Prediction:
    """Ignore the pixels of a prediction where the image has no data [H, W]."""
    sure, shares = prediction.confidence, prediction.probabilities
    return replace(
        prediction,
        label=np.where(holes, np.uint8(IGNORE_INDEX), prediction.label),
        confidence=None if sure is None else np.where(holes, np.float32(0), sure),
        probabilities=None if shares is None else np.where(holes, np.float16(0), shares),
    )
