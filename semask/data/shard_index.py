"""The index of packed images: which bytes of which tar file are a sample, and what their digests are.

    ROOT/index.json        splits, their tar files and tables, with sizes and SHA-256 digests
    ROOT/classes.json      names and colors of the classes
    ROOT/train.csv         a row a sample: its name, tar file, and offset, bytes and SHA-256 of image and label
    ROOT/train-000000.tar  000000000.jpg, 000000000.label.png, 000000001.jpg, ...

The tar files can be read by the `webdataset` library. Here they are read by their bytes only: nothing that they say of
themselves is used. An index may be anybody's: everything in it is checked and bounded.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semask.data.tables import MOST_ROWS
from semask.files.ranges import Part, Ranges, Request
from semask.files.reading import parse_json
from semask.files.schema import Range, admits, quoted
from semask.files.text import one_line, reason

INDEX_FILE = "index.json"
KIND, VERSION = "semask shards", 1
LARGEST_INDEX = 2**24
"""Bytes of an index.json."""
LARGEST_TABLE = 2**29
"""Bytes of the table of a split."""
LARGEST_FILE = 2**28
"""Bytes of an image or a label."""
LARGEST_SHARD = 2**36
MOST_SHARDS = 2**16
LONGEST_NAME = 1024
COLUMNS = (
    *("name", "shard", "image_offset", "image_bytes", "image_sha256"),
    *("label_offset", "label_bytes", "label_sha256"),
)
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"\d{1,12}", re.ASCII)


class Member(NamedTuple):
    """A file of a pack.

    Args:
        file: Its name.
        bytes: Its size.
        sha256: Its digest as hexadecimal text.
    """

    file: str
    bytes: int
    sha256: str


class Split(NamedTuple):
    """What index.json says of a split.

    Args:
        samples: Number of samples.
        table: The table of the samples.
        shards: The tar files, in the order of their numbers.
    """

    samples: int
    table: Member
    shards: tuple[Member, ...]


class Index(NamedTuple):
    """What index.json says.

    Args:
        name: Name of the data set.
        classes: The file of the classes.
        splits: "train" and "val", or one of them.
    """

    name: str
    classes: Member
    splits: Mapping[str, Split]

    def as_plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        splits = {
            name: {
                "samples": split.samples,
                "table": split.table._asdict(),
                "shards": [shard._asdict() for shard in split.shards],
            }
            for name, split in self.splits.items()
        }
        return {
            "kind": KIND,
            "version": VERSION,
            "name": self.name,
            "classes": self.classes._asdict(),
            "splits": splits,
        }


class Samples(NamedTuple):
    """The table of a split, as arrays: a million samples take 100 MB and what their names take.

    Args:
        names: Name of each image, a path below the folder that was packed.
        shards: Number of the tar file of each sample [N].
        offsets: Where image and label begin in it [N, 2].
        sizes: Their bytes [N, 2].
        digests: Their SHA-256 digests [N, 2, 32], uint8.
    """

    names: list[str]
    shards: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    digests: NDArray[np.uint8]


def read_index(ranges: Ranges) -> Index:
    """Read index.json.

    Raises:
        ValueError: If it can't be read, or is not one.
    """
    content = ranges.read(Request(INDEX_FILE, 0, LARGEST_INDEX + 1, shorter=True))
    try:
        if len(content) > LARGEST_INDEX:
            raise ValueError(f"larger than {LARGEST_INDEX:,} bytes")
        return _index(parse_json(_text(content)))
    except ValueError as error:
        raise ValueError(f"{INDEX_FILE}: not an index of `semask data pack`: {reason(error)}") from error


def read_samples(ranges: Ranges, split: Split) -> Samples:
    """Read the table of a split.

    Raises:
        ValueError: If it can't be read, is not the one of the index, or has rows that can't be.
    """
    content = read_member(ranges, split.table)
    try:
        return _samples(csv.reader(io.StringIO(_text(content), newline=""), strict=True), split)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{split.table.file}: {reason(error)}: pack the folder again") from error


def read_member(ranges: Ranges, member: Member) -> bytes:
    """Read a file of a pack whole.

    Raises:
        ValueError: If it can't be read, or has another digest.
    """
    return ranges.read(Request.of(member.file, Part(0, member.bytes, member.sha256)))


def member_of(file: str, content: bytes) -> Member:
    """How an index names a file with a content."""
    return Member(file, len(content), hashlib.sha256(content).hexdigest())


def table_text(samples: Iterable[tuple[str, int, tuple[int, int, str], tuple[int, int, str]]]) -> str:
    """The table of a split.

    Args:
        samples: Name, number of the tar file, and (offset, bytes, digest) of image and of label.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((name, shard, *image, *label) for name, shard, image, label in samples)
    return text.getvalue()


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("not a text in UTF-8") from error


