"""Large images in parts: the grid of chips, and the part of a large mask that belongs to one."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.data.bands import Window
from semask.data.classes import IGNORE_INDEX
from semask.data.geo_files import SETTINGS, NoImage, explained, gdal, import_rasterio, open_file
from semask.files.text import one_line


@dataclass(frozen=True)
class Grid:
    """The pixels of a large image.

    Args:
        height: Rows.
        width: Columns.
        crs: Coordinate reference system as WKT; "" if it is not known.
        transform: Six numbers that bring column and row to coordinates, as `rasterio.Affine` has them.
    """

    height: int
    width: int
    crs: str
    transform: tuple[float, ...]

    @classmethod
    def of(cls, path: Path) -> "Grid":
        """Read the grid of a file.

        Raises:
            NoImage: If it can't be read.
        """
        with gdal(), explained(path), open_file(path) as file:
            crs = "" if file.crs is None else file.crs.to_wkt()
            return cls(file.height, file.width, crs, tuple(file.transform)[:6])

    def chips(self, size: tuple[int, int]) -> Iterator[Window]:
        """Cut the image into parts of about the same size, none larger than `size`, each pixel in one of them."""
        for rows in parts(self.height, size[0]):
            yield from (Window(rows, columns) for columns in parts(self.width, size[1]))


@dataclass(frozen=True)
class MaskPart:
    """A part of a mask that is as large as its image; what its file calls no data is ignored.

    Args:
        path: The mask.
        window: The part.
    """

    path: Path
    window: Window

    def __str__(self) -> str:
        """Name the file."""
        return str(self.path)

    def read(self) -> NDArray[Any]:
        """Read the numbers [H, W], or the colors [H, W, 3], of the part.

        Raises:
            NoImage: If the file can't be read, or holds no whole numbers.
        """
        rows, columns = self.window
        where = ((rows.start, rows.stop), (columns.start, columns.stop))
        with gdal(), explained(self.path):
            file = open_file(self.path)
        with file, explained(self.path), import_rasterio().Env(**SETTINGS):
            bands = [1, 2, 3] if file.count >= 3 else [1]
            if np.dtype(file.dtypes[0]).kind not in "iu":
                raise NoImage(f"{one_line(self.path)}: a mask of {file.dtypes[0]}: give whole numbers, one a class")
            values: NDArray[Any] = file.read(bands, window=where)
            if len(bands) == 3:
                return np.ascontiguousarray(values.transpose(1, 2, 0))
            numbers: NDArray[Any] = values[0]
            if file.nodata is not None:
                numbers = np.where(numbers == file.nodata, IGNORE_INDEX, numbers.astype(np.int64))
            return numbers


def parts(length: int, most: int) -> Iterator[range]:
    """Cut a side into the fewest parts of at most `most` pixels; their lengths differ by one pixel at most.

    >>> list(parts(10, 4)), list(parts(3, 4))
    ([range(0, 3), range(3, 7), range(7, 10)], [range(0, 3)])
    """
    count = -(-length // most)
    edges = [(2 * i * length + count) // (2 * count) for i in range(count + 1)]
    return (range(first, last) for first, last in itertools.pairwise(edges))


def require_same_grid(image: Path, grid: Grid, mask: Path, other: Grid) -> None:
    """Refuse a mask that does not lie where its image does.

    Raises:
        NoImage: If they differ in size, or in place where both files say it.
    """
    if (grid.height, grid.width) != (other.height, other.width):
        raise NoImage(
            f"{one_line(mask)}: the mask has {other.width} x {other.height} pixels, its image {one_line(image)} "
            f"{grid.width} x {grid.height}: both must have the same size"
        )
    placed = grid.crs and other.crs
    near = np.allclose(grid.transform, other.transform, rtol=1e-9, atol=abs(grid.transform[0]) / 100)
    if placed and not near:
        raise NoImage(
            f"{one_line(mask)}: lies somewhere else than its image {one_line(image.name)}: bring the mask to the "
            "grid of the image first"
        )
