"""NAME_probabilities.tif or .npz: the probability of every class in every pixel, in float16.

A TIFF with a place gives a GeoTIFF with a band for each class, any other image an .npz with "probabilities" [K, H, W]
and "classes". A GeoTIFF keeps 16 bits (NBITS=16) and is read as float32.
"""

import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semask.files.atomic import written_whole
from semask.prediction.output import Output
from semask.prediction.segmentation import Segmentation

ROWS = 512
"""Rows of a class that are written at once: those of the blocks of a GeoTIFF."""


def write(segmentation: Segmentation) -> None:
    """Write the probabilities of all classes, a class and some rows at a time."""
    if segmentation.place is None:
        write_npz(segmentation, segmentation.path("_probabilities.npz"))
    else:
        write_tiff(segmentation, segmentation.path("_probabilities.tif"))


def parts(segmentation: Segmentation, k: int) -> Iterator[tuple[int, NDArray[np.float16]]]:
    """Give a class from top to bottom: first row, and [rows, W]."""
    assert segmentation.probability is not None
    height = segmentation.size[0]
    for first in range(0, height, ROWS):
        yield first, segmentation.probability(k, range(first, min(first + ROWS, height)))


def write_npz(segmentation: Segmentation, target: Path) -> None:
    """Write an archive as `numpy.savez_compressed` does, without an array of all."""
    names = np.array(segmentation.classes.names)
    header = {"descr": "<f2", "fortran_order": False, "shape": (len(names), *segmentation.size)}
    with (
        written_whole(target) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, names, allow_pickle=False)
        archive.writestr("classes.npy", buffer.getvalue())
        with archive.open("probabilities.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for k in range(len(names)):
                for _, rows in parts(segmentation, k):
                    file.write(rows.astype("<f2").tobytes())


def write_tiff(segmentation: Segmentation, target: Path) -> None:
    """Write a GeoTIFF with a band for each class, and read it again."""
    from semask.data.geo_files import import_rasterio, local_name
    from semask.prediction.raster_writing import BLOCK, writing

    rasterio, names = import_rasterio(), segmentation.classes.names
    height, width = segmentation.size
    assert segmentation.place is not None
    with written_whole(target) as temporary, writing():
        sums = {}
        with rasterio.open(
            local_name(temporary), "w", driver="GTiff", dtype="float32", nbits=16, count=len(names), height=height,
            width=width, tiled=True, blockxsize=BLOCK, blockysize=BLOCK, interleave="band", compress="deflate",
            BIGTIFF="IF_SAFER", **segmentation.place._asdict(),
        ) as file:  # fmt: skip
            for k, name in enumerate(names):
                file.set_band_description(k + 1, name)
                for first, rows in parts(segmentation, k):
                    values = rows.astype(np.float32)
                    file.write(values, k + 1, window=((first, first + len(rows)), (0, width)))
                    sums[k + 1, first, len(rows)] = zlib.crc32(values.tobytes())
        with rasterio.open(local_name(temporary), driver="GTiff") as file:
            for (band, first, count), expected in sums.items():
                window = ((first, first + count), (0, width))
                if zlib.crc32(file.read(band, window=window).tobytes()) != expected:
                    raise OSError("what was written is not what can be read: is the disk full?")


OUTPUT = Output(write, endings=("_probabilities.npz", "_probabilities.tif"))
