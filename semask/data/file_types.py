"""What a file is that Pillow does not read, and what to do with it."""

from pathlib import Path
from typing import NamedTuple

from PIL import TiffImagePlugin

GEO = "`semask predict --tile 1024` reads such files, with pip install 'semask[geo]'; else convert it to 8-bit RGB"
_CONVERT = "convert it to TIFF, PNG or JPEG"
_MAGIC: dict[bytes, tuple[int, str]] = {
    b"\x00\x00\x00\x0cjP  ": (0, "a JPEG 2000 file"),
    b"\xff\x4f\xff\x51": (0, "a JPEG 2000 file"),
    b"ftyphei": (4, "a HEIC file"),
    b"ftyphev": (4, "a HEIC file"),
    b"ftypmif1": (4, "a HEIC file"),
    b"ftypavif": (4, "an AVIF file"),
    b"\x00\x00\x00\x0cJXL ": (0, "a JPEG XL file"),
    b"\xff\x0a": (0, "a JPEG XL file"),
    b"v/1\x01": (0, "an OpenEXR file"),
    b"8BPS": (0, "a Photoshop file"),
    b"%PDF": (0, "a PDF"),
    b"DICM": (128, "a DICOM file"),
    b"\x89HDF": (0, "an HDF5 file"),
    b"CDF\x01": (0, "a NetCDF file"),
    b"NITF": (0, "a NITF file"),
    b"PK\x03\x04": (0, "a ZIP archive"),
}
"""Bytes -> where they stand in the file, and what the file is."""
_SAMPLES = {1: "unsigned integers", 2: "signed integers", 3: "floating-point numbers", 4: "untyped samples"}
_COMPRESSIONS = {34712: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL", 34676: "SGI LogLuv"}
_BITS, _COMPRESSION, _PHOTOMETRIC, _BANDS, _EXTRA, _FORMAT = 258, 259, 262, 277, 338, 339


class FileType(NamedTuple):
    """What a file is.

    Args:
        description: For example "a TIFF of 5 bands of 16-bit unsigned integers".
        advice: What to do with it.
        unsupported: Whether Pillow cannot read it, whatever its own error says.
    """

    description: str
    advice: str
    unsupported: bool


def file_type(path: Path) -> FileType | None:
    """Say what a file is that Pillow did not read; None if its first bytes do not tell."""
    try:
        with open(path, "rb") as file:
            head = file.read(160)
    except OSError:
        return None
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(path)
    for magic, (at, description) in _MAGIC.items():
        if head[at : at + len(magic)] == magic:
            return FileType(description, _CONVERT, unsupported=True)
    return None


def has_fourth_band(path: Path) -> bool:
    """Whether a file is a TIFF whose fourth band is neither alpha nor the black of CMYK; Pillow leaves it out."""
    try:
        tags = _tags(path)
        bands, photometric = int(tags.get(_BANDS, 1)), int(tags.get(_PHOTOMETRIC, 1))
        return bands >= 4 and photometric in (0, 1, 2) and not {1, 2} & set(tags.get(_EXTRA, (0,)))
    except Exception:  # no TIFF, or a damaged one, which reading tells
        return False


def _tags(path: Path) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Read the tags of a TIFF."""
    with open(path, "rb") as file:
        head = file.read(8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(head + file.read(8 if b"+" in head[2:4] else 0))
        file.seek(tags.next)
        tags.load(file)
    return tags


def _tiff(path: Path) -> FileType | None:
    """What the tags of a TIFF say of its samples."""
    try:
        tags = _tags(path)
        bands, compression = int(tags.get(_BANDS, 1)), int(tags.get(_COMPRESSION, 1))
        bits, samples = (int(tags.get(tag, (default,))[0]) for tag, default in ((_BITS, 1), (_FORMAT, 1)))
    except Exception:  # Pillow's readers raise nearly anything for damaged files
        return None
    description = f"a TIFF of {bands} band{'s' if bands > 1 else ''} of {bits}-bit {_SAMPLES.get(samples, 'samples')}"
    if compression in _COMPRESSIONS:
        description += f", compressed as {_COMPRESSIONS[compression]}"
    tiles = samples == 1 and bits in (8, 16)
    advice = GEO if tiles else "convert it to 8 or 16 bits"
    return FileType(description, advice, unsupported=compression in _COMPRESSIONS)
