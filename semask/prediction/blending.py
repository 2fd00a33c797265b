"""Tiles over an image: where they lie, and how the class probabilities go over from one to the next."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from semask.acceleration.strips import at_once, source_rows
from semask.prediction.inputs import starts
from semask.prediction.predictor import Predictor
from semask.prediction.score_maps import View, probabilities, require_numbers


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


class Overlaps(Protocol):
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
    predictor: Predictor, pixels: Tensor, rows: Sequence[Span], columns: Sequence[Span], row: int, overlaps: Overlaps
) -> Iterator[tuple[range, range, Tensor]]:
    """Segment a row of tiles.

    Args:
        predictor: At the image's own size: its inference has no scale.
        pixels: What the tiles see, [C, h, W], uint8 or float in [0, 1].
        rows: Tiles from top to bottom.
        columns: Tiles from left to right.
        row: Which of the rows; the one above must have been segmented before.
        overlaps: What is kept of the tiles above; those of this row are added.

    Yields:
        Rows and columns in the image, and the class probabilities [1, K, rows, columns] there; strip by strip, tile by
        tile, each pixel of the row's `own` once.
    """
    seam: list[Tensor] = []
    for number in range(len(columns)):
        yield from _blend_tile(predictor, pixels, rows, columns, (row, number), overlaps, seam)


def _blend_tile(
    predictor: Predictor,
    pixels: Tensor,
    rows: Sequence[Span],
    columns: Sequence[Span],
    at: tuple[int, int],
    overlaps: Overlaps,
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
            above = restored(overlaps[at[0] - 1, at[1]], views, before.inside(row.rise), size)
        if row.fall:
            overlaps[at] = cut(views, row.inside(row.fall), size)
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
