"""Which classes are rare, and how samples are drawn so that they are seen more often.

Rare class sampling of DAFormer (Hoyer et al. 2022, arXiv 2111.14887, section 3.2): a class of the share f of the pixels
is drawn with a probability proportional to exp(-f / temperature), then any image that shows it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class RareClasses:
    """How often each class is drawn, and which images show it.

    Args:
        share: Share of each class in the labeled pixels, [K]; 0 for one that never occurs.
        shown: Whether each class is in each image, [K, N].
        temperature: Towards 0 only the rarest class is drawn; if it is large, all alike.
    """

    share: NDArray[np.float64]
    shown: NDArray[np.bool_]
    temperature: float

    @classmethod
    def of(cls, pixels: NDArray[np.integer], *, temperature: float) -> "RareClasses":
        """Find them in the number of pixels of each class in each image, [N, K].

        Raises:
            ValueError: If no pixel is labeled.
        """
        total = pixels.sum(0, dtype=np.int64)
        if not total.any():
            raise ValueError("every pixel of the training masks is ignored: no class can be drawn")
        return cls(total / total.sum(), np.ascontiguousarray((pixels > 0).T), temperature)

    def probabilities(self, among: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Probability of each class, [K], if only some may be drawn: those of `among`, [K]; 0 everywhere if none may.

        >>> rare = RareClasses.of(np.array([[90, 10, 0]]), temperature=0.5)
        >>> rare.probabilities().round(2).tolist()
        [0.17, 0.83, 0.0]
        """
        may = self.share > 0 if among is None else among & (self.share > 0)
        if not may.any():
            return np.zeros(len(self.share))
        beyond = np.where(may, self.share - self.share[may].min(), np.inf)
        weights = np.exp(-beyond / self.temperature)  # the rarest has 1, however small the temperature
        return np.asarray(weights / weights.sum())

    def draw_class(self, number: float, *, among: NDArray[np.bool_] | None = None) -> int | None:
        """Draw a class with a random number in [0, 1); None if none may be drawn."""
        probabilities = self.probabilities(among)
        able = np.flatnonzero(probabilities)
        if not len(able):
            return None
        index = int(np.searchsorted(np.cumsum(probabilities[able]), number, side="right"))
        return int(able[min(index, len(able) - 1)])  # rounding may lead past the last

    def draw_image(self, drawn: int, number: float) -> int:
        """Draw one of the images that show a class with a random number in [0, 1)."""
        images = np.flatnonzero(self.shown[drawn])
        return int(images[int(number * len(images))])


class Balance(NamedTuple):
    """What a loader does for rare classes.

    Args:
        rare: How often each class is drawn.
        images: Share of the samples that are drawn by class.
        copy_paste: Probability that objects of a drawn class are pasted into a sample.
    """

    rare: RareClasses
    images: float = 0.0
    copy_paste: float = 0.0
