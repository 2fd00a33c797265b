"""Probabilities of all classes of an image in tiles: in files, a row of tiles each, since no memory holds them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semask.files.atomic import sync
from semask.prediction.blending import Span


class ProbabilityParts:
    """Probabilities in the folder of the parts of an image.

    Args:
        folder: Where.
        rows: Tiles from top to bottom.
        width: Width of the image.
        classes: Number of classes K.
    """

    def __init__(self, folder: Path, rows: Sequence[Span], width: int, classes: int) -> None:
        self.folder, self.rows, self.width, self.classes = folder, rows, width, classes

    def put(self, row: int, rows: range, columns: range, p: NDArray[np.float16]) -> None:
        """Keep the probabilities [K, rows, columns] of a part of a row of tiles."""
        own = self.rows[row].own
        self._map(row)[:, rows.start - own.start : rows.stop - own.start, columns.start : columns.stop] = p

    def clear(self, row: int, where: NDArray[np.bool_]) -> None:
        """Set what is no data [own rows, W] to 0."""
        parts = self._map(row)
        for k in range(self.classes):
            parts[k][where] = 0

    def finish(self, row: int) -> None:
        """Put a row of tiles that is complete on the disk, before it counts as done."""
        sync(self._file(row))

    def read(self, k: int, rows: range) -> NDArray[np.float16]:
        """Read the probability of a class in some rows of the image, [rows, W]."""
        found = []
        for row, span in enumerate(self.rows):
            first, last = max(rows.start, span.own.start), min(rows.stop, span.own.stop)
            if first < last:
                found.append(np.array(self._map(row)[k, first - span.own.start : last - span.own.start]))
        return np.concatenate(found)

    def _file(self, row: int) -> Path:
        return self.folder / f"probabilities-{row}.f16"

    def _map(self, row: int) -> NDArray[np.float16]:
        """Map a file into memory for a moment: what stays mapped counts as memory of the process."""
        file, shape = self._file(row), (self.classes, len(self.rows[row].own), self.width)
        return np.memmap(file, np.float16, "r+" if file.exists() else "w+", shape=shape)
