"""Images and masks that are cells of a table: the columns of Hugging Face `datasets`, in Parquet and Arrow files.

A cell is read when it is asked for. Of a Parquet file one row is decoded at a time, in the order of the file: rows are
found fast in their order, and slowly at random. Arrow files are mapped into memory and found fast in any order.
"""

import os
import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from numpy.typing import NDArray

from semask.data.images import read_mask
from semask.data.tables import MOST_ROWS, file_of, open_parquet
from semask.extras import require
from semask.files.reading import require_file
from semask.files.text import one_line, reason

LARGEST_CELL = 2**28
"""Bytes of an image in a table."""
LARGEST_GROUP = 2**32
"""Bytes of the images of a row group of Parquet, before compression."""
RECENT = 16
"""Rows of a Parquet file that are kept: threads ask a little out of order."""
RECENT_BYTES = 2**26
"""Bytes of them."""


class Described(NamedTuple):
    """What a file of a data set has.

    Args:
        rows: Number of rows.
        images: Names of the columns that hold images.
        features: What `datasets` wrote of the columns, as JSON; "" if nothing.
    """

    rows: int
    images: tuple[str, ...]
    features: str


class Shard:
    """A Parquet or Arrow file of a data set.

    Args:
        path: The file.
        columns: Columns that are read.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, tuple(columns)
        self._close()

    def _close(self) -> None:
        self._process, self._lock = os.getpid(), Lock()
        self._opened: Any = None
        self._rows: Iterator[tuple[int, dict[str, Any]]] = iter(())
        self._next, self._end = 0, 0
        self._recent: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def __getstate__(self) -> tuple[Path, tuple[str, ...]]:
        """What another process opens it by."""
        return self.path, self.columns

    def __setstate__(self, state: tuple[Path, tuple[str, ...]]) -> None:
        """Open it again when it is needed."""
        self.path, self.columns = state
        self._close()

    def cell(self, row: int, column: str) -> bytes | str | None:
        """What a cell holds: the bytes of a file, or else the path of one; None if it is empty.

        Raises:
            ValueError: If it can't be read, or is too large.
        """
        import pyarrow as pa

        if self._process != os.getpid():  # a copy of the process that opened it
            self._close()
        with self._lock:
            try:
                if self.path.suffix == ".arrow":
                    self._opened = self._opened or open_arrow(self.path, self.columns)
                    return _content(self._opened[column][row])
                return self._parquet_row(row)[column]  # type: ignore[no-any-return]
            except (pa.ArrowException, OSError, ValueError, IndexError) as error:
                self._rows, self._end = iter(()), 0
                raise ValueError(f"{one_line(self.path)}: row {row} cannot be read: {reason(error)}") from error

    def _parquet_row(self, row: int) -> dict[str, Any]:
        """Go on to a row, from the beginning of its row group if it is behind."""
        if row in self._recent:
            return self._recent[row]
        self._opened = self._opened or open_parquet(self.path)
        if not self._next <= row < self._end:
            self._rows = self._group_of(row)
        for number, cells in self._rows:
            self._next = number + 1
            self._recent[number] = cells
            size = sum(len(cell or "") for kept in self._recent.values() for cell in kept.values())
            while len(self._recent) > 1 and (len(self._recent) > RECENT or size > RECENT_BYTES):
                size -= sum(len(cell or "") for cell in self._recent.popitem(last=False)[1].values())
            if number == row:
                return cells
        raise ValueError("the file has fewer rows than it says")

    def _group_of(self, row: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows of the row group of a row; one batch a row, since equal cells take no space in the file."""
        start, metadata = 0, self._opened.metadata
        for group in range(metadata.num_row_groups):
            end = start + metadata.row_group(group).num_rows
            if row < end:
                break
            start = end
        self._next, self._end = start, end
        batches = self._opened.iter_batches(
            batch_size=1, row_groups=[group], columns=list(self.columns), use_threads=False
        )
        return (
            (start + offset, {name: _content(batch.column(name)[0]) for name in self.columns})
            for offset, batch in enumerate(batches)
        )


@dataclass(frozen=True)
class StoredImage:
    """An image in a cell: an `ImageSource`.

    Args:
        shard: The file.
        row: Row in the file, from 0.
        column: Name of the column.
    """

    shard: Shard
    row: int
    column: str

    @property
    def path(self) -> Path:
        """The file, and as if it were a folder the row in it."""
        return self.shard.path / f"row-{self.row}"

    def read_bytes(self) -> bytes:
        """Read what would be the file of the image.

        Raises:
            ValueError: If the cell can't be read or is empty, or names a file that is not below the folder.
        """
        content = self.shard.cell(self.row, self.column)
        if content is None:
            raise ValueError(f"{one_line(self.path)}: column {one_line(self.column, longest=60)} has no image there")
        if isinstance(content, bytes):
            return content
        try:
            path = require_file(file_of(content, self.shard.path.parent, anywhere=False))
        except ValueError as error:
            raise ValueError(
                f"{one_line(self.path)}: the row has no image but the path of one: {error}; save the data set again "
                "with its images"
            ) from error
        with open(path, "rb") as file:
            read = file.read(LARGEST_CELL + 1)
        if len(read) > LARGEST_CELL:
            raise ValueError(f"{one_line(path)}: larger than {LARGEST_CELL:,} bytes")
        return read


