"""The verb `predict`: masks, overlays, priors and confidence maps of image files."""

import tempfile
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from semask.acceleration.precision import Precision, tell
from semask.data import findings
from semask.data.classes import IGNORE_INDEX
from semask.data.images import Reach, dark_line, encoded, is_georeferenced, reach_of, read_image
from semask.engines.catalog import is_exported
from semask.files.atomic import write_whole
from semask.files.text import make_console, one_line, out_of_memory, reason, shown
from semask.prediction.files import find_images, output_names, require_other_files
from semask.prediction.opening import open_model
from semask.prediction.pictures import MOST_JPEG, colorize, confidence_map, index_mask, overlay, thinned, with_legend
from semask.prediction.prediction import Prediction
from semask.prediction.predictor import Predictor
from semask.prediction.processes import all_or_none, gathered, joined
from semask.prediction.raster import BLOCK, Place, Unreadable, has_world_file, import_rasterio, place_and_holes
from semask.prediction.raster import write as write_raster
from semask.prediction.recipe import recipe_inference
from semask.prediction.tiles import check_grid, predict_file


@dataclass
class PredictReport:
    """What became of the images.

    Attributes:
        written: Masks that were written.
        failed: For each image that could not be segmented, why.
        precision: What the model computed in.
        smaller: Images whose overlay had to be made smaller, because no JPEG has so many pixels in a row or column.
        unplaced: Georeferenced images whose masks are not, because rasterio is missing.
        reaches: Images of more than 8 bits, and how much of their range they use.
    """

    written: list[Path] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)
    precision: str = "fp32"
    smaller: list[Path] = field(default_factory=list)
    unplaced: list[Path] = field(default_factory=list)
    reaches: dict[Path, Reach] = field(default_factory=dict)


def predict(
    weights: str,
    images: list[str],
    *,
    out: str = "predictions",
    scale: tuple[int, int] | None = None,
    overlays: bool = True,
    priors: bool = False,
    confidence: bool = False,
    tile: int | None = None,
    overlap: int = 128,
    device: str | None = None,
    precision: Precision = "auto",
    trust: bool = False,
) -> PredictReport:
    """Segment images: files, folders or patterns.

    Writes for each image NAME.png, the class index of each pixel (a palette PNG at the image's size, turned as its EXIF
    orientation says), NAME_overlay.jpg and what else is asked for. The mask of a georeferenced TIFF is a GeoTIFF,
    NAME.tif. One image is in memory at a time. An image that can't be segmented is listed at the end and does not stop
    the others. With `tile`, not even one image is in memory as a whole, see `semask.tiles`; masks of all TIFF files are
    then NAME.tif. Processes that torchrun started share the images; the first prints what became of all.

    Args:
        weights: Checkpoint: a .safetensors file, the folder of a run, or OWNER/NAME on the Hugging Face Hub; or an
            exported file, e.g. model.onnx.
        images: Image files, folders (with all below them) or quoted patterns such as "photos/*.jpg".
        out: Folder to write to.
        scale: Long and short side in pixels that images are fitted into; null as the checkpoint's recipe says.
        overlays: Write NAME_overlay.jpg: the colours over the image, with a legend.
        priors: Write NAME_prior1.png ...: what the semantic prior of each stage favours.
        confidence: Write NAME_confidence.png: the probability of the chosen class, white is certain.
        tile: Side in pixels of the tiles in which images of any size are segmented, at their own size and with whatever
            ratios and flip the recipe has; null for the image in one piece.
        overlap: Pixels that tiles share with their neighbours and are blended in.
        precision: fp32, bf16 (less time and memory; see `SeMask.use_bfloat16`), or auto: bf16 where the device computes
            in it, else fp32.
        device: Where to run, e.g. cpu or cuda; null for the GPU if there is one (an exported file: the CPU).
        trust: Open exported files that hold code too (.pt2, .engine): only those of your own making.

    Returns:
        The masks that were written, and the images that failed with the reason.

    Raises:
        ValueError: If the checkpoint can't be read, no image is found, or the output can't be written.
    """
    if tile is not None:
        check_tiles(tile, overlap, scale=scale, priors=priors)
    files = find_images(images)
    if not out or (Path(out).exists() and not Path(out).is_dir()):
        raise ValueError(f"out is {out!r}, which is no folder: give one to write to, e.g. --out predictions")
    if priors and is_exported(weights):
        raise ValueError(f"{weights}: an exported file gives no priors: give the checkpoint, or leave out --priors")
    with joined(device) as group:
        console = make_console(quiet=group.rank > 0)
        with all_or_none(group.world_size):
            own = device if is_exported(weights) else group.device
            model, chosen = open_model(weights, device=own, trust=trust, precision=precision)
            inference = recipe_inference(model)
            if tile is not None:
                inference = replace(inference, scale=None, mode="whole")
            predictor = Predictor(model, inference if scale is None else replace(inference, scale=scale))
            names = output_names(files)
            require_other_files(files, names, Path(out))
        tell(chosen, console)
        share = {file: names[file] for file in files[group.rank :: group.world_size]}
        outputs = {"overlays": overlays, "priors": priors, "confidence": confidence}
        report = PredictReport(precision=chosen.precision)
        with all_or_none(group.world_size):
            segment_all(predictor, share, report, out=out, tile=tile, overlap=overlap, console=console, **outputs)
        report = together(gathered(report, group.world_size))
    if group.rank == 0:
        print_report(report, len(files), out, console)
    return report


