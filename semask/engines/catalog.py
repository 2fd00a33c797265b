"""Formats of exported files: found by the names of the files in formats/, which import neither torch nor an engine.

A new format is a new file there, with a row `FORMAT` that says how it is written and opened (docs/add-a-format.md).
The name of an untrusted file selects among these rows, and nothing else.
"""

from importlib import import_module
from pathlib import Path
from typing import Annotated

from semask.engines.description import Precision
from semask.engines.format import Format
from semask.files.schema import OneOf
from semask.files.text import one_line

FOLDER = Path(__file__).parent / "formats"


def names() -> list[str]:
    """Names of the files of formats; none is imported."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def formats() -> dict[str, Format]:
    """All formats by name."""
    rows: list[Format] = [import_module(f"semask.engines.formats.{name}").FORMAT for name in names()]
    return {row.name: row for row in rows}


FormatName = Annotated[str, OneOf(tuple(sorted(formats())))]
"""Name of a format, as a setting."""


def find(name: str) -> Format:
    """Find a format by its name.

    Raises:
        ValueError: If there is none.
    """
    rows = formats()
    if name not in rows:
        raise ValueError(f"format is {one_line(repr(name), longest=80)}: choose one of {', '.join(rows)}")
    return rows[name]


def format_of(path: str | Path) -> Format | None:
    """The format of a file, by its ending; None if it is of no format.

    >>> format_of("model.aoti.pt2").name, format_of("model.safetensors")
    ('aotinductor', None)
    """
    name = Path(path).name.lower()
    fitting = [row for row in formats().values() if name.endswith(row.ending)]
    return max(fitting, key=lambda row: len(row.ending), default=None)  # .aoti.pt2 before .pt2


def require_precision(row: Format, precision: Precision) -> None:
    """Refuse a precision that a format is not made in.

    Raises:
        ValueError: If it is not; the message names the formats that are.
    """
    if precision in row.precisions:
        return
    others = [other.name for other in formats().values() if precision in other.precisions]
    able = f"use --format {' or '.join(others)}, or " if others else ""
    raise ValueError(
        f"{row.name} files are not made in {one_line(precision, longest=80)}: {able}give --precision "
        f"{' or '.join(row.precisions)}"
    )


def is_exported(source: object) -> bool:
    """Whether something is the name of an exported file, by its ending."""
    return isinstance(source, str | Path) and format_of(source) is not None


def companions(path: str | Path) -> list[Path]:
    """The files that lie next to an exported file and belong to it."""
    row = format_of(path)
    return [] if row is None else [file for file in row.files(Path(path))[1:] if file.is_file()]
