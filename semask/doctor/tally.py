"""What is added up over all pairs: bounded, except for 256 gray values and a few numbers an image."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MOST = 4096
"""Different sizes, or values of masks, that are counted."""


@dataclass
class SplitTally:
    """Sums over a split.

    Args:
        pixels: Class index, or 255 for ignored -> pixels.
        images: Class index -> masks in which it occurs.
        thin: Class index -> masks in which it is nowhere 4 pixels wide.
        masks: Masks whose pixels are known.
        pairs: Pairs of the split.
        constant: Masks of one class -> the class.
    """

    pixels: Counter[int] = field(default_factory=Counter)
    images: Counter[int] = field(default_factory=Counter)
    thin: Counter[int] = field(default_factory=Counter)
    masks: int = 0
    pairs: int = 0
    constant: Counter[int] = field(default_factory=Counter)


@dataclass
class Tally:
    """Sums over all pairs.

    Args:
        splits: Name of a split -> its sums.
        sizes: (height, width) of images -> how many.
        values: (colored, value or color) -> pixels.
        image_digests: Digest of the image of each pair; "" where it is not known.
        thumbnails: Thumbnails of the images, in the order of the pairs; zeros where there is none.
        mask_digests: Digest of the mask of each pair; "" where it is not known, or of a single value.
        palette: Value -> color of palettes, as first seen.
        colored: Masks of colors.
        numbers: Masks of numbers.
        drawn: Pairs whose image has few colors, as a mask has.
        other_values: Masks of numbers that hold others than 0 and 255.
        unknown: Value that stands for nothing -> pixels.
        highest: Greatest sample of images of more than 8 bits.
    """

    splits: dict[str, SplitTally] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    values: Counter[tuple[bool, int]] = field(default_factory=Counter)
    image_digests: list[str] = field(default_factory=list)
    thumbnails: list[bytes] = field(default_factory=list)
    mask_digests: list[str] = field(default_factory=list)
    palette: dict[int, int] = field(default_factory=dict)
    colored: int = 0
    numbers: int = 0
    drawn: int = 0
    other_values: int = 0
    unknown: Counter[int] = field(default_factory=Counter)
    highest: int = 0

    def split(self, name: str) -> SplitTally:
        """Sums of a split."""
        return self.splits.setdefault(name, SplitTally())

    def thumbnail_array(self) -> NDArray[np.uint8]:
        """All thumbnails: [N, 256]."""
        return np.frombuffer(b"".join(self.thumbnails), dtype=np.uint8).reshape(-1, 256)


def bounded(
    counter: Counter[tuple[int, int]] | Counter[tuple[bool, int]] | Counter[int], key: object, count: int
) -> None:
    """Count something, unless there are too many different things already."""
    if key in counter or len(counter) < MOST:
        counter[key] += count  # type: ignore[index]