def segment_all(
    predictor: Predictor,
    names: dict[Path, str],
    report: PredictReport,
    *,
    out: str,
    overlays: bool,
    priors: bool,
    confidence: bool,
    tile: int | None,
    overlap: int,
    console: Console,
) -> None:
    """Segment the images whose outputs have these names; the report gets what was written and what failed."""
    with Progress(console=console, transient=True) as bar:
        for file in bar.track(names, description="segmenting"):
            stem = Path(out) / names[file]
            try:
                if tile is None:
                    results = segment(predictor, file, report, overlays=overlays, priors=priors, confidence=confidence)
                else:
                    mask = predict_file(
                        predictor,
                        file,
                        stem,
                        tile=tile,
                        overlap=overlap,
                        confidence=confidence,
                        overlays=overlays,
                        bar=bar,
                        reaches=report.reaches,
                    )
                    report.written.append(mask)
                    continue
            except Unreadable as error:
                report.failed[file] = str(error)
                continue
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                report.failed[file] = (
                    f"{one_line(file)}: there is not enough memory ({reason(error, longest=100)}): take a smaller "
                    "--scale or --tile, or --precision bf16"
                )
                continue
            report.written.append(results.write(stem))


def together(reports: list[PredictReport]) -> PredictReport:
    """One report of what several processes did, which took the images in turn."""
    whole = PredictReport(precision=reports[0].precision)
    for report in reports:
        whole.written += report.written
        whole.failed |= report.failed
        whole.smaller += report.smaller
        whole.unplaced += report.unplaced
        whole.reaches |= report.reaches
    return whole


def print_report(report: PredictReport, images: int, out: str, console: Console) -> None:
    """Say what was written, what is to be known of it, and what failed."""
    findings.warn(
        [
            dark_line(report.reaches),
            _counted(report.unplaced, "masks are without the place on earth: pip install 'semask[geo]' to keep it"),
            _counted(report.smaller, f"overlays are smaller than the image: a JPEG takes {MOST_JPEG} pixels a side"),
        ]
    )
    console.print(f"{len(report.written)} masks in {shown(out)}", highlight=False, soft_wrap=True)
    if report.failed:
        console.print(f"{len(report.failed)} of {images} images could not be segmented:", style="bold red")
        for why in report.failed.values():
            console.print(f"  {shown(why)}", highlight=False, soft_wrap=True)


def _counted(files: list[Path], what: str) -> str | None:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{one_line(files[0])}{more}: {what}" if files else None


