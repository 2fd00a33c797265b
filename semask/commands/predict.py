"""Segment images and films."""

from pathlib import Path
from typing import TYPE_CHECKING

from semask.commands.console import ConsoleReporter, make_console
from semask.files.text import number_of, one_line, shown
from semask.settings.film import FilmOptions, film_settings
from semask.settings.inference import Options
from semask.settings.precision import Precision, tell

if TYPE_CHECKING:
    from semask.data.classes import Classes
    from semask.prediction.results import Result

SHARED = True
"""Processes that torchrun started share the work."""


def predict(
    weights: str | None = None,
    images: list[str] | None = None,
    *,
    inference: Options,
    out: str = "predictions",
    write: list[str] | None = None,
    overlays: bool | None = None,
    priors: bool = False,
    confidence: bool = False,
    summary: str | None = None,
    nodata: int | None = None,
    simplify: float = 0.0,
    tile: int | None = None,
    overlap: int = 128,
    film: FilmOptions,
    device: str | None = None,
    precision: Precision = "auto",
    trust: bool = False,
) -> int:
    """Segment images and films: files, folders or patterns.

    Writes for each image NAME.png, the class index of each pixel (a palette PNG at the image's size, turned as its EXIF
    orientation says), and NAME_overlay.jpg, or what --write names. The mask of a georeferenced TIFF is a GeoTIFF,
    NAME.tif. One image is in memory at a time, with --tile not even one; masks of all TIFF files are then NAME.tif. An
    image that can't be segmented is listed at the end and does not stop the others. Processes that torchrun started
    share the images.

    Of a film (.mp4, .mkv ...; needs the extra video) it writes NAME.mp4, the film with the colors over it and its
    sound, and the folder NAME with the label map of each frame; --write takes mask, overlay, confidence and json then.
    The same command goes on where a run was stopped. A folder stands for its images, or for its films if it has none.

    Args:
        weights: Checkpoint: a .safetensors file, the folder of a run, OWNER/NAME on the Hugging Face Hub, or the name
            of a published model; or an exported file, e.g. model.onnx. Left out, the model in the package is used,
            which knows 11 classes of street scenes.
        images: Image files, films, folders (with all below them), or quoted patterns such as "photos/*.jpg".
        inference: How images are put through the model; what is not given is as the checkpoint's recipe says.
        out: Folder to write to.
        write: What to write, one or more of mask, overlay, confidence, priors, probabilities, json, coco, labelme,
            label_studio, cvat, geojson, gpkg, qgis, cog (docs/evaluate-and-predict.md lists the files); null for mask
            and overlay.
        overlays: Write NAME_overlay.jpg too: the colors over the image, with a legend.
        priors: Write NAME_prior1.png ...: what the semantic prior of each stage favors.
        confidence: Write NAME_confidence.png: the probability of the chosen class, white is certain.
        summary: CSV file to write, with the area and the share of each class in all images.
        nodata: Value that says in all channels that a pixel is no data, e.g. 0 for scans with a black border; null: as
            the file declares it.
        simplify: Pixels by which the borders of polygons (labelme, geojson, gpkg) may be simplified; 0 is exact.
        tile: Side in pixels of the tiles in which images of any size are segmented, at their own size and with whatever
            ratios and flip the recipe has; null for the image in one piece.
        overlap: Pixels that tiles share with their neighbors and are blended in.
        film: How films are segmented.
        device: Where to run, e.g. cpu or cuda; null for the GPU if there is one (an exported file: the CPU).
        precision: fp32, bf16 (less time and memory where the device computes in it), or auto: bf16 where the device
            computes in it, else fp32.
        trust: Open exported files that hold code too (.pt2, .engine): only those of your own making.

    Returns:
        Exit code: 2 if an image failed.

    Raises:
        ValueError: If the checkpoint can't be read, no image is found, or the output can't be written.
    """
    from semask.checkpoints.places import DEFAULT, EMBEDDED
    from semask.data.film_files import films_of
    from semask.engines.catalog import is_exported
    from semask.prediction.files import find_images, left_out
    from semask.prediction.opening import open_predictor
    from semask.prediction.processes import all_or_none, gathered, joined
    from semask.prediction.requested import Outputs, check_films, check_outputs
    from semask.prediction.results import finish, predict_images

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
    named, images = named_model(weights, images or [])
    weights = named or str(EMBEDDED[DEFAULT])
    files = find_images(images)
    films = films_of(files)
    if film and not films:
        raise ValueError(f"--{next(iter(film))} is of films, and there is none: leave it out, or give a film")
    check_outputs(outputs, out, inference)
    check_films(outputs, out, films)
    if "priors" in outputs.kinds and is_exported(weights):
        raise ValueError(f"{weights}: an exported file gives no priors: give the checkpoint, or leave out --priors")
    with joined(device) as group:
        reporter = ConsoleReporter(quiet=group.rank > 0)
        with all_or_none(group.world_size):
            opened = open_predictor(
                weights,
                inference=inference,
                tiles=tile is not None,
                device=device if is_exported(weights) else group.device,
                precision=precision,
                trust=trust,
            )
            results = predict_images(
                opened.predictor,
                files,
                outputs,
                out=out,
                rank=group.rank,
                world_size=group.world_size,
                reporter=reporter,
            )
        if named is None:
            known = ", ".join(opened.predictor.classes.names)
            reporter.note(f"no model named: the one in the package, for street scenes ({known})")
        tell(opened.choice, reporter)
        share = len(files[group.rank :: group.world_size])
        with all_or_none(group.world_size):
            own = list(reporter.track(results, "segmenting", share))
        everything = [result for part in gathered(own, group.world_size) for result in part]
    if group.rank == 0:
        if group.world_size > 1:  # one alone has done so
            finish(everything, outputs, out, opened.predictor.classes)
        reporter.warn(
            [counted(left_out(images, files), "left out, a folder of images stands for these only: name the film")]
        )
        print_summary(everything, out, reporter)
        if summary is not None:
            print_totals(everything, opened.predictor.classes)
            reporter.note(f"The table of all images is in {summary}")
    return 2 if any(result.failure for result in everything) else 0


