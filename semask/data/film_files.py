"""Which files are films, told by their names and their first bytes; without PyAV."""

from collections.abc import Sequence
from pathlib import Path

FILM_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv",
)  # fmt: skip
"""Endings, in lower case, of the files that count as films."""
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_PICTURES = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Kinds of MP4 that hold pictures: AVIF and HEIC."""
_MAGIC = {
    b"\x1a\x45\xdf\xa3": "matroska",
    b"\x00\x00\x01\xba": "mpeg",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"FLV\x01": "flv",
}
_PACKET = 188
"""Bytes of a packet of an MPEG transport stream; cameras put 4 bytes of time before each."""


def film_format(path: Path) -> str | None:
    """Format of a film by its first bytes, as FFmpeg names it; None if they are of no film that is read.

    A playlist, or anything else that only names other files, is no film.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(256)
    except OSError:
        return None
    return format_of(head)


def format_of(head: bytes) -> str | None:
    """Format of a film by its first 256 bytes; see `film_format`.

    >>> format_of(b"....ftypisom"), format_of(b"#EXTM3U"), format_of(b"....ftypavif")
    ('mov', None, None)
    """
    if head[4:8] in _BOXES:
        return None if head[4:8] == b"ftyp" and head[8:12] in _PICTURES else "mov"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    for first, step in ((0, _PACKET), (4, _PACKET + 4)):
        if len(head) > first + step and head[first] == head[first + step] == 0x47:
            return "mpegts"
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def is_film(path: Path) -> bool:
    """Whether a file is treated as a film: its name or, where that says nothing, its first bytes say so."""
    suffix = path.suffix.lower()
    return suffix in FILM_SUFFIXES or (suffix == "" and path.is_file() and film_format(path) is not None)


def films_of(files: Sequence[Path]) -> list[Path]:
    """Those of some files that are treated as films."""
    return [file for file in files if is_film(file)]
