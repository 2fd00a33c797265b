"""What the files of a folder show before anybody says what they are: sizes, values and colors of masks, objects."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from semask.data.classes import IGNORE_INDEX, Color
from semask.data.dataset import Label, SegmentationDataset, raw_label
from semask.data.images import Picture, read_size
from semask.data.labels import color_codes
from semask.data.progress import Track, untracked
from semask.data.similarity import grouped, near_duplicates, read_thumbnail

T = TypeVar("T")
R = TypeVar("R")

MOST_KINDS = 4096
"""Different values or colors that are counted; more have no meaning of their own."""
MOST_COUNTED = 2**18
"""Different values or colors that are held while counting; of more, the rarest are forgotten, as of pictures."""
SAMPLED = 400
"""Images whose size is read."""
SAMPLED_MASKS = 60
"""Masks in which objects are measured."""


class MaskKinds(NamedTuple):
    """What the masks hold.

    Args:
        values: Pixels of each value, most frequent first; of masks with one channel.
        colors: Pixels of each color, most frequent first; of RGB masks.
        masks_of: Number of masks in which each value or color occurs.
        masks: Number of masks.
    """

    values: dict[int, int]
    colors: dict[Color, int]
    masks_of: dict[int | Color, int]
    masks: int


class Objects(NamedTuple):
    """How large the connected parts of the classes are.

    Args:
        sides: For each class that occurs: the side, in pixels, of a square as large as its parts at the 10th percentile
            of its area, counted by area from the smallest.
        pixels: Pixels of each class in the measured masks.
    """

    sides: dict[int, float]
    pixels: dict[int, int]


def mask_kinds(labels: Sequence[Label], *, damaged: bool = False, track: Track = untracked) -> MaskKinds:
    """Count values and colors of masks.

    Args:
        labels: The masks.
        damaged: Leave out those that can't be read.
        track: Shows how far it is.

    Raises:
        ValueError: A mask can't be read.
    """
    values: Counter[int] = Counter()
    colors: Counter[Color] = Counter()
    masks_of: Counter[int | Color] = Counter()
    read = _parallel(_kinds_if_read if damaged else _kinds, labels)
    for kinds, counts, colored in track(read, "Reading masks", len(labels)):
        if colored:
            found: list[Any] = [(int(code) >> 16, int(code) >> 8 & 255, int(code) & 255) for code in kinds]
            colors.update(dict(zip(found, counts.tolist(), strict=True)))
        else:
            found = kinds.tolist()
            values.update(dict(zip(found, counts.tolist(), strict=True)))
        masks_of.update(found)
        for counter in (values, colors):
            _forget_rare(counter, masks_of)
    common = dict(values.most_common(MOST_KINDS)), dict(colors.most_common(MOST_KINDS))
    return MaskKinds(*common, dict(masks_of), len(labels))


def _forget_rare(counter: Counter[Any], masks_of: Counter[Any]) -> None:
    """Keep the most frequent of too many values or colors."""
    if len(counter) > MOST_COUNTED:
        for kind, _ in counter.most_common()[MOST_KINDS:]:
            del counter[kind], masks_of[kind]


def _kinds(label: Label) -> tuple[NDArray[Any], NDArray[Any], bool]:
    return counted(raw_label(label))


def _kinds_if_read(label: Label) -> tuple[NDArray[Any], NDArray[Any], bool]:
    try:
        return _kinds(label)
    except ValueError:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), False


def counted(raw: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], bool]:
    """The values, or colors as numbers of 24 bits, of a mask, how often each occurs, and whether they are colors."""
    if raw.ndim == 3:
        return (*np.unique(color_codes(raw), return_counts=True), True)
    if raw.dtype == np.uint8:
        counts = np.bincount(raw.ravel(), minlength=256)
        return np.flatnonzero(counts), counts[counts > 0], False
    return (*np.unique(raw, return_counts=True), False)


def image_sizes(images: Sequence[Picture], count: int = SAMPLED) -> NDArray[np.int64]:
    """Height and width of some images, evenly spread, from their headers: [N, 2].

    Raises:
        ValueError: An image can't be read.
    """
    return np.array(list(_parallel(read_size, evenly(images, count))), dtype=np.int64).reshape(-1, 2)


def measured_objects(dataset: SegmentationDataset, *, track: Track = untracked) -> Objects:
    """Measure the connected parts of the classes in some masks.

    Raises:
        ValueError: A mask can't be read, or holds what is not a class.
    """
    from scipy import ndimage

    areas: dict[int, list[NDArray[np.int64]]] = {}
    indices = evenly(range(len(dataset)), SAMPLED_MASKS)
    for index in track(indices, "Measuring objects", len(indices)):
        label = dataset.label_array(index)
        for value in np.unique(label):
            if value != IGNORE_INDEX:
                parts, _ = ndimage.label(label == value)
                areas.setdefault(int(value), []).append(np.bincount(parts.ravel())[1:])
    sides, pixels = {}, {}
    for value, found in areas.items():
        sizes = np.sort(np.concatenate(found))
        pixels[value] = int(sizes.sum())
        # By area, so that a few stray pixels of a sky count little.
        sides[value] = float(np.sqrt(sizes[np.searchsorted(np.cumsum(sizes), 0.1 * sizes.sum())]))
    return Objects(sides, pixels)


def similar_groups(images: Sequence[Picture], *, track: Track = untracked) -> list[int]:
    """Group images that show nearly the same: a number for each image.

    Raises:
        ValueError: An image can't be read.
    """
    thumbnails = np.stack(list(track(_parallel(read_thumbnail, images), "Comparing images", len(images))))
    return grouped(len(images), near_duplicates(thumbnails))


def evenly(items: Sequence[T], count: int) -> list[T]:
    """Up to `count` of some things, evenly spread over them."""
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, min(count, len(items)))] if items else []


def _parallel(function: Callable[[T], R], items: Sequence[T]) -> Iterable[R]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(function, items)
