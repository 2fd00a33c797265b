"""Formats by name: "cityscapes" is the file `semask/data/formats/cityscapes.py`. A new data set is a new file there."""

from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from semask.files.schema import OneOf, require
from semask.files.text import one_line
from semask.files.urls import is_url

if TYPE_CHECKING:
    from semask.data.format import Format
    from semask.data.listing import Listing

_FOLDER = Path(__file__).parent / "formats"


def names() -> tuple[str, ...]:
    """Names of the formats, in alphabetical order. None of their files is imported."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.py") if path.stem != "__init__"))


FormatName = Annotated[str, OneOf(names())]
"""Name of a format, as a setting."""


def class_tables() -> tuple[str, ...]:
    """Names of the formats that have classes of their own, in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.csv")))


TableName = Annotated[str, OneOf(class_tables())]
"""Name of a format that has classes of its own, as a setting."""


def find(name: str) -> "Format":
    """Import the file of a format.

    Raises:
        ValueError: If there is no format of that name; nothing is imported then.
    """
    require(name, FormatName, "format")
    found: Format = import_module(f"semask.data.formats.{name}").FORMAT
    return found


def title_of(name: str | None) -> str:
    """Name of the public data set that a format is for; "" if there is none, or no such format."""
    return find(name).title if name is not None and name in names() else ""


class Recognized(NamedTuple):
    """A format that a folder seems to have.

    Args:
        format: Name of the format.
        reason: What shows it.
    """

    format: str
    reason: str


def recognize(root: Path | str, *, levels: int = 3) -> Recognized:
    """Find the format of a folder by looking at it.

    Args:
        root: The folder, or the file of a table; a URL as text.
        levels: How many folders in which there is only one folder are looked into, to name the right one.

    Raises:
        ValueError: If it has none of the known ones, or more than one; it says what was looked at.
    """
    from semask.data.listing import Listing
    from semask.data.tables import TABLE_SUFFIXES

    if isinstance(root, str) and is_url(root):
        return Recognized("shards", "it is a URL, at which only packed images are read")
    root = Path(root)
    if root.is_file() and root.suffix.lower() in TABLE_SUFFIXES:
        return Recognized("table", "it is a table")
    if not root.is_dir():
        raise ValueError(f"{one_line(root)}: no such folder")
    listing = Listing(root)
    formats = {name: find(name) for name in names()}
    found: dict[str, str] = {}
    wrong: ValueError | None = None
    for name, format in formats.items():
        try:
            reason = format.recognize(listing) if format.recognize is not None else None
        except ValueError as error:
            if not format.general:
                raise
            wrong = wrong or error  # what is wrong for a general layout may be right for another format
            continue
        if reason is not None:
            found[name] = reason
    special = [name for name in found if not formats[name].general]
    chosen = special or list(found)
    if len(chosen) > 1:
        said = "; ".join(f"{name} ({found[name]})" for name in chosen)
        raise ValueError(f"{one_line(root)}: may have several formats, {said}: choose one with --data.format")
    if not chosen and wrong is not None:
        raise wrong
    tops = {name.parts[0] for name in listing.names if len(name.parts) > 1}
    if not chosen and levels and len(tops) == 1:  # as archives are unpacked
        inner = root / tops.pop()
        try:
            below = recognize(inner, levels=levels - 1)
        except ValueError:
            pass
        else:
            raise ValueError(f"{one_line(root)}: give the folder {one_line(inner)}: there are {below.reason}")
    if not chosen:
        for name, format in formats.items():
            if format.resembles is not None and (reason := format.resembles(listing)) is not None:
                return Recognized(name, reason)
        raise ValueError(f"{one_line(root)}: {nothing_recognized(listing)}")
    return Recognized(chosen[0], found[chosen[0]])


def nothing_recognized(listing: "Listing") -> str:
    """Say what a folder holds in which no format was found, and what to do."""
    from semask.data.pairs import listed

    count = len(listing.files)
    if not count:
        return "the folder is empty: give the folder that holds images and masks"
    endings = Counter(name.suffix.lower() or "no ending" for name in listing.names)
    kinds = ", ".join(f"{number} x {one_line(ending, longest=20)}" for ending, number in endings.most_common(4))
    tops = listed(sorted({name.parts[0] for name in listing.names}))
    return (
        f"no known layout of labeled images: it has {count} files ({kinds}) in {tops}; see docs/formats.md for what is "
        "read, e.g. folders images and masks with files of the same names, or a.jpg next to a_mask.png"
    )
