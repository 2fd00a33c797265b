"""The verb `predict`: masks, overlays, priors and confidence maps of image files."""

import glob as globbing
import itertools
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import Progress

from semask.data.images import IMAGE_SUFFIXES, read_image
from semask.evaluate import open_model
from semask.files import written_whole
from semask.inference import Prediction, Predictor, recipe_inference
from semask.pictures import colorize, confidence_map, index_mask, overlay, with_legend
from semask.precision import Precision, tell
from semask.processes import all_or_none, gathered, joined
from semask.raster import Unreadable, import_rasterio
from semask.runtime import is_exported
from semask.tiles import check_grid, predict_file

BESIDE = re.compile(r"_(confidence|prior\d+)$")
"""Endings of what is written beside a mask and has the same suffix."""


@dataclass
class PredictReport:
    """What became of the images.

    Attributes:
        written: Masks that were written.
        failed: For each image that could not be segmented, why.
        precision: What the model computed in.
    """

    written: list[Path] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)
    precision: str = "fp32"


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
    orientation says), NAME_overlay.jpg and what else is asked for. One image is in memory at a time. An image that
    can't be read is listed at the end and does not stop the others. With `tile`, not even one image is in memory as a
    whole, see `semask.tiles`; masks of TIFF files are then GeoTIFF, NAME.tif. Processes that torchrun started share the
    images; the first prints what became of all.

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
        console = Console(stderr=True, quiet=group.rank > 0)
        with all_or_none(group.world_size):
            own = device if is_exported(weights) else group.device
            model, chosen = open_model(weights, device=own, trust=trust, precision=precision)
            inference = recipe_inference(model)
            if tile is not None:
                inference = replace(inference, scale=None, mode="whole")
            predictor = Predictor(model, inference if scale is None else replace(inference, scale=scale))
            names = output_names(files)
            require_other_files(files, names, Path(out), tiled=tile is not None)
        tell(chosen, console)
        share = {file: names[file] for file in files[group.rank :: group.world_size]}
        outputs = {"overlays": overlays, "priors": priors, "confidence": confidence}
        report = PredictReport(precision=chosen.precision)
        with all_or_none(group.world_size):
            segment(predictor, share, report, out=out, tile=tile, overlap=overlap, console=console, **outputs)
        report = together(gathered(report, group.world_size))
    tell_report(report, len(files), out, console)
    return report


def segment(
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
            if tile is not None:
                outputs = {"confidence": confidence, "overlays": overlays}
                try:
                    mask = predict_file(predictor, file, stem, tile=tile, overlap=overlap, bar=bar, **outputs)
                    report.written.append(mask)
                except Unreadable as error:
                    report.failed[file] = str(error)
                continue
            try:
                image = read_image(file, channels=predictor.model.config["in_channels"])
                prediction = predictor(image, confidence=confidence, priors=priors)
            except ValueError as error:
                report.failed[file] = str(error)
                continue
            write(stem, image if overlays else None, prediction)
            report.written.append(stem.with_name(f"{stem.name}.png"))


def tell_report(report: PredictReport, images: int, out: str, console: Console) -> None:
    """Print what became of the images."""
    console.print(f"{len(report.written)} masks in {out}", highlight=False, soft_wrap=True)
    if report.failed:
        console.print(f"{len(report.failed)} of {images} images could not be segmented:", style="bold red")
        for reason in report.failed.values():
            console.print(f"  {reason}", highlight=False, soft_wrap=True)


def together(reports: list[PredictReport]) -> PredictReport:
    """One report of what several processes did, which took the images in turn."""
    failed = {file: reason for report in reports for file, reason in report.failed.items()}
    written = [mask for report in reports for mask in report.written]
    return replace(reports[0], written=written, failed=failed)


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


def write(stem: Path, image: Image.Image | None, prediction: Prediction) -> None:
    """Write the pictures of one prediction beside each other."""
    pictures = {f"{stem.name}.png": index_mask(prediction.label, prediction.classes)}
    if image is not None:
        picture = overlay(image, prediction.label, prediction.classes)
        pictures[f"{stem.name}_overlay.jpg"] = with_legend(picture, prediction.label, prediction.classes)
    for stage, prior in enumerate(prediction.priors, start=1):
        pictures[f"{stem.name}_prior{stage}.png"] = colorize(prior, prediction.classes)
    if prediction.confidence is not None:
        pictures[f"{stem.name}_confidence.png"] = confidence_map(prediction.confidence)
    for name, picture in pictures.items():
        with written_whole(stem.with_name(name)) as temporary:
            picture.save(temporary, format="JPEG" if name.endswith(".jpg") else "PNG")


def find_images(sources: list[str]) -> list[Path]:
    """List the image files that files, folders and patterns stand for, each once, in order.

    Raises:
        ValueError: If a source stands for no image.
    """
    found: dict[Path, Path] = {}
    for source in sources:
        path = Path(source)
        if not source:
            raise ValueError("an image has an empty name: give a file, a folder (. for this one), or a pattern")
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        elif path.exists():
            files = [path]
        else:
            files = sorted(Path(p) for p in globbing.glob(source, recursive=True) if Path(p).is_file())
        if not files:
            endings = ", ".join(IMAGE_SUFFIXES)
            raise ValueError(f"{source}: no image there: give a file, a folder with images ({endings}), or a pattern")
        for file in files:
            found.setdefault(file.absolute(), file)
    return list(found.values())


def require_other_files(files: list[Path], names: dict[Path, str], out: Path, *, tiled: bool) -> None:
    """Refuse to write over the images that are segmented.

    Raises:
        ValueError: If an output would take the place of an image.
    """
    endings = ["_overlay.jpg", *(f"_prior{stage}.png" for stage in range(1, 5))]
    for suffix in (".png", ".tif") if tiled else (".png",):
        endings += [suffix, f"_confidence{suffix}"]
    outputs = {f"{name}{ending}" for name in names.values() for ending in endings}
    for file in files:
        if file.name in outputs and file.resolve().parent == out.resolve():
            raise ValueError(f"{file}: an output in {out} would take the place of this image: choose another --out")


def output_names(files: list[Path]) -> dict[Path, str]:
    """Name the outputs after the files: the stem, with suffix, folder or a number where that is not unique.

    A name that another image's further outputs have (x_confidence, x_prior1) counts as not unique.

    >>> list(output_names([Path("a/x.jpg"), Path("a/x.png"), Path("y.jpg")]).values())
    ['x_jpg', 'x_png', 'y']
    """
    names: dict[Path, str] = {}
    stems = {p.stem for p in files}
    for make in (
        lambda p: p.stem,
        lambda p: f"{p.stem}_{p.suffix.lstrip('.')}",
        lambda p: f"{p.parent.name}_{p.stem}_{p.suffix.lstrip('.')}",
    ):
        candidates = {p: make(p) for p in files if p not in names}
        counts = Counter(candidates.values())
        taken = set(names.values())
        names |= {
            p: name
            for p, name in candidates.items()
            if counts[name] == 1
            and name not in taken
            and not (BESIDE.search(name) and BESIDE.sub("", name) in stems)  # another image's file beside its mask
        }
    taken = set(names.values())
    numbers = itertools.count()
    for p in files:
        if p not in names:
            names[p] = next(name for i in numbers if (name := f"{p.stem}_{i}") not in taken)
            taken.add(names[p])
    return {p: names[p] for p in files}
