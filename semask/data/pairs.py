"""Pairing image files with mask files."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from semask.data.bands import files_of
from semask.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from semask.files.text import one_line

OF_SYSTEMS = ("Thumbs.db", "desktop.ini", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir")
"""Files and folders that operating systems leave everywhere."""


class Pairs(NamedTuple):
    """Files of a split.

    Args:
        pairs: (image, mask), sorted by name.
        unread: Files below the folder of the images whose ending is not that of an image, and links that were not
            followed.
    """

    pairs: list[tuple[Path, Path]]
    unread: list[Path]


def require_folders(root: Path, what: str, *folders: str) -> None:
    """Check that a data set is laid out as it should be.

    Args:
        root: Folder of the data set.
        what: The data set in words, for the message.
        folders: Folders that must be below root.

    Raises:
        ValueError: Which folder is missing, and what is there instead.
    """
    if not root.is_dir():
        raise ValueError(f"{one_line(root)}: no such folder; expected {what} there")
    for name in folders:
        if not (root / name).is_dir():
            nearest = next(parent for parent in (root / name).parents if parent.is_dir())
            found = sorted(entry.name for entry in nearest.iterdir())
            raise ValueError(
                f"{one_line(root / name)}: no such folder, needed for {what}; {one_line(nearest)} has {listed(found)}"
            )


def pairs_by_stem(images: Path, masks: Path, *, mask_ending: str = "", band_files: Sequence[str] = ()) -> Pairs:
    """Pair the images below a folder with the masks below another: a/b.jpg and a/b.png.

    Args:
        images: Folder of the images.
        masks: Folder of the masks, with the same subfolders.
        mask_ending: What the stem of a mask has behind the stem of its image.
        band_files: Endings of the stems of the files that hold the bands of one image; it is paired by its first.

    Returns:
        The pairs, and the other files in the folder of the images.

    Raises:
        ValueError: No images, an image without mask or a mask without image, or two files of the same stem.
    """
    files, unread = tree(images)
    ending = band_files[0] if band_files else ""
    image_of = _by_stem(images, _own(images, files), IMAGE_SUFFIXES, ending=ending)
    mask_of = _by_stem(masks, _own(masks, tree(masks)[0]), MASK_SUFFIXES, ending=mask_ending)
    for table, folder_, kind in ((image_of, images, "images"), (mask_of, masks, "masks")):
        if not table:
            suffixes = IMAGE_SUFFIXES if kind == "images" else MASK_SUFFIXES
            found = sorted(entry.name for entry in folder_.iterdir())
            wanted = ", ".join(f"*{mask_ending if kind == 'masks' else ending}{suffix}" for suffix in suffixes)
            lossy = kind == "masks" and any(name.lower().endswith((".jpg", ".jpeg")) for name in found)
            hint = "; JPEG does not keep the values of masks: save them as PNG" if lossy else ""
            raise ValueError(f"{one_line(folder_)}: no {kind} there; looked for {wanted}, found {listed(found)}{hint}")
    require_pairs(image_of, mask_of, images=images, masks=masks)
    taken = {file for image in image_of.values() for file in files_of(image, band_files or None)}
    unread += [path for path in files if path not in taken]
    return Pairs([(image_of[stem], mask_of[stem]) for stem in sorted(image_of)], unread)


def _own(place: Path, files: Sequence[Path]) -> list[Path]:
    """Files below a folder without those of operating systems, such as thumbnails of images."""
    return [path for path in files if not set(path.relative_to(place).parts) & set(OF_SYSTEMS)]


def tree(place: Path) -> tuple[list[Path], list[Path]]:
    """List the files below a folder, without hidden ones, and the folders that were left out.

    Links to folders are followed, but no folder is read twice: a link may lead back to where it is.

    Raises:
        ValueError: If a folder can't be read.
    """
    files: list[Path] = []
    again: list[Path] = []
    links: list[Path] = []
    seen: set[tuple[int, int]] = set()

    def walk(folder: Path) -> Iterator[Path]:
        """Give the folders in a folder, and note its files."""
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            again.append(folder)
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not entry.name.startswith("."):
                    if entry.is_dir():
                        yield folder / entry.name
                    else:
                        files.append(folder / entry.name)

    left = [place]
    try:
        while left or links:
            # Real folders first, so that the names of what is read are not those of links to it.
            for found in walk(left.pop(0) if left else links.pop(0)):
                (links if found.is_symlink() else left).append(found)
    except OSError as error:
        raise ValueError(f"{one_line(error.filename or place)}: cannot be opened: {error.strerror}") from error
    return sorted(files), again


def require_pairs(image_of: dict[str, Path], mask_of: dict[str, Path], *, images: Path, masks: Path) -> None:
    """Check that both tables (stem -> path) have the same stems.

    Raises:
        ValueError: Which files have no partner, and how many.
    """
    for ours, theirs, place, what in ((image_of, mask_of, masks, "mask"), (mask_of, image_of, images, "image")):
        alone = [_below(ours[stem], images, masks) for stem in sorted(ours.keys() - theirs.keys())]
        if alone:
            raise ValueError(
                f"{one_line(place)}: no {what} for {len(alone)} of {len(ours)} files: {listed(alone)}; "
                "add what is missing or remove these files"
            )


def listed(names: Sequence[str]) -> str:
    """Name up to 3 things and count the rest.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(one_line(name, longest=100) for name in names[:3]) or "nothing") + more


def _below(path: Path, *folders: Path) -> str:
    """Name a file by its path below one of some folders."""
    return next((path.relative_to(folder).as_posix() for folder in folders if path.is_relative_to(folder)), path.name)


def _by_stem(place: Path, paths: Sequence[Path], suffixes: tuple[str, ...], *, ending: str) -> dict[str, Path]:
    """Path below a folder without suffix and ending -> path."""
    files: dict[str, Path] = {}
    for path in paths:
        if path.suffix.lower() not in suffixes or not path.stem.endswith(ending):
            continue
        stem = path.with_name(path.stem.removesuffix(ending) or path.name).relative_to(place).as_posix()
        if stem in files:
            raise ValueError(f"{one_line(path)}: {one_line(files[stem].name)} has the same stem: keep one of them")
        files[stem] = path
    return files
