"""Images that do not fit into memory: read, segmented and written by windows, in tiles whose seams are blended.

Tiles of one size overlap. In each overlap lies a ramp, `overlap` pixels wide, across which the class probabilities go
over from one tile to the next; outside the ramps a pixel is decided by one tile alone. Of a finished tile only what the
ramps need is kept: its last columns until the tile at its right is done, and its last rows, at the decoder's size and
in a file, until the row of tiles below is done. So memory hardly depends on the size of the image.

Each finished row of tiles is a file in a hidden folder beside the output, which is how a run that was killed goes on.
Files are read and written with rasterio (GDAL): the extra `geo`.
"""

import contextlib
import functools
import hashlib
import json
import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from semask.checkpoints.saving import versions
from semask.checkpoints.tensors import read_tensors, write_tensors
from semask.data.classes import IGNORE_INDEX, Classes
from semask.data.images import Reach, encoded
from semask.files.atomic import write_whole
from semask.files.text import make_console, one_line, reason, shown
from semask.outputs import at_once, source_rows
from semask.prediction.inputs import starts
from semask.prediction.pictures import overlay, with_legend
from semask.prediction.predictor import Predictor
from semask.prediction.raster import BLOCK, Raster, Unreadable, gdal, write
from semask.prediction.score_maps import View, probabilities, require_numbers

OVERVIEW = 2048
"""Longest side of an overlay in pixels."""


class Span(NamedTuple):
    """A tile along one axis, in pixels of the image."""

    tile: range
    """What the model sees."""
    rise: range
    """Ramp that this tile shares with the one before; empty for the first."""
    fall: range
    """Ramp that it shares with the one after; empty for the last."""

    @property
    def own(self) -> range:
        """Pixels that are decided when this tile is seen: with the ramp before, without the one after."""
        return range(self.rise.start, self.fall.start)

    def inside(self, pixels: range) -> range:
        """The same pixels, counted from the start of the tile."""
        return range(pixels.start - self.tile.start, pixels.stop - self.tile.start)


class Bands(Protocol):
    """What is kept of the tiles [row, column] for the row of tiles below; a dict will do."""

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]: ...
    def __setitem__(self, key: tuple[int, int], value: dict[str, Tensor]) -> None: ...


def check_grid(tile: int, overlap: int) -> None:
    """Refuse tiles that can't be laid.

    Raises:
        ValueError: If the tile has no pixel, or the overlap is negative or more than half the tile.
    """
    if tile < 1:
        raise ValueError(f"tile is {tile}: give its side in pixels, at least 1")
    if not 0 <= overlap <= tile // 2:
        raise ValueError(f"overlap is {overlap}: give 0 to {tile // 2}, at most half the tile of {tile}")


def spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Lay tiles along an axis, all of one size; the last is moved inside, and is not larger than the image.

    >>> [(x.tile, x.own) for x in spans(100, 60, 20)]
    [(range(0, 60), range(0, 40)), (range(40, 100), range(40, 100))]
    """
    check_grid(tile, overlap)
    tile = min(tile, length)
    firsts = starts(length, tile, max(tile - overlap, 1))
    edges = [range(0)]
    for this, following in pairwise(firsts):
        # In the middle of what both see, which is more than the overlap where the last tile was moved.
        first = max((this + following + tile - overlap) // 2, edges[-1].stop)
        edges.append(range(first, first + overlap))
    edges.append(range(length, length))
    return [Span(range(first, first + tile), *ramps) for first, ramps in zip(firsts, pairwise(edges), strict=True)]


def rising(ramp: range, part: range, device: torch.device) -> Tensor:
    """Weights in (0, 1) of the later tile in some pixels of a ramp: a raised cosine; the earlier one has the rest."""
    at = torch.arange(part.start - ramp.start, part.stop - ramp.start, dtype=torch.float64, device=device)
    return torch.sin((at + 0.5) / len(ramp) * math.pi / 2).square().float()


def blend(
    predictor: Predictor, pixels: Tensor, rows: Sequence[Span], columns: Sequence[Span], row: int, bands: Bands
) -> Iterator[tuple[range, range, Tensor]]:
    """Segment a row of tiles.

    Args:
        predictor: At the image's own size: its inference has no scale.
        pixels: What the tiles see, [C, h, W], uint8 or float in [0, 1].
        rows: Tiles from top to bottom.
        columns: Tiles from left to right.
        row: Which of the rows; the one above must have been segmented before.
        bands: What is kept of the tiles above; those of this row are added.

    Yields:
        Rows and columns in the image, and the class probabilities [1, K, rows, columns] there; strip by strip, tile by
        tile, each pixel of the row's `own` once.
    """
    seam: list[Tensor] = []
    for number in range(len(columns)):
        yield from _blend_tile(predictor, pixels, rows, columns, (row, number), bands, seam)


def _blend_tile(
    predictor: Predictor,
    pixels: Tensor,
    rows: Sequence[Span],
    columns: Sequence[Span],
    at: tuple[int, int],
    bands: Bands,
    seam: list[Tensor],
) -> Iterator[tuple[range, range, Tensor]]:
    """Segment the tile at a row and a column; `seam` are the last columns of each strip, of the one before, then its.

    A function of its own, so that nothing of a tile is held while the model sees the next.
    """
    before, row, column = rows[at[0] - 1], rows[at[0]], columns[at[1]]
    with torch.inference_mode():
        size = (len(row.tile), len(column.tile))
        views = predictor.views(pixels[..., _slice(column.tile)])[0]
        require_numbers(views)
        above: list[View] = []
        if row.rise:
            above = restored(bands[at[0] - 1, at[1]], views, before.inside(row.rise), size)
        if row.fall:
            bands[at] = cut(views, row.inside(row.fall), size)
    own, rise, fall = (_slice(column.inside(x)) for x in (column.own, column.rise, column.fall))
    for strip, part in enumerate(_strips(row, views)):
        with torch.inference_mode():
            p = probabilities(views, size, row.inside(part))
            if part.start < row.rise.stop:
                weight = rising(row.rise, part, p.device)[:, None]
                p = torch.lerp(probabilities(above, size, before.inside(part)), p, weight)
            if column.rise:
                weight = rising(column.rise, column.rise, p.device)
                p[..., rise] = torch.lerp(seam[strip], p[..., rise], weight)
            seam[strip : strip + 1] = [p[..., fall].clone()]
        yield part, column.own, p[..., own]


def cut(views: Sequence[View], rows: range, size: tuple[int, int]) -> dict[str, Tensor]:
    """Take the scores that some rows of a tile of `size` are computed from."""
    kept = {f"scores{i}": view.scores[:, :, _cells(view, rows, size)].contiguous() for i, view in enumerate(views)}
    return kept | {f"classes{i}": view.classes.contiguous() for i, view in enumerate(views) if view.classes is not None}


def restored(kept: dict[str, Tensor], views: Sequence[View], rows: range, size: tuple[int, int]) -> list[View]:
    """Views of a tile from what was `cut` of them, right in these rows; `views` are those of any other tile."""
    result = []
    for i, view in enumerate(views):
        scores = torch.zeros_like(view.scores)
        scores[:, :, _cells(view, rows, size)] = kept[f"scores{i}"].to(scores.device)
        classes = None if view.classes is None else kept[f"classes{i}"].to(scores.device)
        result.append(view._replace(scores=scores, classes=classes))
    return result


def _cells(view: View, rows: range, size: tuple[int, int]) -> slice:
    """Rows of the scores that `probabilities` takes some rows of the tile from."""
    height = view.scores.shape[-2]
    cells = source_rows(source_rows(rows, view.size[0], size[0]), height, view.padded[0])
    return slice(cells.start, cells.stop)


def _strips(span: Span, views: Sequence[View]) -> Iterator[range]:
    """Cut the rows that are decided into strips, each with the tile above in all its rows or in none."""
    scores, classes = views[0].scores, views[0].classes
    values = max(scores.shape[1], 0 if classes is None else classes.shape[-1]) * views[0].size[1]
    step = at_once(scores, values)
    for part in (span.rise, range(span.rise.stop, span.fall.start)):
        yield from (range(first, min(first + step, part.stop)) for first in range(part.start, part.stop, step))


def _slice(pixels: range) -> slice:
    return slice(pixels.start, pixels.stop)


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
        self.lock = FileLock(folder / "lock", blocking=False)  # the system lets go of it when a run is killed
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.lock.acquire()
        except Timeout as error:
            raise ValueError(
                f"{one_line(folder)}: another run is writing this result: wait for it, or choose another --out"
            ) from error
        except OSError as error:
            raise ValueError(
                f"{one_line(folder)}: could not be written ({error.strerror or reason(error)}): choose another folder"
            ) from error
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
        shutil.rmtree(self.folder, ignore_errors=True)
        self.lock.release()
        if sys.platform == "win32":  # where the lock's own file could not be deleted before
            shutil.rmtree(self.folder, ignore_errors=True)

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
    bar: Progress | None = None,
    reaches: dict[Path, Reach] | None = None,
) -> Path:
    """Segment an image file of any size in tiles, and write what comes out beside each other.

    A TIFF gives OUT.tif (tiled, compressed, the palette of the classes, its place on earth, 255 where the image has no
    data), any other file OUT.png. A run that was stopped goes on after the last finished row of tiles.

    Args:
        predictor: At the image's own size: its inference has no scale.
        path: Image file: TIFF, PNG, JPEG, BMP, WebP or GIF.
        out: Path of the outputs without ending.
        tile: Side of a tile in pixels; a multiple of 32 suits the models best.
        overlap: Pixels that neighbours share and are blended in, at most half a tile.
        confidence: Also write OUT_confidence, 0..255 for probabilities of the chosen class from 0 to 1.
        overlays: Also write OUT_overlay.jpg, the colours over the image, made smaller, with a legend.
        bar: Where to show the progress.
        reaches: Where to note how much of their range the samples of a file of more than 8 bits use.

    Returns:
        Path of the label map.

    Raises:
        Unreadable: If the image can't be read; nothing is left then.
        ValueError: If a setting is wrong, rasterio is missing, or the output can't be written.
    """
    check_grid(tile, overlap)
    if predictor.inference.scale is not None:
        raise ValueError(f"inference scale is {predictor.inference.scale}: tiles have the image's own size; give none")
    path, out, bar = Path(path), Path(out), bar or Progress(console=make_console(), disable=True)
    channels = predictor.model.config["in_channels"]
    with gdal(), contextlib.closing(Raster(path, channels=channels)) as image:
        ending = ".tif" if image.is_tiff else ".png"
        target = out.with_name(f"{out.name}{ending}")
        settings = {"tile": tile, "overlap": overlap, "confidence": confidence}
        with Parts(target.with_name(f".{target.name}.parts"), identity(predictor, path) | settings) as parts:
            try:
                segment(predictor, image, parts, tile=tile, overlap=overlap, confidence=confidence, bar=bar)
                size = (image.height, image.width)
                write_map = functools.partial(write, size=size, place=image.place, scratch=parts.folder)
                if confidence:
                    sure = out.with_name(f"{out.name}_confidence{ending}")
                    write_map(sure, parts.rows("confidence", BLOCK))
                write_map(target, parts.rows("label", BLOCK), palette=predictor.classes.palette)
                if overlays:
                    write_overlay(out.with_name(f"{out.name}_overlay.jpg"), parts, image, predictor.classes)
            except Unreadable:
                parts.remove()
                raise
            parts.remove()
        if reaches is not None and image.reach is not None:
            reaches[path] = image.reach
    return target


def segment(
    predictor: Predictor, image: Raster, parts: Parts, *, tile: int, overlap: int, confidence: bool, bar: Progress
) -> None:
    """Segment the rows of tiles that are missing in `parts`."""
    rows, columns = spans(image.height, tile, overlap), spans(image.width, tile, overlap)
    if parts.done:
        bar.console.print(
            f"{shown(image.path.name)}: goes on after {parts.done} of {len(rows)} rows of tiles", highlight=False
        )
    total, known = len(rows) * len(columns), parts.done * len(columns)
    task = bar.add_task(f"tiles of {shown(image.path.name)}", total=total, completed=known)
    for row, pixels in enumerate(image.windows([row.tile for row in rows[parts.done :]]), start=parts.done):
        own = rows[row].own
        maps = {name: torch.empty(len(own), image.width, dtype=torch.uint8) for name in ("label", "confidence")}
        for strip, part, p in blend(predictor, pixels, rows, columns, row, parts):
            best = p[0].max(dim=0)
            where = (slice(strip.start - own.start, strip.stop - own.start), _slice(part))
            maps["label"][where] = best.indices.to(torch.uint8).cpu()
            maps["confidence"][where] = (best.values.clamp(max=1) * 255).round().to(torch.uint8).cpu()
            bar.update(task, advance=strip.stop == own.stop)
        invalid = image.invalid(own)
        if invalid is not None:
            maps["label"][invalid], maps["confidence"][invalid] = IGNORE_INDEX, 0
        parts.finish(maps if confidence else {"label": maps["label"]})
    bar.remove_task(task)


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


def write_overlay(target: Path, parts: Parts, image: Raster, classes: Classes) -> None:
    """Write the colours of the label map over the image, both made smaller by a whole number."""
    factor = -(-max(image.height, image.width) // OVERVIEW)
    label = np.stack([rows[0, ::factor].copy() for rows in parts.rows("label", factor)])  # a view would keep all rows
    picture = with_legend(overlay(image.overview(factor), label, classes), label, classes)
    write_whole(target, encoded(picture, "JPEG"))
