"""Images that show nearly the same: frames of one street, copies of another size or compression."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.images import Picture, read_small

SIDE = 16
"""Side of the thumbnail that images are compared by."""
DIFFERENCE = 4.0
"""Mean difference of two thumbnails, in gray values of 0..255, up to which images count as nearly the same."""
FLAT = 4.0
"""Standard deviation of a thumbnail below which it says too little to be compared."""
MOST = 5000
"""Images of which each is compared with all others; of more, each with the next ones in their order."""
NEXT = 100
"""The number of these next ones."""


def thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """A picture of 16 x 16 gray values that tells images apart: [256]."""
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8).reshape(-1)


def read_thumbnail(path: Picture) -> NDArray[np.uint8]:
    """The thumbnail of an image; a JPEG is decoded at a fraction of its size.

    Raises:
        ValueError: If it can't be read.
    """
    return thumbnail(read_small(path, side=4 * SIDE))


def near_duplicates(thumbnails: NDArray[np.uint8]) -> list[tuple[int, int, float]]:
    """Find the pairs of images that show nearly the same; of more than 5000 only those up to 100 places apart.

    Args:
        thumbnails: One a row, in the order of the names, [N, 256].

    Returns:
        (i, j, mean difference), i < j.
    """
    values = thumbnails.astype(np.int16)
    telling = np.flatnonzero(values.std(1) >= FLAT)
    means = values.mean(1)
    pairs: list[tuple[int, int, float]] = []
    for place, i in enumerate(telling):
        others = telling[place + 1 :][: None if len(values) <= MOST else NEXT]
        # The mean difference is at least the difference of the means, which is known already.
        others = others[np.abs(means[others] - means[i]) <= DIFFERENCE]
        difference = np.abs(values[others] - values[i]).mean(1)
        near = difference <= DIFFERENCE
        pairs += [(int(i), int(j), float(d)) for j, d in zip(others[near], difference[near], strict=True)]
    return pairs


def grouped(count: int, pairs: Sequence[tuple[int, int, float]]) -> list[int]:
    """Number the groups that pairs of near duplicates make: one number a sample, the smallest index of its group."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j, _ in pairs:
        low, high = sorted((root(i), root(j)))
        parent[high] = low
    return [root(i) for i in range(count)]
