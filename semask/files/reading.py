"""Reading files that may be anybody's, and writing files whole or not at all."""

import hashlib
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from semask.files.text import one_line, reason

MOST_TEXT = 2**24
"""Bytes of a text file (JSON, CSV, list of names) that is read."""
DEEPEST = 32
"""Levels of nesting of a JSON value."""


def require_file(path: str | Path, *, otherwise: str = "give the path of a file") -> Path:
    """Return the path of a regular file; a pipe, device or folder would block, or never end.

    Args:
        path: The path; links are followed.
        otherwise: What to do if there is no such file, for the message.

    Raises:
        ValueError: If there is no such file, or it is something else.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        text = getattr(error, "strerror", None) or reason(error)
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        said = f"no such file: {otherwise}" if missing else f"cannot be opened: {text}"
        raise ValueError(f"{one_line(path)}: {said}") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise ValueError(f"{one_line(path)}: is {kind}, not a file: {otherwise}")
    return path


def read_text(path: str | Path, *, most: int = MOST_TEXT, otherwise: str = "give the path of a file") -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Args:
        path: A regular file.
        most: Bytes that it may have.
        otherwise: What to do if there is no such file, for the message.

    Raises:
        ValueError: If it can't be read, is larger, or is no text.
    """
    path = require_file(path, otherwise=otherwise)
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ValueError(f"{one_line(path)}: cannot be opened: {error.strerror}") from error
    if len(content) > most:
        raise ValueError(f"{one_line(path)}: larger than {most:,} bytes, which no such file should be")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{one_line(path)}: not a text in UTF-8: save it as such") from error


def parse_json(text: str, *, deepest: int = DEEPEST, each: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read JSON of anybody, no deeper than `deepest`.

    Args:
        text: The JSON.
        deepest: Levels of nesting.
        each: Makes something else of each object as soon as it is read, for example something smaller.

    Raises:
        ValueError: If it is not such JSON.
    """
    try:
        value = json.loads(text, object_hook=each)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    require_shallow(value, deepest)
    return value


def require_shallow(value: Any, deepest: int = DEEPEST) -> None:
    """Refuse lists and objects that are nested more than `deepest` levels.

    Raises:
        ValueError: If they are.
    """
    level = [value]
    for _ in range(deepest + 1):
        level = [x for y in level if isinstance(y, dict | list) for x in (y.values() if isinstance(y, dict) else y)]
        if not level:
            return
    raise ValueError(f"it is nested more than {deepest} levels deep")


def sha256(path: Path) -> str:
    """Hash of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
