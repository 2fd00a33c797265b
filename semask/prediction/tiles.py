"""Images that do not fit into memory: read, segmented and written by windows, in tiles whose seams are blended.

Tiles of one size overlap. In each overlap lies a ramp, `overlap` pixels wide, across which the class probabilities go
over from one tile to the next; outside the ramps a pixel is decided by one tile alone. Of a finished tile only what the
ramps need is kept: its last columns until the tile at its right is done, and its last rows, at the decoder's size and
in a file, until the row of tiles below is done. So memory hardly depends on the size of the image.

Each finished row of tiles is a file in a hidden folder next to the output, which is how a run that was killed goes on.
Files are read and written with rasterio (GDAL): the extra `geo`.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semask.checkpoints.saving import versions
from semask.checkpoints.tensors import read_tensors, write_tensors
from semask.data.classes import IGNORE_INDEX
from semask.data.geo_files import gdal
from semask.data.images import Reach
from semask.files.atomic import write_whole
from semask.files.reporter import Reporter
from semask.files.text import one_line
from semask.prediction.areas import Areas
from semask.prediction.blending import Span, blend, check_grid, spans
from semask.prediction.claims import claim, remove
from semask.prediction.files import Unreadable
from semask.prediction.output import write_all
from semask.prediction.predictor import Predictor
from semask.prediction.probability_parts import ProbabilityParts
from semask.prediction.raster import Raster
from semask.prediction.score_maps import tempered
from semask.prediction.segmentation import Segmentation

STRIP = 2048
"""Rows whose polygons are made at once; those of a region that goes on below are cut there."""


class Readable(Protocol):
    """An image whose rows are read from top to bottom: a file (`Raster`), or one in memory."""

    path: Path
    height: int
    width: int

    def windows(self, windows: Sequence[range]) -> Iterator[NDArray[Any]]:
        """Give windows [C, rows, W] of as many rows each."""

    def invalid(self, rows: range) -> NDArray[np.bool_] | None:
        """Which pixels [n, W] are no data; None: none."""


class Parts:
    """Finished rows of tiles in a folder, and what the next row needs of the last one.

    A context, in which no other run can use the folder.

    Args:
        folder: Where; it is emptied if what it holds belongs to something else, or is damaged.
        identity: What the parts belong to, as JSON.

    Attributes:
        done: Rows of tiles that are finished, from the top.

    Raises:
        ValueError: If the folder can't be written, or another run is using it.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.lock = claim(folder)
        text, note = json.dumps(identity, indent=1), folder / "parts.json"
        known = note.is_file() and note.read_text(encoding="utf-8") == text
        if not known or not all(map(is_whole, folder.glob("*.safetensors"))):
            for part in folder.glob("*.*"):
                part.unlink()
            write_whole(note, text)
        self.done = 0
        while self._row(self.done).is_file():
            self.done += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        return read_tensors(self._band(*key))[0]

    def __setitem__(self, key: tuple[int, int], value: dict[str, Tensor]) -> None:
        write_tensors(self._band(*key), {name: tensor.cpu() for name, tensor in value.items()}, {})

    def finish(self, maps: dict[str, Tensor]) -> None:
        """Write the maps [n, W] of the next row; the row above it is not needed any more."""
        write_tensors(self._row(self.done), maps, {})
        for band in self.folder.glob(self._band(self.done - 1, "*").name):
            band.unlink()
        self.done += 1

    def rows(self, name: str, step: int) -> Iterator[NDArray[np.uint8]]:
        """Read a map from top to bottom, `step` rows at a time."""
        rest: NDArray[np.uint8] | None = None
        for row in range(self.done):
            rows = read_tensors(self._row(row))[0][name].numpy()
            rest = rows if rest is None else np.concatenate([rest, rows])
            while len(rest) >= step:
                yield rest[:step]
                rest = rest[step:]
        if rest is not None and len(rest):
            yield rest

    def remove(self) -> None:
        """Delete the folder, while no other run can begin to use it."""
        remove(self.folder, self.lock)

    def _row(self, row: int) -> Path:
        return self.folder / f"row-{row}.safetensors"

    def _band(self, row: int, column: int | str) -> Path:
        return self.folder / f"band-{row}-{column}.safetensors"


def is_whole(part: Path) -> bool:
    """Whether a part is as it was written."""
    try:
        read_tensors(part)
    except ValueError:
        return False
    return True


