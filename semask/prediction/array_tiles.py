"""An image in memory segmented in tiles: what a model needs is bounded by the tile, and not by the image."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.files.reporter import Reporter
from semask.prediction.predictor import Predictor
from semask.prediction.tiles import Parts, require_tiles, segment


class PixelRows:
    """An image in memory, whose rows are given as those of a file are (`Raster`).

    Args:
        pixels: [H, W, C], uint8, or float32 in [0, 1].
    """

    path = Path("image")

    def __init__(self, pixels: NDArray[Any]) -> None:
        self.pixels = pixels.transpose(2, 0, 1)
        self.height, self.width = pixels.shape[:2]

    def windows(self, windows: Sequence[range]) -> Iterator[NDArray[Any]]:
        """Give windows [C, rows, W]."""
        return (np.ascontiguousarray(self.pixels[:, rows.start : rows.stop]) for rows in windows)

    def invalid(self, rows: range) -> None:
        """No pixel is without data."""


def label_in_tiles(
    predictor: Predictor,
    pixels: NDArray[Any],
    *,
    tile: int,
    overlap: int,
    scratch: Path,
    reporter: Reporter | None = None,
) -> NDArray[np.uint8]:
    """Segment an image in tiles, as `predict_tiles` does with a file.

    Args:
        predictor: At the image's own size: its inference has no scale.
        pixels: [H, W, C], uint8, or float32 in [0, 1].
        tile: Side of a tile in pixels.
        overlap: Pixels that neighbors share and are blended in, at most half a tile.
        scratch: Folder for finished rows of tiles, empty.
        reporter: Is told how far it is; None for nobody.

    Returns:
        The label map [H, W].

    Raises:
        ValueError: If a setting is wrong, the folder can't be written, or the model gives NaN or infinite scores.
    """
    require_tiles(predictor, tile, overlap)
    image = PixelRows(pixels)
    with Parts(scratch, {}) as parts:
        segment(
            predictor,
            image,
            parts,
            tile=tile,
            overlap=overlap,
            confidence=False,
            reporter=reporter or Reporter(),
        )
        return np.concatenate(list(parts.rows("label", image.height)))
