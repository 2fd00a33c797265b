"""Tables that name files: CSV, TSV, JSON lines and Parquet, read as rows of texts within limits.

Paths in a table may be anybody's: which of them are accepted is decided in `file_of`.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from semask.extras import require
from semask.files.reading import parse_json, read_text, require_file
from semask.files.schema import quoted
from semask.files.text import one_line, reason

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
LARGEST_TABLE = 2**26
"""Bytes of text in a table: about a million rows."""
MOST_ROWS = 2**21
"""Rows of a table, and of a data set of tables."""
LONGEST_PATH = 4096
"""Characters of a path in a table."""
_SEPARATORS = (",", "\t", ";", "|")
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|[\\/]{2}")


class Table(NamedTuple):
    """A table of texts.

    Args:
        path: The file.
        columns: Names of the columns, in their order.
        rows: One text a column; "" where there is none.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def read_table(path: Path, *, head: bool = False) -> Table:
    """Read a table.

    Args:
        path: CSV, TSV, JSON lines or Parquet by its ending.
        head: Only the names of the columns and the first row.

    Raises:
        ValueError: If it can't be read, is too large, or its rows do not fit its columns.
    """
    kind = path.suffix.lower()
    if kind == ".parquet":
        return _read_parquet(path, head=head)
    text = read_text(path, most=LARGEST_TABLE, otherwise="give a table as CSV, TSV, JSON lines or Parquet")
    try:
        columns, rows = _json_lines(text, head) if kind == ".jsonl" else _separated(text, head)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{one_line(path)}: {reason(error)}") from error
    return Table(path, columns, rows)


def _separated(text: str, head: bool) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Rows of a CSV, with the separator that its first line has most of."""
    first = text[: text.find("\n")] if "\n" in text else text
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_SEPARATORS, key=first.count))
    columns = tuple(name.strip() for name in next(reader, []))
    rows: list[tuple[str, ...]] = []
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) > len(columns):
            raise ValueError(f"line {reader.line_num} has {len(row)} cells, the first line has {len(columns)}")
        _require_few(len(rows) + 1)
        rows.append(tuple(cell.strip() for cell in row) + ("",) * (len(columns) - len(row)))
        if head:
            break
    return columns, rows


def _json_lines(text: str, head: bool) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Rows of JSON lines: an object a line; only its texts count."""
    found: list[dict[str, str]] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = parse_json(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number} is not JSON: {reason(error)}") from error
        if not isinstance(values, dict):
            raise ValueError(f"line {number} is {type(values).__name__}: expected an object, one a line")
        _require_few(len(found) + 1)
        found.append({key: value for key, value in values.items() if isinstance(value, str)})
        columns |= dict.fromkeys(found[-1])
        if head:
            break
    return tuple(columns), [tuple(row.get(name, "") for name in columns) for row in found]


def open_parquet(path: Path) -> "ParquetFile":
    """Open a Parquet file: its footer is read, and refused if it promises too much.

    Raises:
        ValueError: If it is not such a file.
    """
    require("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_file(path)
    try:
        file = pq.ParquetFile(path, memory_map=True, pre_buffer=False, arrow_extensions_enabled=False)
        rows = file.metadata.num_rows
        groups = sum(file.metadata.row_group(index).num_rows for index in range(file.num_row_groups))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{one_line(path)}: not a readable Parquet file: {reason(error)}") from error
    if rows != groups or rows < 0:
        raise ValueError(f"{one_line(path)}: not a readable Parquet file: it names {rows} rows and has {groups}")
    try:
        _require_few(rows)
    except ValueError as error:
        raise ValueError(f"{one_line(path)}: {error}") from error
    return file


def _read_parquet(path: Path, *, head: bool) -> Table:
    """The columns of texts of a Parquet file."""
    import pyarrow as pa

    with open_parquet(path) as file:
        schema = file.schema_arrow
        columns = [name for name in schema.names if _is_text(schema.field(name).type)]
        rows: list[tuple[str, ...]] = []
        size = 0
        try:
            # A few rows at a time: a column that repeats one value is small in the file and large in memory.
            for batch in file.iter_batches(batch_size=1 if head else 1024, columns=columns, use_threads=False):
                size += batch.nbytes
                if size > LARGEST_TABLE:
                    raise ValueError(f"its texts take more than {LARGEST_TABLE:,} bytes, which no such table should")
                cells = [column.to_pylist() for column in batch.columns]
                rows += [tuple(cell or "" for cell in row) for row in zip(*cells, strict=True)]
                if head:
                    break
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ValueError(f"{one_line(path)}: not a readable table: {reason(error)}") from error
    return Table(path, tuple(columns), rows)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _require_few(rows: int) -> None:
    if rows > MOST_ROWS:
        raise ValueError(f"it has more than {MOST_ROWS:,} rows: split it")


def column_of(columns: Sequence[str], names: Sequence[str]) -> int | None:
    """Place of the column that has one of some names, the first name first; None if there is none.

    >>> column_of(["id", "Image Path", "Mask"], ["image", "photo"])
    1
    """
    plain = [_plain(column) for column in columns]
    return next((plain.index(name) for name in names if name in plain), None)


def _plain(column: str) -> str:
    """Name of a column in small letters, without what says that it is a path."""
    words = re.split(r"[\W_]+", column.lower().strip())
    while len(words) > 1 and words[-1] in ("path", "paths", "file", "files", "filename", "name", "filepath"):
        words.pop()
    return "_".join(words)


def file_of(text: str, base: Path, *, anywhere: bool) -> Path:
    """The file that a path in a table means.

    Args:
        text: A path, with slashes or backslashes between names.
        base: Folder that it is relative to.
        anywhere: Accept absolute paths and "..". Otherwise it has to lie below the base; links there are followed, as
            in any folder.

    Raises:
        ValueError: If it is no such path.
    """
    said = quoted(text, longest=100)
    if not text or len(text) > LONGEST_PATH or "\0" in text:
        raise ValueError(f"{said} is not a path" if text else "a path is missing")
    if _ELSEWHERE.match(text):
        raise ValueError(f"{said} is on another machine: copy the file to this one, and give its path")
    path = Path(text)
    if "\\" in text and not (base / path).exists():
        path = Path(text.replace("\\", "/"))
    if path.is_absolute() and path.is_relative_to(base.absolute()):
        path = path.relative_to(base.absolute())
    windows = re.match(r"[A-Za-z]:", text) is not None
    if not anywhere and (path.is_absolute() or ".." in path.parts or windows):
        raise ValueError(
            f"{said} is outside of the folder: give paths below it, or the table itself as data.root to allow others"
        )
    return base / path


def paths_of(table: Table, rows: Sequence[int], column: int, base: Path, *, anywhere: bool) -> Iterator[Path]:
    """The files that a column names in some rows.

    Raises:
        ValueError: Which row has no such path.
    """
    for row in rows:
        try:
            yield file_of(table.rows[row][column], base, anywhere=anywhere)
        except ValueError as error:
            name = one_line(table.columns[column], longest=60)
            raise ValueError(f"{one_line(table.path)}: row {row + 1}, column {name}: {error}") from error