def _index(values: Any) -> Index:
    found = _object(values, "it", ("kind", "version", "name", "classes", "splits"))
    if found["kind"] != KIND or found["version"] != VERSION:
        said = f"{quoted(found['kind'])}, version {quoted(found['version'])}"
        raise ValueError(f"it is of {said}: expected {quoted(KIND)}, version {VERSION}")
    name = found["name"]
    if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable():
        raise ValueError(f"the name is {quoted(name)}: expected a short text on one line")
    splits = found["splits"]
    if not isinstance(splits, dict) or not splits or not splits.keys() <= {"train", "val"}:
        raise ValueError("splits has to be an object with train, val or both")
    return Index(
        name, _member(found["classes"], "classes", 2**20), {key: _split(value, key) for key, value in splits.items()}
    )


def _split(values: Any, name: str) -> Split:
    found = _object(values, name, ("samples", "table", "shards"))
    shards = found["shards"]
    if not admits(found["samples"], Annotated[int, Range(1, MOST_ROWS)]):
        raise ValueError(f"{name} has {quoted(found['samples'])} samples: expected 1 to {MOST_ROWS:,}")
    if not isinstance(shards, list) or not 0 < len(shards) <= MOST_SHARDS:
        raise ValueError(f"the shards of {name} have to be a list of 1 to {MOST_SHARDS:,}")
    return Split(
        found["samples"],
        _member(found["table"], f"{name}.table", LARGEST_TABLE),
        tuple(_member(shard, f"{name}.shards", LARGEST_SHARD) for shard in shards),
    )


def _member(values: Any, what: str, most: int) -> Member:
    found = _object(values, what, Member._fields)
    file, size, digest = (found[name] for name in Member._fields)
    if not isinstance(file, str) or not _FILE.fullmatch(file):
        raise ValueError(f"{what}.file is {quoted(file)}: expected the plain name of a file next to it")
    if not admits(size, Annotated[int, Range(0, most)]):
        raise ValueError(f"{what}.bytes is {quoted(size)}: expected 0 to {most:,}")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"{what}.sha256 is {quoted(digest)}: expected 64 hexadecimal digits")
    return Member(file, size, digest)


def _object(values: Any, what: str, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(values, dict) or not values.keys() >= set(names):
        raise ValueError(f"{what} has to be an object with {', '.join(names)}")
    return values


def _samples(rows: Any, split: Split) -> Samples:
    if tuple(next(rows, ())) != COLUMNS:
        raise ValueError(f"expected the columns {', '.join(COLUMNS)}")
    count = split.samples
    names: list[str] = []
    shards, digests = np.zeros(count, np.int32), np.zeros((count, 2, 32), np.uint8)
    offsets, sizes = np.zeros((count, 2), np.int64), np.zeros((count, 2), np.int64)
    for index, row in enumerate(rows):
        if index >= count:
            raise ValueError(f"it has more rows than the {count:,} samples of the index")
        try:
            names.append(_sample(row, split, index, shards, offsets, sizes, digests))
        except ValueError as error:
            raise ValueError(f"sample {index}: {error}") from error
    if len(names) < count:
        raise ValueError(f"it has {len(names):,} rows for {count:,} samples")
    return Samples(names, shards, offsets, sizes, digests)


def _sample(row: list[str], split: Split, index: int, shards: Any, offsets: Any, sizes: Any, digests: Any) -> str:
    """Put a row into the arrays; returns the name."""
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(row)} cells, expected {len(COLUMNS)}")
    name, shard = row[0], _number(row[1])
    if shard >= len(split.shards):
        raise ValueError(f"shard {shard} of {len(split.shards)}")
    shards[index] = shard
    for part in (0, 1):
        offset, size, digest = row[2 + 3 * part : 5 + 3 * part]
        begin, length = _number(offset), _number(size)
        if not 0 < length <= LARGEST_FILE or begin + length > split.shards[shard].bytes:
            raise ValueError(f"{length:,} bytes at {begin:,} of {one_line(split.shards[shard].file)} cannot be")
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"{quoted(digest)} is not a SHA-256 digest")
        offsets[index, part], sizes[index, part] = begin, length
        digests[index, part] = np.frombuffer(bytes.fromhex(digest), np.uint8)
    return require_name(name)


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a number")
    return int(text)


def require_name(name: str) -> str:
    """Return the name of a sample: it may become a path of what is written of it.

    Raises:
        ValueError: If it is not a path below a folder.
    """
    plain = 0 < len(name) <= LONGEST_NAME and name.isprintable() and not re.search(r"[\\:]", name)
    if not plain or name != PurePosixPath(name).as_posix() or {"..", ".", "/"} & set(PurePosixPath(name).parts):
        raise ValueError(f"its name is {quoted(name)}: expected a path below a folder")
    return name
