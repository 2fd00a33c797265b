"""Images and labels in tar files with an index, as `semask data pack` writes them, in a folder or at a URL.

See `semask/data/shard_index.py` for the files.
"""

import json
from pathlib import Path

from semask.data.dataset import Label, SegmentationDataset
from semask.data.format import Format
from semask.data.formats.folder import CLASSES_FILE, described_classes
from semask.data.images import Picture
from semask.data.listing import Listing
from semask.data.shard_index import INDEX_FILE, KIND, read_index, read_member, read_samples
from semask.data.shards import ShardImage, ShardLabel, Shards
from semask.files.disk_cache import DiskCache
from semask.files.ranges import open_ranges
from semask.files.reading import read_text
from semask.files.text import one_line

CACHE_GIB = 20.0


def shards(
    root: str | Path, split: str | None, *, cache: str | None = None, cache_gib: float = CACHE_GIB, channels: int = 3
) -> SegmentationDataset:
    """Find the samples of a split.

    Args:
        root: Folder or URL of the pack.
        split: "train" or "val"; None for all.
        cache: Folder on a local disk that keeps what was read; None for none.
        cache_gib: Size of the cache in GiB.
        channels: Channels to read the images with: 1, 3 or 4.

    Raises:
        ValueError: There is no pack or no such split, or its index is wrong.
    """
    ranges = open_ranges(root)
    try:
        index = read_index(ranges)
        if split is not None and split not in index.splits:
            raise ValueError(f"no split {one_line(split)}; it has {', '.join(sorted(index.splits))}")
        described = described_classes(read_member(ranges, index.classes).decode("utf-8", "replace"), index.name)
        kept = DiskCache(Path(cache).expanduser(), int(cache_gib * 2**30)) if cache is not None else None
        pairs: list[tuple[Picture, Label]] = []
        for name, found in index.splits.items():
            if split in (None, name):
                samples = Shards(root, ranges, found, read_samples(ranges, found), kept)
                pairs += [(ShardImage(samples, n), ShardLabel(samples, n)) for n in range(found.samples)]
    except ValueError as error:
        said = one_line(root)
        raise ValueError(str(error) if str(error).startswith(said) else f"{said}: {error}") from error
    return SegmentationDataset(pairs, described.classes, name=index.name, channels=channels)


def recognize(listing: Listing) -> str | None:
    """The index and the classes of a pack."""
    if not all((listing.root / name).is_file() for name in (INDEX_FILE, CLASSES_FILE)):
        return None
    head = read_text(listing.root / INDEX_FILE)[:200]
    return f"{INDEX_FILE} of packed images" if json.dumps(KIND) in head else None


FORMAT = Format(find=shards, splits={"train": "train", "val": "val"}, recognize=recognize, remote=True)