def named_model(weights: str | None, images: list[str]) -> tuple[str | None, list[str]]:
    """Tell the model from the images where the first word may be either.

    Args:
        weights: The first word.
        images: The other words.

    Returns:
        The model, None if none was named; and the images.

    Raises:
        ValueError: If there is no image.

    >>> named_model("photo.jpg", []), named_model("model.onnx", ["photo.jpg"])
    ((None, ['photo.jpg']), ('model.onnx', ['photo.jpg']))
    """
    from semask.checkpoints.places import IN_FOLDER
    from semask.data.film_files import FILM_SUFFIXES
    from semask.data.images import IMAGE_SUFFIXES

    if weights is None:
        raise ValueError(
            "which images? semask predict photo.jpg, or semask predict MODEL photo.jpg (see semask predict --help)"
        )
    path = Path(weights)
    pattern = any(sign in weights for sign in "*?[") and not path.exists()
    pictures = path.is_dir() and not any((path / name).is_file() for name in IN_FOLDER)
    if path.suffix.lower() in IMAGE_SUFFIXES + FILM_SUFFIXES or pattern or (pictures and not images):
        return None, [weights, *images]
    if not images and not path.exists():
        raise ValueError(
            f"{one_line(weights)}: no such image: semask predict photo.jpg, or semask predict MODEL photo.jpg"
        )
    if not images:
        raise ValueError(
            f"{one_line(weights)}: a model, but which images? semask predict {one_line(weights)} photo.jpg"
        )
    return weights, images


def print_summary(results: "list[Result]", out: str, reporter: ConsoleReporter) -> None:
    """Say what was written, what is to be known of it, and what failed."""
    from semask.data.film_files import films_of
    from semask.data.images import dark_line
    from semask.prediction.pictures import MOST_JPEG

    reporter.warn(
        [
            dark_line({result.image: result.reach for result in results if result.reach is not None}),
            counted(
                [result.image for result in results if result.unplaced],
                "masks are without the place on earth: pip install 'semask[geo]' to keep it",
            ),
            counted(
                [result.image for result in results if result.smaller_overlay],
                f"overlays are smaller than the image: a JPEG takes {MOST_JPEG} pixels a side",
            ),
        ]
    )
    skipped: dict[str, list[Path]] = {}
    for result in results:
        for name in result.skipped:
            skipped.setdefault(name, []).append(result.image)
    reporter.warn([counted(files, f"no {name}, which is of georeferenced images") for name, files in skipped.items()])
    failures = [result.failure for result in results if result.failure is not None]
    masks = any(result.mask is not None for result in results)
    films = [result.film is not None for result in results if result.failure is None]
    if any(films):
        done = f"{number_of(len(films), 'film' if all(films) else 'images and film')} segmented, the results are"
        print_films(results, reporter)
    elif masks or not films:
        done = number_of(len(films), "mask")
    else:
        done = f"{number_of(len(films), 'image')} segmented, the results are"
    reporter.console.print(f"{done} in {shown(out)}", soft_wrap=True)
    if failures:
        of = "films" if len(films_of([result.image for result in results])) == len(results) else "images"
        reporter.console.print(f"{len(failures)} of {len(results)} {of} could not be segmented:", style="bold red")
        for failure in failures:
            reporter.console.print(f"  {shown(failure)}", soft_wrap=True)


def print_films(results: "list[Result]", reporter: ConsoleReporter) -> None:
    """Say what came of films."""
    for result in results:
        if result.film is None:
            continue
        reporter.warn(result.film.said)
        share = result.film.flicker
        flicker = (
            "nothing stands still" if share is None else f"flicker {100 * share:.2f} % of the pixels that stand still"
        )
        reporter.note(f"{one_line(result.image)}: {number_of(result.film.frames, 'frame')}, {flicker}")


def counted(files: list[Path], what: str) -> str | None:
    """One line about the first of some files; None if there are none."""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{one_line(files[0])}{more}: {what}" if files else None


def print_totals(results: "list[Result]", classes: "Classes") -> None:
    """Print what each class covers in all images."""
    from rich.table import Table

    from semask.prediction.summary import totals

    areas = [result.areas for result in results if result.areas is not None]
    table = Table(title=f"all {len(areas)} images")
    table.add_column("class")
    for column in ("pixels", "share %", "square meters"):
        table.add_column(column, justify="right")
    for row in totals(areas, classes):
        meters = "" if row.square_meters is None else f"{row.square_meters:,.0f}"
        table.add_row(shown(row.name, longest=60), f"{row.pixels:,}", f"{100 * row.share:.2f}", meters)
    make_console(stderr=False).print(table)