@dataclass(frozen=True)
class StoredMask(StoredImage):
    """A mask in a cell: a `LabelSource`."""

    def read(self) -> NDArray[Any]:
        """Read the numbers of the mask, as `read_mask` does."""
        return read_mask(self)


def describe(path: Path) -> Described:
    """Look at the head of a Parquet or Arrow file.

    Raises:
        ValueError: If it can't be read or promises too much.
    """
    if path.suffix == ".arrow":
        table = open_arrow(path, None)
        return Described(table.num_rows, *_of_schema(table.schema))
    with open_parquet(path) as file:
        described = Described(file.metadata.num_rows, *_of_schema(file.schema_arrow))
        for index in range(file.num_row_groups):
            group = file.metadata.row_group(index)
            chunks = [group.column(number) for number in range(group.num_columns)]
            size = sum(
                chunk.total_uncompressed_size
                for chunk in chunks
                if chunk.path_in_schema.startswith(tuple(described.images))
            )
            if not 0 <= size <= LARGEST_GROUP:
                raise ValueError(
                    f"{one_line(path)}: row group {index} has images of {size:,} bytes, at most {LARGEST_GROUP:,} are "
                    "read: save it with smaller row groups"
                )
        return described


def _of_schema(schema: Any) -> tuple[tuple[str, ...], str]:
    """Names of the columns of images, and the features that `datasets` wrote."""
    images = tuple(name for name in schema.names if schema.names.count(name) == 1 and _holds(schema.field(name).type))
    features: str = (schema.metadata or {}).get(b"huggingface", b"").decode("utf-8", "replace")
    return images, features


def _holds(kind: Any) -> bool:
    """Whether a column may hold files: bytes, or a struct of bytes and path."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        names = [kind.field(index).name for index in range(kind.num_fields)]
        return names.count("bytes") == 1 and names.count("path") <= 1 and _holds(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _content(cell: Any) -> bytes | str | None:
    """What a cell holds."""
    import pyarrow as pa

    if not cell.is_valid:
        return None
    if pa.types.is_struct(cell.type):
        if cell["bytes"].is_valid:
            return _content(cell["bytes"])
        path = cell["path"].as_py() if any(name == "path" for name in cell) else None
        return path if isinstance(path, str) and path else None
    buffer = cell.as_buffer()
    if buffer.size > LARGEST_CELL:
        raise ValueError(f"an image has {buffer.size:,} bytes, at most {LARGEST_CELL:,} are read")
    return bytes(buffer)


def open_arrow(path: Path, columns: Sequence[str] | None) -> Any:
    """Map an Arrow file, as `save_to_disk` writes it, into memory.

    Args:
        path: The file.
        columns: Columns to check and give; None: all, not checked, for their names alone.

    Raises:
        ValueError: If it is not such a file, or compressed.
    """
    require("pyarrow")
    import pyarrow as pa

    require_file(path)
    try:
        source = pa.memory_map(str(path))
        for message in pa.ipc.MessageReader.open_stream(source):
            if message.type != "schema" and _is_compressed(bytes(message.metadata)):
                raise ValueError("its batches are compressed, which datasets does not do: save it again")
        source.seek(0)
        table = pa.ipc.open_stream(source).read_all()
        if columns is not None:
            table = table.select(list(columns))
            table.validate(full=True)  # Arrow trusts the offsets of a file
    except (pa.ArrowException, OSError, ValueError, KeyError, struct.error) as error:
        raise ValueError(f"{one_line(path)}: not a readable Arrow file: {reason(error)}") from error
    if table.num_rows > MOST_ROWS:
        raise ValueError(f"{one_line(path)}: it has more than {MOST_ROWS:,} rows: split it")
    return table


def _is_compressed(message: bytes) -> bool:
    """Whether the buffers of a message are: reading them would make as many bytes as they say.

    Its head is a FlatBuffers table whose third field is the table RecordBatch, and the fourth of that is compression.
    """
    root = struct.unpack_from("<I", message, 0)[0]
    header = _field(message, root, 2)
    if header is None:
        return False
    return _field(message, header + struct.unpack_from("<I", message, header)[0], 3) is not None


def _field(message: bytes, table: int, number: int) -> int | None:
    """Place of a field of a FlatBuffers table; None if it is not there."""
    fields = table - struct.unpack_from("<i", message, table)[0]
    entry = 4 + 2 * number
    if entry >= struct.unpack_from("<H", message, fields)[0]:
        return None
    offset: int = struct.unpack_from("<H", message, fields + entry)[0]
    return table + offset if offset else None
