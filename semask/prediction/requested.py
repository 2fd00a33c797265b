"""What is asked for of each image, checked before a model is opened. Without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from semask.extras import require
from semask.files.text import one_line
from semask.prediction.output import check
from semask.prediction.polygons import MOST_SIMPLIFIED
from semask.settings.film import FilmSettings
from semask.settings.inference import Given

if TYPE_CHECKING:
    from semask.prediction.array_predictor import ArrayPredictor
    from semask.prediction.predictor import Predictor

FILM_KINDS = ("mask", "overlay", "confidence", "json")
"""Outputs that films have."""


@dataclass(frozen=True)
class Outputs:
    """What is asked for of each image.

    Attributes:
        overlays: Whether to write NAME_overlay.jpg, the colors over the image, with a legend; None: unless `write`
            names the outputs, and overlay is not among them.
        priors: Whether to write NAME_prior1.png ..., what the semantic prior of each stage favors.
        confidence: Whether to write NAME_confidence, the probability of the chosen class.
        tile: Side in pixels of the tiles in which images are segmented; None for the image in one piece.
        overlap: Pixels that tiles share with their neighbors.
        write: Names of the outputs, which are the names of the files in prediction/outputs/; None: mask and overlay.
        summary: CSV file for the area and the share of each class in all images; None for none.
        nodata: Value that says in all channels that a pixel is no data; None: as the file declares it.
        simplify: Pixels by which the borders of polygons may be simplified; 0: polygons are exact.
        film: How films are segmented.
    """

    overlays: bool | None = None
    priors: bool = False
    confidence: bool = False
    tile: int | None = None
    overlap: int = 128
    write: Sequence[str] | None = None
    summary: str | Path | None = None
    nodata: int | None = None
    simplify: float = 0.0
    film: FilmSettings = field(default_factory=FilmSettings)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the outputs, each once."""
        named = dict.fromkeys(("mask", "overlay") if self.write is None else self.write)
        if self.overlays is False:
            named.pop("overlay", None)
        asked = {"overlay": self.overlays, "priors": self.priors, "confidence": self.confidence}
        return tuple(named | dict.fromkeys(name for name, wanted in asked.items() if wanted))


def check_outputs(outputs: Outputs, out: str | Path | None, inference: Given) -> None:
    """Refuse what does not go together, before a model is opened.

    Raises:
        ValueError: If `out` is no folder, tiles can't do what is asked for, or rasterio is missing for them.
    """
    tile = outputs.tile
    check(outputs.kinds, tiles=tile is not None)
    if outputs.summary is not None and (str(outputs.summary) == "" or Path(outputs.summary).is_dir()):
        raise ValueError(f"summary is {str(outputs.summary)!r}: give the name of a CSV file to write")
    if not 0 <= outputs.simplify <= MOST_SIMPLIFIED:
        raise ValueError(f"simplify is {outputs.simplify}: give pixels, 0 (exact) to {MOST_SIMPLIFIED:g}")
    if outputs.simplify > 0:
        require("shapely")
    if outputs.nodata is not None:
        require("rasterio")
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
    if out is None:
        raise ValueError(f"tile is {tile}, but tiles are written to files: give a folder as out")
    from semask.data.geo_files import import_rasterio
    from semask.prediction.blending import check_grid

    check_grid(tile, outputs.overlap)
    import_rasterio()


def check_films(outputs: Outputs, out: str | Path | None, films: Sequence[Path]) -> None:
    """Refuse what films do not have, before a model is opened.

    Raises:
        ValueError: If something is asked for that is of images only, or PyAV is missing.
    """
    if not films:
        return
    name = one_line(films[0])
    others = [kind for kind in outputs.kinds if kind not in FILM_KINDS]
    if others:
        raise ValueError(
            f"{name}: {others[0]} is of images, not of films: write {', '.join(FILM_KINDS)}, or leave out the film"
        )
    for option, given in (("tile", outputs.tile), ("nodata", outputs.nodata), ("simplify", outputs.simplify or None)):
        if given is not None:
            raise ValueError(f"{name}: --{option} is of images, not of films: leave it out, or the film")
    if out is None:
        raise ValueError(f"{name}: what comes of a film is written to files: give a folder as out")
    require("av")


def check_model(predictor: "Predictor | ArrayPredictor", outputs: Outputs) -> None:
    """Refuse what a model does not give.

    Raises:
        ValueError: If an exported file has no priors, or gives labels only.
    """
    exported = not hasattr(predictor.model, "encoder")
    if exported and "priors" in outputs.kinds:
        raise ValueError("an exported file gives no priors: give the checkpoint, or leave out --priors")
    if getattr(predictor.model, "makes_labels", False):
        refused: list[str] = [name for name in ("confidence", "probabilities") if name in outputs.kinds]
        refused += ["tile"] if outputs.tile is not None else []
        refused += ["smoothing"] if outputs.film.smoothing > 0 else []
        if refused:
            raise ValueError(
                f"a file exported with --outputs labels has no scores, which {refused[0]} needs: leave it out, or "
                "export with --outputs scores"
            )
