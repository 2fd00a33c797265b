"""Images and labels to tar files with an index: `semask data pack`.

Files of images are written as they are. Labels become PNG files of class indices, whatever they were: polygons, colors,
values that a recipe renumbers. So what is read back equals what is read from the folder, to the last bit.
"""

import functools
import hashlib
import io
import json
import os
import re
import tarfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from semask.data.dataset import CheckLevel, SegmentationDataset
from semask.data.format import Split as SplitName
from semask.data.formats.folder import CLASSES_FILE, classes_text
from semask.data.images import FORMATS, Picture, encoded
from semask.data.progress import Track, untracked
from semask.data.reading import is_photo
from semask.data.shard_index import (
    INDEX_FILE,
    LARGEST_FILE,
    LONGEST_NAME,
    Index,
    Member,
    Split,
    member_of,
    require_name,
    table_text,
)
from semask.data.source import Data, sample_paths
from semask.files.atomic import not_written, temporary_folder, write_whole
from semask.files.reading import require_file
from semask.files.text import one_line

SHARD_MIB = 256
"""Size of a tar file in MiB after which the next one begins."""
ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "TIFF": "tif", "BMP": "bmp", "WEBP": "webp", "GIF": "gif"}
"""Format of an image -> ending in the tar file."""
AHEAD = 4
"""Samples for each thread that are read before they are written."""


class Packed(NamedTuple):
    """What was written.

    Args:
        samples: Number of samples of each split.
        shards: Number of tar files.
        bytes: Size of all files.
    """

    samples: dict[str, int]
    shards: int
    bytes: int


def pack(
    data: Data,
    out: Path,
    *,
    splits: Sequence[SplitName] = ("train", "val"),
    shard_mib: int = SHARD_MIB,
    check: CheckLevel = "full",
    track: Track = untracked,
) -> Packed:
    """Write the samples of a folder as a recipe reads it to tar files, with classes and an index.

    Args:
        data: What is packed.
        out: Folder to write, which must not exist; it is there whole or not at all.
        splits: Which splits.
        shard_mib: Size of a tar file in MiB after which the next one begins.
        check: What is read before: see `Data.check`.
        track: Shows how far it is.

    Returns:
        What was written.

    Raises:
        ValueError: If the data can't be read, is not of photos, or something can't be written.
    """
    if out.exists() or out.is_symlink():
        raise ValueError(f"{one_line(out)}: already exists: give a folder that does not")
    datasets = {split: data.dataset(split) for split in splits}
    for dataset in datasets.values():
        _require_photos(dataset)
        dataset.require_decided()
        dataset.check(level=check, allow_empty_masks=data.allow_empty_masks, track=track)
    first = next(iter(datasets.values()))
    name = _printable(first.name)[:200] or "data"
    try:
        with temporary_folder(beside=out) as folder:
            classes = classes_text(first.classes, name=name).encode()
            write_whole(folder / CLASSES_FILE, classes)
            written: dict[str, Split] = {
                split: _write_split(dataset, split, data.folder, folder, shard_mib * 2**20, track)
                for split, dataset in datasets.items()
            }
            index = Index(name, member_of(CLASSES_FILE, classes), written)
            write_whole(folder / INDEX_FILE, json.dumps(index.as_plain(), indent=1) + "\n")
            size = sum(path.stat().st_size for path in folder.iterdir())
            os.chmod(folder, 0o777 & ~_umask())
            os.rename(folder, out)
    except OSError as error:
        raise ValueError(not_written(out, error)) from error
    shards = sum(len(split.shards) for split in written.values())
    return Packed({name: split.samples for name, split in written.items()}, shards, size)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _require_photos(dataset: SegmentationDataset) -> None:
    """Refuse what is not the file of a photo for each sample."""
    if any(dataset.windows) or not all(is_photo(image, dataset.reading) for image, _ in dataset.pairs):
        raise ValueError(
            f"{one_line(dataset.name)}: photos of 1, 3 or 4 channels are packed, not bands or parts of large images: "
            "cut them to photos first, or train on the folder"
        )


