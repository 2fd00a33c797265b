"""What lies in a folder, with all that a reader would skip: hidden files, links, pipes, what systems leave."""

import os
import stat
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from semask.data.images import IMAGE_SUFFIXES
from semask.data.pairs import OF_SYSTEMS
from semask.doctor.findings import Collector
from semask.files.text import one_line

UNREAD_IMAGES = (
    ".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".jfif", ".psd", ".svg", ".exr", ".hdr", ".tga", ".ppm",
    ".pgm", ".pbm", ".raw", ".cr2", ".nef", ".dng", ".npy", ".npz", ".mat", ".dcm", ".nii", ".h5", ".pfm", ".eps",
)  # fmt: skip
"""Endings of images and arrays that are not read."""
_SYSTEM_NAMES = {name.lower() for name in OF_SYSTEMS} | {
    ".ds_store", "ehthumbs.db", ".directory", ".spotlight-v100", ".trashes", ".fseventsd", "icon\r", ".localized",
    ".temporaryitems", ".appledouble",
}  # fmt: skip

MOST_VISITS = 8
"""How often a folder is listed that several links lead to."""


class File(NamedTuple):
    """A file that may belong to a pair.

    Args:
        name: Path below the root.
        size: Bytes; -1 if it is not known.
        modified: Time of the last change, in ns.
        usable: Whether it is a regular file that can be opened.
    """

    name: PurePosixPath
    size: int = -1
    modified: int = 0
    usable: bool = True


def scan(root: Path, found: Collector, *, most: int | None = None) -> list[File]:
    """List the files below a folder, and note what is odd about them.

    Args:
        root: The folder.
        found: Takes findings in.
        most: Files after which no further folder is listed; None for all.

    Returns:
        Files that may be part of a pair, sorted by name.

    Raises:
        ValueError: If the folder itself can't be read.
    """
    files: list[File] = []
    visits: Counter[tuple[int, int]] = Counter()
    inside = root.resolve()
    left: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, frozenset())]  # with the folders around each
    while left and (most is None or len(files) < most):
        folder, around = left.pop()
        name = folder.relative_to(root).as_posix()
        try:
            status = folder.stat()
            this = (status.st_dev, status.st_ino)
            visits[this] += 1
            if this in around or visits[this] > MOST_VISITS:
                found.add("link-loop", [name])
                continue
            with os.scandir(folder) as opened:
                entries = sorted(opened, key=lambda entry: entry.name)
        except OSError as error:
            if folder == root:
                raise ValueError(f"{one_line(root)}: cannot be opened: {error.strerror}") from error
            found.add("unreadable-file", [name], f"folder: {error.strerror}")
            continue
        for entry in entries:
            path = folder / entry.name
            below = path.relative_to(root).as_posix()
            if not _is_left_out(entry.name, below, found):
                if entry.is_symlink() and not _leads_inside(path, inside):
                    found.add("link-outside", [below])
                if path.is_dir():
                    left.append((path, around | {this}))
                else:
                    files.append(_file(path, below, found))
    return sorted(files)


def _is_left_out(name: str, below: str, found: Collector) -> bool:
    """Whether a name is one that readers skip; it is noted, as are odd names."""
    if _of_systems(name):
        found.add("system-file", [below])
        return True
    if name.startswith("."):
        if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
            found.add("hidden-file", [below])
        return True
    if odd(name):
        found.add("odd-name", [below])
    return False


def odd(name: str) -> bool:
    """Whether a name has control characters, line separators, or bytes that are no UTF-8."""
    return any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name)


def _of_systems(name: str) -> bool:
    return name.lower() in _SYSTEM_NAMES or name.startswith("._")


def _leads_inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root) or not path.exists()
    except (OSError, RuntimeError):  # a link that leads to itself
        return True


def _file(path: Path, below: str, found: Collector) -> File:
    """A file, or what has the name of one; what is wrong with it is noted if it has the ending of an image."""
    name = PurePosixPath(below)
    matters = name.suffix.lower() in IMAGE_SUFFIXES  # others are not read
    try:
        status = path.stat()
    except OSError as error:
        kind = "dangling-link" if path.is_symlink() else "unreadable-file"
        if matters:
            found.add(kind, [below], error.strerror or "")
        return File(name, usable=False)
    if not stat.S_ISREG(status.st_mode):
        if matters:
            found.add("special-file", [below])
        return File(name, usable=False)
    if matters and not os.access(path, os.R_OK):
        found.add("unreadable-file", [below], "no permission to read")
        return File(name, status.st_size, status.st_mtime_ns, usable=False)
    if matters and status.st_size == 0:
        found.add("empty-file", [below])
        return File(name, 0, status.st_mtime_ns, usable=False)
    return File(name, status.st_size, status.st_mtime_ns)
