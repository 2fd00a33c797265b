"""Samples that are bytes of tar files, on this machine or at a URL, found by an index.

Sample n is always the same bytes, whoever asks and in whatever order. With a cache they are kept on a local disk.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from semask.data.images import Picture, read_mask
from semask.data.shard_index import Samples, Split
from semask.files.disk_cache import DiskCache
from semask.files.ranges import Part, Ranges, Request

IMAGE, LABEL = 0, 1
MOST_HELD = 2**28
"""Bytes that are fetched before they are read, in each process that loads."""
FAR = 2**16
"""Bytes between image and label up to which they are fetched at once."""


class Shards:
    """The samples of a split.

    Args:
        root: The folder or URL, for names.
        ranges: What reads its files.
        split: Its tar files.
        samples: Where its samples are in them.
        cache: What keeps their bytes on a local disk; None for nothing.
    """

    def __init__(
        self, root: str | Path, ranges: Ranges, split: Split, samples: Samples, cache: DiskCache | None = None
    ) -> None:
        self.root, self.ranges, self.split, self.samples, self.cache = Path(root), ranges, split, samples, cache
        self._release()

    def _release(self) -> None:
        self._process = os.getpid()
        self._held: dict[tuple[int, int], bytes | ValueError] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What another process opens it by."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Hold nothing yet."""
        vars(self).update(state)
        self._release()

    def digest(self, index: int, part: int) -> str:
        """SHA-256 digest of the image or the label of a sample."""
        digest: bytes = self.samples.digests[index, part].tobytes()
        return digest.hex()

    def read(self, index: int, part: int) -> bytes:
        """Read the file of an image or a label.

        Raises:
            ValueError: If it can't be read, or its digest is not that of the index.
        """
        held = self._of_this_process().get((index, part))
        if held is None:
            held = self._cached(index, part)
        if held is None:
            held = self.ranges.read(Request.of(self._file(index), self._part(index, part)))
            self._keep(index, part, held)
        if isinstance(held, ValueError):
            raise held
        return held

    def prefetch(self, indices: Sequence[int]) -> None:
        """Fetch several samples together, which are to be read next; what fails says so when it is read."""
        found: dict[tuple[int, int], bytes | ValueError] = {}
        missing: list[tuple[int, tuple[int, ...]]] = []
        size = 0
        for index in dict.fromkeys(indices):
            size += int(self.samples.sizes[index].sum())
            if size > MOST_HELD:
                break
            cached = {part: self._cached(index, part) for part in (IMAGE, LABEL)}
            found |= {(index, part): content for part, content in cached.items() if content is not None}
            left = tuple(part for part, content in cached.items() if content is None)
            ends = self.samples.offsets[index] + self.samples.sizes[index]
            together = len(left) == 2 and self.samples.offsets[index].max() - ends.min() <= FAR
            missing += [(index, left)] if together else [(index, (part,)) for part in left]
        requests = [Request.of(self._file(n), *(self._part(n, part) for part in parts)) for n, parts in missing]
        answers = self.ranges.read_all(requests)
        for (index, parts), request, answer in zip(missing, requests, answers, strict=True):
            for part, place in zip(parts, request.parts, strict=True):
                found[index, part] = content = answer if isinstance(answer, ValueError) else place.of(request, answer)
                if not isinstance(content, ValueError):
                    self._keep(index, part, content)
        self._of_this_process()
        self._held = found

    def _of_this_process(self) -> dict[tuple[int, int], bytes | ValueError]:
        if self._process != os.getpid():  # a copy of the process that fetched them
            self._release()
        return self._held

    def _file(self, index: int) -> str:
        """Name of the tar file of a sample."""
        return self.split.shards[int(self.samples.shards[index])].file

    def _part(self, index: int, part: int) -> Part:
        """Where in it the image or the label is."""
        begin = int(self.samples.offsets[index, part])
        return Part(begin, begin + int(self.samples.sizes[index, part]), self.digest(index, part))

    def _cached(self, index: int, part: int) -> bytes | None:
        """What the cache has of it; its digest is looked at, since anybody may have written it."""
        if self.cache is None:
            return None
        digest = self.digest(index, part)
        content = self.cache.get(digest)
        return content if content is not None and hashlib.sha256(content).hexdigest() == digest else None

    def _keep(self, index: int, part: int, content: bytes) -> None:
        if self.cache is not None:
            self.cache.put(self.digest(index, part), content)


@dataclass(frozen=True)
class ShardImage:
    """An image in a tar file: an `ImageSource`.

    Args:
        shards: The samples of its split.
        index: Which one it is.
    """

    shards: Shards
    index: int

    @property
    def path(self) -> Path:
        """The name that it had where it was packed, below the folder or URL."""
        return self.shards.root / self.shards.samples.names[self.index]

    @property
    def sha256(self) -> str:
        """Digest of its file."""
        return self.shards.digest(self.index, IMAGE)

    def __repr__(self) -> str:
        """Name the image and its content."""
        return f"{type(self).__name__}({str(self.path)!r}, {self.sha256})"

    def read_bytes(self) -> bytes:
        """Read the file of the image; see `Shards.read`."""
        return self.shards.read(self.index, IMAGE)


@dataclass(frozen=True, repr=False)
class ShardLabel(ShardImage):
    """A label in a tar file, a PNG of class indices: a `LabelSource`."""

    @property
    def path(self) -> Path:
        """The name of its image, with the ending that labels have in the tar file."""
        return super().path.with_suffix(".label.png")

    @property
    def sha256(self) -> str:
        """Digest of its file."""
        return self.shards.digest(self.index, LABEL)

    def read_bytes(self) -> bytes:
        """Read the file of the label; see `Shards.read`."""
        return self.shards.read(self.index, LABEL)

    def read(self) -> NDArray[Any]:
        """Read the class indices, as `read_mask` does."""
        return read_mask(self)


def prefetch(images: Iterable[Picture]) -> None:
    """Fetch images that are to be read next, with their labels, together; those that are no samples of tar files stay.

    Args:
        images: The images of a batch.
    """
    wanted: dict[int, tuple[Shards, list[int]]] = {}
    for image in images:
        if isinstance(image, ShardImage):
            wanted.setdefault(id(image.shards), (image.shards, []))[1].append(image.index)
    for samples, indices in wanted.values():
        samples.prefetch(indices)
