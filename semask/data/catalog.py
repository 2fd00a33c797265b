"""Formats by name: "cityscapes" is the file `semask/data/formats/cityscapes.py`. A new data set is a new file there."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from semask.files.schema import OneOf, require

if TYPE_CHECKING:
    from semask.data.format import Format

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