@dataclass
class Results:
    """What is written of one image.

    Attributes:
        label: Class indices [H, W].
        confidence: Map of the confidence, if asked for, [H, W].
        prediction: Where both are from.
        place: Where on earth the image lies; None writes PNGs.
        pictures: Ending of the name -> the file, already encoded.
    """

    label: NDArray[np.uint8]
    confidence: NDArray[np.uint8] | None
    prediction: Prediction
    place: Place | None
    pictures: dict[str, bytes]

    def write(self, stem: Path) -> Path:
        """Write the files beside each other.

        Returns:
            Path of the mask.

        Raises:
            ValueError: If one can't be written.
        """
        for ending, content in self.pictures.items():
            write_whole(stem.with_name(f"{stem.name}{ending}"), content)
        classes = self.prediction.classes
        if self.place is None:
            mask = stem.with_name(f"{stem.name}.png")
            if self.confidence is not None:
                write_whole(
                    stem.with_name(f"{stem.name}_confidence.png"), encoded(Image.fromarray(self.confidence), "PNG")
                )
            write_whole(mask, encoded(index_mask(self.label, classes), "PNG"))
            return mask
        mask = stem.with_name(f"{stem.name}.tif")
        with tempfile.TemporaryDirectory() as scratch:
            height, width = self.label.shape
            write_map = partial(write_raster, size=(height, width), place=self.place, scratch=Path(scratch))
            if self.confidence is not None:
                sure = stem.with_name(f"{stem.name}_confidence.tif")
                write_map(sure, _blocks(self.confidence))
            write_map(mask, _blocks(self.label), palette=classes.palette)
        return mask


def _blocks(rows: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [rows[first : first + BLOCK] for first in range(0, len(rows), BLOCK)]


def segment(
    predictor: Predictor, file: Path, report: PredictReport, *, overlays: bool, priors: bool, confidence: bool
) -> Results:
    """Segment one image in one piece, and draw what is asked for; nothing is written yet.

    Raises:
        Unreadable: If the image can't be read or segmented.
    """
    try:
        image = read_image(file, channels=predictor.model.config["in_channels"])
        reach = reach_of(image)
        if reach is not None:
            report.reaches[file] = reach
        place, holes = None, None
        if is_georeferenced(image) or (file.suffix.lower() in (".tif", ".tiff") and has_world_file(file)):
            try:
                place, holes = place_and_holes(file, (image.height, image.width))
            except ImportError:
                report.unplaced.append(file)
        prediction = predictor(image, confidence=confidence, priors=priors)
    except ValueError as error:
        raise Unreadable(str(error)) from error
    label = prediction.label
    sure = None if prediction.confidence is None else np.array(confidence_map(prediction.confidence))
    if holes is not None:
        label = np.where(holes, np.uint8(IGNORE_INDEX), label)
        sure = None if sure is None else np.where(holes, np.uint8(0), sure)
    pictures = {}
    if overlays:
        factor = -(-max(image.size) // MOST_JPEG)
        seen, drawn = thinned(image, label, factor) if factor > 1 else (image, label)
        if factor > 1:
            report.smaller.append(file)
        picture = with_legend(overlay(seen, drawn, prediction.classes), drawn, prediction.classes)
        pictures["_overlay.jpg"] = encoded(picture, "JPEG")
    for stage, prior in enumerate(prediction.priors, start=1):
        pictures[f"_prior{stage}.png"] = encoded(colorize(prior, prediction.classes), "PNG")
    return Results(label, sure, prediction, place, pictures)


def check_tiles(tile: int, overlap: int, *, scale: tuple[int, int] | None, priors: bool) -> None:
    """Refuse what tiles can't do.

    Raises:
        ValueError: If a setting does not go with tiles, or rasterio is missing.
    """
    if scale is not None:
        raise ValueError(f"scale {list(scale)} and tile {tile}: tiles have the image's own size; give one of the two")
    if priors:
        raise ValueError("priors are not written in tiles: leave out --priors or --tile")
    check_grid(tile, overlap)
    import_rasterio()