class _Sample(NamedTuple):
    """The files of a sample."""

    ending: str
    image: bytes
    label: bytes


def _write_split(dataset: SegmentationDataset, split: str, root: Path, folder: Path, most: int, track: Track) -> Split:
    """Write the tar files and the table of a split."""
    names = [require_name(_name(path)) for path in sample_paths(dataset, root)]
    shards: list[Member] = []
    rows = []
    read = _in_order(functools.partial(_sample, dataset), len(dataset))
    samples = enumerate(track(read, f"Packing {split}", len(dataset)))
    following = next(samples, None)
    while following is not None:
        with open(folder / f"{split}-{len(shards):06}.tar", "xb") as file:
            target = _Hashed(file)
            with tarfile.TarFile(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:  # type: ignore[arg-type]
                while following is not None and (target.size == 0 or tar.offset < most):
                    index, sample = following
                    image = _add(tar, f"{index:09}.{sample.ending}", sample.image)
                    label = _add(tar, f"{index:09}.label.png", sample.label)
                    rows.append((names[index], len(shards), image, label))
                    following = next(samples, None)
            file.flush()
            os.fsync(file.fileno())
        shards.append(Member(Path(file.name).name, target.size, target.hash.hexdigest()))
    table = table_text(rows).encode()
    write_whole(folder / f"{split}.csv", table)
    return Split(len(dataset), member_of(f"{split}.csv", table), tuple(shards))


class _Hashed:
    """A file that is written from its beginning to its end, and its digest."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size, self.hash = file, 0, hashlib.sha256()

    def write(self, content: bytes) -> int:
        """Write bytes."""
        self.file.write(content)
        self.hash.update(content)
        self.size += len(content)
        return len(content)

    def tell(self) -> int:
        """Bytes that were written."""
        return self.size


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> tuple[int, int, str]:
    """Add a file; returns offset, size and digest. It has no time or owner: packing again gives the same bytes."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    offset = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(member, io.BytesIO(content))
    return offset, len(content), hashlib.sha256(content).hexdigest()


def _sample(dataset: SegmentationDataset, index: int) -> _Sample:
    """Read the files of a sample.

    Raises:
        ValueError: If one can't be read, or is too large.
    """
    picture = dataset.pairs[index][0]
    image = _content(picture)
    try:
        with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
            ending = ENDINGS[opened.format or ""]
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"{one_line(_path(picture))}: not an image that is read: see semask doctor") from error
    label = encoded(Image.fromarray(np.asarray(dataset.label_array(index), np.uint8)), "PNG")
    if len(label) > LARGEST_FILE:
        raise ValueError(f"{one_line(_path(picture))}: its label takes more than {LARGEST_FILE:,} bytes")
    return _Sample(ending, image, label)


def _path(picture: Picture) -> Path:
    return picture if isinstance(picture, Path) else picture.path


def _content(picture: Picture) -> bytes:
    """Read the file of an image."""
    if not isinstance(picture, Path):
        return picture.read_bytes()
    with open(require_file(picture), "rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"{one_line(picture)}: larger than {LARGEST_FILE:,} bytes")
    return content


def _in_order(read: Callable[[int], _Sample], count: int) -> Iterator[_Sample]:
    """Read samples with threads, a few ahead, in their order."""
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[_Sample]] = deque()
        try:
            for index in range(count):
                ahead.append(pool.submit(read, index))
                if len(ahead) > AHEAD * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _name(path: Path) -> str:
    """The name of a sample, as an index holds it."""
    return _printable("/".join(part for part in path.parts if part not in ("/", "..")))[:LONGEST_NAME]


def _printable(text: str) -> str:
    return re.sub(r"[\\:]", "?", "".join(x if x.isprintable() else "?" for x in text))