def predict_file(
    predictor: Predictor,
    path: str | Path,
    out: str | Path,
    *,
    tile: int = 1024,
    overlap: int = 128,
    confidence: bool = False,
    overlays: bool = False,
    reporter: Reporter | None = None,
    reaches: dict[Path, Reach] | None = None,
) -> Path:
    """Segment an image file of any size in tiles, and write what comes out next to each other.

    A TIFF gives OUT.tif (tiled, compressed, the palette of the classes, its place on earth, 255 where the image has no
    data), any other file OUT.png. A run that was stopped goes on after the last finished row of tiles.

    Args:
        predictor: At the image's own size: its inference has no scale.
        path: Image file: TIFF, PNG, JPEG, BMP, WebP or GIF.
        out: Path of the outputs without ending.
        tile: Side of a tile in pixels; a multiple of 32 suits the models best.
        overlap: Pixels that neighbors share and are blended in, at most half a tile.
        confidence: Also write OUT_confidence, 0..255 for probabilities of the chosen class from 0 to 1.
        overlays: Also write OUT_overlay.jpg, the colors over the image, made smaller, with a legend.
        reporter: Is told how far it is; None for nobody.
        reaches: Gets how much of their range the samples of a file of more than 8 bits use.

    Returns:
        Path of the label map.

    Raises:
        Unreadable: If the image can't be read; nothing is left then.
        ValueError: If a setting is wrong, rasterio is missing, or the output can't be written.
    """
    kinds = ("mask", *(["confidence"] if confidence else []), *(["overlay"] if overlays else []))
    done = predict_tiles(predictor, path, out, kinds=kinds, tile=tile, overlap=overlap, reporter=reporter)
    if reaches is not None and done.reach is not None:
        reaches[Path(path)] = done.reach
    return done.mask


class Tiled(NamedTuple):
    """What came of an image in tiles."""

    mask: Path
    """Path of the label map, if it was asked for."""
    areas: Areas | None
    """What each class covers, if it was asked for."""
    skipped: tuple[str, ...]
    """Outputs that it does not have, because it is not georeferenced."""
    reach: Reach | None
    """How much of their range the samples of a file of more than 8 bits use."""


def predict_tiles(
    predictor: Predictor,
    path: str | Path,
    out: str | Path,
    *,
    kinds: Sequence[str] = ("mask",),
    tile: int = 1024,
    overlap: int = 128,
    nodata: int | None = None,
    simplify: float = 0.0,
    summary: bool = False,
    reporter: Reporter | None = None,
) -> Tiled:
    """Segment an image file of any size in tiles, and write what is asked for; see `predict_file`.

    Args:
        predictor: At the image's own size: its inference has no scale.
        path: Image file: TIFF, PNG, JPEG, BMP, WebP or GIF.
        out: Path of the outputs without ending.
        kinds: Names of the outputs; all but those that say why not (`Output.whole`).
        tile: Side of a tile in pixels; a multiple of 32 suits the models best.
        overlap: Pixels that neighbors share and are blended in, at most half a tile.
        nodata: Value that says in all channels that a pixel is no data; None: as the file declares it.
        simplify: Pixels by which the borders of polygons may be simplified.
        summary: Whether to measure what each class covers.
        reporter: Is told how far it is; None for nobody.

    Raises:
        Unreadable: If the image can't be read; nothing is left then.
        ValueError: If a setting is wrong, rasterio is missing, or the output can't be written.
    """
    require_tiles(predictor, tile, overlap)
    path, out, reporter = Path(path), Path(out), reporter or Reporter()
    reading = predictor.reading
    with gdal(), contextlib.closing(Raster(path, channels=reading.channels, reading=reading, nodata=nodata)) as image:
        target = out.with_name(f"{out.name}{'.tif' if image.is_tiff else '.png'}")
        settings = {"tile": tile, "overlap": overlap, "nodata": nodata}
        settings |= {name: name in kinds for name in ("confidence", "probabilities")}
        with Parts(target.with_name(f".{target.name}.parts"), identity(predictor, path) | settings) as parts:
            probabilities = None
            if "probabilities" in kinds:
                rows = spans(image.height, tile, overlap)
                probabilities = ProbabilityParts(parts.folder, rows, image.width, len(predictor.classes))
            try:
                segment(
                    predictor,
                    image,
                    parts,
                    tile=tile,
                    overlap=overlap,
                    confidence="confidence" in kinds,
                    reporter=reporter,
                    probabilities=probabilities,
                )
                done = Segmentation(
                    image=path,
                    stem=out,
                    classes=predictor.classes,
                    size=(image.height, image.width),
                    rows=partial(parts.rows, "label"),
                    picture=image.overview,
                    scratch=parts.folder,
                    kinds=tuple(kinds),
                    confidence=partial(parts.rows, "confidence"),
                    probability=None if probabilities is None else probabilities.read,
                    place=image.place,
                    simplify=simplify,
                    strip=STRIP,
                )
                areas = done.areas if summary else None
                skipped = write_all(done)
            except Unreadable:
                parts.remove()
                raise
            parts.remove()
        return Tiled(target, areas, skipped, image.reach)


