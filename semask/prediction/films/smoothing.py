"""Between a frame and the one before: class probabilities smoothed over time, and how much classes flicker."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STILL = 8
"""A pixel stands still if no color differs by more than this, of 255, from the frame before: noise of compression."""


def change(image: NDArray[np.uint8], before: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Largest difference of a color of each pixel of two frames [H, W, 3]: [H, W]."""
    differences: NDArray[np.uint8] = (np.maximum(image, before) - np.minimum(image, before)).max(axis=-1)
    return differences


class Past:
    """Class probabilities of the frames so far: P(t) = (1 - s) p(t) + s P(t-1), where the image changed little.

    Args:
        share: The share s of the past, from 0 to 1.
        limit: Where a color of a pixel changes by more, the past does not count: P(t) = p(t).
        arrays: A past that was kept.
    """

    def __init__(self, share: float, limit: int, arrays: dict[str, NDArray[Any]] | None = None) -> None:
        self.share, self.limit = share, limit
        self.p: NDArray[np.float32] | None = None
        self.image: NDArray[np.uint8] | None = None
        if arrays:
            self.p, self.image = arrays["p"], arrays["image"]

    def add(self, p: NDArray[np.float16], image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Take in the next frame.

        Args:
            p: Its class probabilities [K, H, W].
            image: Its pixels [H, W, 3].

        Returns:
            The most probable class of each pixel [H, W], and its probability.
        """
        if self.p is None or self.image is None:
            self.p = p.astype(np.float32, order="C")  # else it would not be kept as it is
        else:
            share = np.where(change(image, self.image) <= self.limit, np.float32(self.share), np.float32(0))
            for k in range(len(p)):  # a class at a time: all together would be several times the memory
                self.p[k] = share * self.p[k] + (1 - share) * p[k].astype(np.float32)
        self.image = image
        return self.p.argmax(axis=0).astype(np.uint8), self.p.max(axis=0)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What it is, to be kept."""
        assert self.p is not None
        assert self.image is not None
        return {"p": self.p, "image": self.image}


@dataclass
class Flicker:
    """How many pixels change their class from frame to frame where the image stands still.

    Attributes:
        still: Pixels that stand still (`STILL`), summed over all pairs of consecutive frames.
        changed: Those of them whose class is another one than in the frame before.
    """

    still: int = 0
    changed: int = 0
    _image: NDArray[np.uint8] | None = None
    _label: NDArray[np.uint8] | None = None

    def add(self, image: NDArray[np.uint8], label: NDArray[np.uint8]) -> None:
        """Count the next frame: image [H, W, 3], label map [H, W]."""
        if self._image is not None:
            still = change(image, self._image) <= STILL
            self.still += int(still.sum())
            self.changed += int((still & (label != self._label)).sum())
        self._image, self._label = image, label

    @property
    def share(self) -> float | None:
        """Share of the pixels that stand still whose class changes; None if none stands still."""
        return self.changed / self.still if self.still else None
