"""The CSV files of a run: a line a step, added whole or not at all, and mended when a killed run goes on."""

import itertools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from semask.files.atomic import append_whole, write_whole
from semask.files.reading import require_file
from semask.files.text import one_line, reason

MOST_NUMBERS = 10
"""Numbers of lines that a warning names."""


class Lines(NamedTuple):
    """What a file holds.

    Attributes:
        header: Names of the columns.
        rows: Fields of each good line.
        bad: Numbers of the lines that are blank, cut or damaged, from 1.
        has_header: Whether it begins as a log of a run does, or is empty.
    """

    header: list[str]
    rows: list[list[str]]
    bad: list[int]
    has_header: bool


class RunLog:
    """A CSV file of a run.

    Args:
        path: The file.
        columns: Names of its columns after "step".
        more: Beginning of the names of further columns that it may have, which end in 1, 2, ...
    """

    def __init__(self, path: Path, columns: Sequence[str], *, more: str | None = None) -> None:
        self.path, self.columns, self.more = path, columns, more
        self.last = 0

    def append(self, step: int, row: Mapping[str, float]) -> None:
        """Add the line of a step, unless it is there already.

        Raises:
            ValueError: If it can't be written; the file is then what it was before.
        """
        if step <= self.last:
            return
        lines = [[str(step), *(f"{value:.6g}" for value in row.values())]]
        if not self.exists():
            lines.insert(0, ["step", *row])
        append_whole(self.path, text(lines))
        self.last = step

    def exists(self) -> bool:
        """Whether there is something of its name."""
        return os.path.lexists(self.path)

    def require_ours(self) -> None:
        """Refuse a file of this name that is not of a run: a new run would remove it.

        Raises:
            ValueError: If it is something else.
        """
        if self.exists() and not self.read().has_header:
            raise ValueError(f"{one_line(self.path)}: not the log of a run: move it, or choose another --out")

    def forget_after(self, step: int) -> str | None:
        """Drop the lines of later steps and those that are no lines, and put a header back that is missing.

        Returns:
            What was wrong with the file, for a warning; None if nothing was.

        Raises:
            ValueError: If it can't be read or written.
        """
        self.last = 0
        if not self.exists():
            return None
        found = self.read()
        kept = [row for row in found.rows if int(row[0]) <= step]
        if not kept:
            self.path.unlink()
        else:
            self.last = int(kept[-1][0])
            write_whole(self.path, text([found.header, *kept]))
        faults = [f"dropped {numbered(found.bad)} (blank, cut or damaged)"] if found.bad else []
        if kept and not found.has_header:
            faults.append("put its missing header back")
        return f"{one_line(self.path)}: {' and '.join(faults)}" if faults else None

    def read(self) -> Lines:
        """Read the file, whatever it holds.

        Raises:
            ValueError: If it is no regular file, or can't be read.
        """
        require_file(self.path)
        try:
            content = self.path.read_bytes().decode("utf-8-sig", "replace")
        except OSError as error:
            raise ValueError(f"{one_line(self.path)}: cannot be opened: {reason(error)}") from error
        if not content:
            return Lines(header=[], rows=[], bad=[], has_header=True)
        lines = [line.removesuffix("\r").split(",") for line in content.removesuffix("\n").split("\n")]
        widths = Counter(len(line) for line in lines if is_row(line))
        width = widths.most_common(1)[0][0] if widths else len(lines[0])
        header = lines[0] if lines[0][0] == "step" and len(lines[0]) == width else self.names(width)
        good = [is_row(line) and len(line) == width == len(header) for line in lines]
        return Lines(
            header=header,
            rows=list(itertools.compress(lines, good)),
            bad=[number for number, line in enumerate(lines, 1) if not good[number - 1] and line is not header],
            has_header=lines[0][0] == "step",
        )

    def names(self, width: int) -> list[str]:
        """Header of a file with `width` columns."""
        names = ["step", *self.columns]
        if self.more is not None:
            names += [f"{self.more}{number}" for number in range(1, width - len(names) + 1)]
        return names


def is_row(line: Sequence[str]) -> bool:
    """Whether fields are those of a step: a number of 1 or more, and numbers."""
    try:
        values = [float(field) for field in line[1:]]
    except ValueError:
        return False
    return bool(values) and line[0].isascii() and line[0].isdigit() and len(line[0]) < 19


def text(lines: Sequence[Sequence[str]]) -> str:
    """Lines as they are in the file; no field holds a comma."""
    return "".join(f"{','.join(line)}\n" for line in lines)


def numbered(lines: Sequence[int]) -> str:
    """Name lines in few words.

    >>> numbered([3])
    'line 3'
    >>> numbered(range(1, 21))
    'lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 10 more'
    """
    names = ", ".join(str(number) for number in lines[:MOST_NUMBERS])
    rest = f" and {len(lines) - MOST_NUMBERS} more" if len(lines) > MOST_NUMBERS else ""
    return f"line{'s' if len(lines) > 1 else ''} {names}{rest}"