def require_tiles(predictor: Predictor, tile: int, overlap: int) -> None:
    """Refuse tiles that can't be laid, or a predictor that resizes images.

    Raises:
        ValueError: The first that is wrong.
    """
    check_grid(tile, overlap)
    if predictor.inference.scale is not None:
        raise ValueError(f"inference scale is {predictor.inference.scale}: tiles have the image's own size; give none")


def segment(
    predictor: Predictor,
    image: Readable,
    parts: Parts,
    *,
    tile: int,
    overlap: int,
    confidence: bool,
    reporter: Reporter,
    probabilities: ProbabilityParts | None = None,
) -> None:
    """Segment the rows of tiles that are missing in `parts`."""
    rows, columns = spans(image.height, tile, overlap), spans(image.width, tile, overlap)
    name = one_line(image.path.name)
    if parts.done:
        reporter.note(f"{name}: goes on after {parts.done} of {len(rows)} rows of tiles")
    tiles = _segmented(predictor, image, parts, rows, columns, probabilities, confidence=confidence)
    for _ in reporter.track(tiles, f"tiles of {name}", len(rows) * len(columns)):
        pass


def _segmented(
    predictor: Predictor,
    image: Readable,
    parts: Parts,
    rows: Sequence[Span],
    columns: Sequence[Span],
    probabilities: ProbabilityParts | None,
    *,
    confidence: bool,
) -> Iterator[None]:
    """Segment the missing rows, and yield after each tile; at once for those of the rows that are there."""
    yield from (None for _ in range(parts.done * len(columns)))
    for row, pixels in enumerate(image.windows([row.tile for row in rows[parts.done :]]), start=parts.done):
        own = rows[row].own
        maps = {name: torch.empty(len(own), image.width, dtype=torch.uint8) for name in ("label", "confidence")}
        for strip, part, p in blend(predictor, torch.from_numpy(pixels), rows, columns, row, parts):
            best = p[0].max(dim=0)
            where = (slice(strip.start - own.start, strip.stop - own.start), slice(part.start, part.stop))
            maps["label"][where] = best.indices.to(torch.uint8).cpu()
            p = tempered(p, predictor.temperature)  # after the tiles were blended, so that the classes stay
            sure = best.values if predictor.temperature is None else p[0].amax(dim=0)
            maps["confidence"][where] = (sure.clamp(max=1) * 255).round().to(torch.uint8).cpu()
            if probabilities is not None:
                probabilities.put(row, strip, part, p[0].half().cpu().numpy())
            if strip.stop == own.stop:
                yield
        invalid = image.invalid(own)
        if invalid is not None:
            where_invalid = torch.from_numpy(invalid)
            maps["label"][where_invalid], maps["confidence"][where_invalid] = IGNORE_INDEX, 0
            if probabilities is not None:
                probabilities.clear(row, invalid)
        if probabilities is not None:
            probabilities.finish(row)
        parts.finish(maps if confidence else {"label": maps["label"]})


def identity(predictor: Predictor, path: Path) -> dict[str, Any]:
    """What a result depends on, as JSON: the file, the weights, the settings and the versions."""
    digest = hashlib.sha256(json.dumps([predictor.model.config, predictor.model.metadata], default=str).encode())
    for name, tensor in predictor.model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return {
        "image": str(path.resolve()),
        "bytes": path.stat().st_size,
        "modified": path.stat().st_mtime_ns,
        "model": digest.hexdigest(),
        "device": next(predictor.model.parameters()).device.type,
        "inference": asdict(predictor.inference),
        "versions": versions(),
    }
