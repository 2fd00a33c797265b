"""Image files that GDAL opens through rasterio, the extra `geo`: any number of bands, any kind of samples, by windows.

GDAL takes many things for a file: addresses, archives, texts that name other files. Here it gets the name of a regular
file and the one driver that its first bytes ask for, and looks at no file next to it.
"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from semask.data.images import FORMATS
from semask.files.reading import require_file
from semask.files.text import one_line, reason

DRIVERS = {
    b"II*\0": ["GTiff"],
    b"MM\0*": ["GTiff"],
    b"II+\0": ["GTiff"],
    b"MM\0+": ["GTiff"],
    b"\x89PNG\r\n\x1a\n": ["PNG"],
    b"\xff\xd8\xff": ["JPEG"],
    b"BM": ["BMP"],
    b"GIF8": ["GIF", "BIGGIF"],
    b"RIFF": ["WEBP"],
}
"""First bytes of a file -> GDAL's drivers for it; none of them opens anything else."""
SETTINGS = {
    "GDAL_CACHEMAX": 64,  # MB of decoded blocks; else a share of the machine's memory
    # With these, JPEG and PNG files that are cut off are errors and not noise.
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
    # No files next to the image, which may name further ones; and no address is opened, should something name one.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
}


class NoImage(ValueError):
    """The file is missing or no image; the message is complete."""


def open_file(path: Path) -> Any:
    """Open an image with the driver of its first bytes, and no file or address but it.

    Raises:
        NoImage: If there is no such file, or its first bytes are not those of an image.
        ValueError: If rasterio is not installed.
        OSError: If GDAL can't read it; or another error of it.
    """
    rasterio = import_rasterio()
    try:
        require_file(path, otherwise="give the path of an image")
    except ValueError as error:
        raise NoImage(str(error)) from error
    with open(path, "rb") as file:
        head = file.read(16)
    if not head:
        raise NoImage(f"{one_line(path)}: no image, or damaged (the file is empty): copy it again or remove it")
    drivers = next((drivers for magic, drivers in DRIVERS.items() if head.startswith(magic)), None)
    if drivers is None or (drivers == ["WEBP"] and head[8:12] != b"WEBP"):
        raise NoImage(
            f"{one_line(path)}: no image of a known format (TIFF, PNG, JPEG, BMP, WebP, GIF): convert it to TIFF or PNG"
        )
    with rasterio.Env(**SETTINGS):
        for driver in drivers[:-1]:
            with contextlib.suppress(rasterio.errors.RasterioIOError):
                return rasterio.open(local_name(path), driver=driver)
        return rasterio.open(local_name(path), driver=drivers[-1])


def local_name(path: Path) -> Path | str:
    """Name a file so that neither rasterio nor GDAL takes it for an address or an archive.

    >>> local_name(Path("/vsicurl/a.tif"))
    '/./vsicurl/a.tif'
    """
    path = path.absolute()
    return f"/.{path}" if str(path).startswith("/vsi") else path


def import_rasterio(what: str = "tiles are read and written") -> Any:
    """Import rasterio, which the extra `geo` installs.

    Args:
        what: What it is needed for, for the message.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import rasterio
        import rasterio.shutil
    except ImportError as error:
        raise ValueError(f"{what} with rasterio: pip install 'semask[geo]'") from error
    return rasterio


@contextlib.contextmanager
def gdal() -> Iterator[None]:
    """Set up GDAL for reading by windows: little memory, and damaged files are errors.

    Raises:
        ValueError: If rasterio is not installed.
    """
    rasterio = import_rasterio()
    with warnings.catch_warnings(), rasterio.Env(**SETTINGS):
        warnings.simplefilter("ignore", category=rasterio.errors.NotGeoreferencedWarning)
        yield


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say of whatever GDAL raises, which may be anything for a damaged file, that the image is at fault.

    Raises:
        NoImage: In place of it.
    """
    try:
        yield
    except (NoImage, MemoryError):
        raise
    except UnicodeEncodeError as error:
        raise NoImage(f"{one_line(path)}: the name of the file is no text: rename it") from error
    except Exception as error:
        said = reason(error.__cause__ or error)
        raise NoImage(f"{one_line(path)}: no image, or damaged ({said}): copy it again or convert it") from error


def orientation(path: Path, dataset: Any) -> int:
    """How a file is stored by its EXIF data, 1 (upright) to 8; a file that lies somewhere on earth is upright."""
    if dataset.crs is not None:
        return 1
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            # Pillow decodes a whole PNG to look for an orientation behind the pixels, where hardly any has it.
            known = image.format != "PNG" or not {"exif", "Raw profile type exif"}.isdisjoint(image.info)
            found = image.getexif().get(0x0112, 1) if known else 1
    except Exception:  # Pillow's readers raise nearly anything, first of all for files that are too large for them
        found = dataset.tags().get("EXIF_Orientation", "1")
    return int(found) if str(found) in "12345678" and len(str(found)) == 1 else 1
