"""Maps that do not fit into memory: written by windows as GeoTIFF or PNG, with rasterio (GDAL), and read again."""

import contextlib
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semask.data.classes import IGNORE_INDEX, Color
from semask.data.geo_files import SETTINGS, import_rasterio, local_name
from semask.files.atomic import written_whole
from semask.files.text import reason
from semask.prediction.raster import Place

BLOCK = 512
"""Side of the blocks of a GeoTIFF that is written, in pixels."""
CLOUD = {"COMPRESS": "DEFLATE", "BLOCKSIZE": BLOCK, "OVERVIEW_RESAMPLING": "MODE", "BIGTIFF": "IF_SAFER"}
"""How a cloud-optimized GeoTIFF is written; a pixel of its smaller copies has the most frequent class."""


def write(
    target: Path,
    rows: Iterable[NDArray[np.uint8]],
    size: tuple[int, int],
    *,
    place: Place | None,
    scratch: Path,
    palette: Sequence[Color] = (),
    cloud: bool = False,
) -> None:
    """Write a map of the size of an image: a GeoTIFF in its place on earth, or a PNG; and read it again.

    Args:
        target: File to write.
        rows: The map from top to bottom, `BLOCK` rows at a time, [BLOCK, W]; the last may have fewer.
        size: Height and width.
        place: Where the GeoTIFF lies; None for a PNG.
        scratch: Folder for a GeoTIFF that another file is made of.
        palette: Colors of class indices; a TIFF says then that `IGNORE_INDEX` is no data.
        cloud: Make the TIFF cloud-optimized, with or without a place.

    Raises:
        ValueError: If it can't be written; what was there before is untouched.
    """
    rasterio = import_rasterio()
    kind = "COG" if cloud else "GTiff" if place else "PNG"
    with written_whole(target) as temporary, writing():
        tiff = temporary if kind == "GTiff" else scratch / f"{target.stem}.tif"
        sums = []
        with rasterio.open(
            local_name(tiff), "w", driver="GTiff", dtype="uint8", count=1, height=size[0], width=size[1],
            tiled=True, blockxsize=BLOCK, blockysize=BLOCK, compress="deflate", BIGTIFF="IF_SAFER",
            nodata=IGNORE_INDEX if kind != "PNG" and palette else None, **(place._asdict() if place else {}),
        ) as file:  # fmt: skip
            if palette:
                file.write_colormap(1, {i: palette[i] if i < len(palette) else (0, 0, 0) for i in range(256)})
            first = 0
            for part in rows:
                file.write(part, 1, window=((first, first + len(part)), (0, size[1])))
                sums.append(zlib.crc32(part.tobytes()))
                first += len(part)
        if kind != "GTiff":
            verify(tiff, "GTiff", size, sums)
        if kind == "PNG":
            rasterio.shutil.copy(local_name(tiff), local_name(temporary), driver="PNG")
        if kind == "COG":
            made = scratch / "cloud.tif"  # the driver has further files next to it while it works
            rasterio.shutil.copy(local_name(tiff), local_name(made), driver="COG", **CLOUD)
            shutil.move(made, temporary)
        verify(temporary, "PNG" if kind == "PNG" else "GTiff", size, sums)


def verify(path: Path, driver: str, size: tuple[int, int], sums: Sequence[int]) -> None:
    """Compare a file with the checksums of its parts: GDAL does not notice every write that fails.

    Raises:
        OSError: If it holds something else.
    """
    with import_rasterio().open(local_name(path), driver=driver) as file:
        for part, expected in enumerate(sums):
            first = part * BLOCK
            window = ((first, min(first + BLOCK, size[0])), (0, size[1]))
            if zlib.crc32(file.read(1, window=window).tobytes()) != expected:
                raise OSError("what was written is not what can be read: is the disk full?")


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Turn what rasterio raises into the errors of the system that it stands for."""
    rasterio = import_rasterio()
    try:
        with rasterio.Env(**SETTINGS):
            yield
    except Exception as error:
        if not type(error).__module__.startswith("rasterio"):
            raise
        raise OSError(reason(error.__cause__ or error)) from error
