"""Weights of the classes, computed from how many pixels of each there are."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Weighting = Literal["inverse", "median", "effective"]

LARGEST = 20.0
"""Greatest weight, in medians of the weights: one class of a few pixels would take all the weight of the others."""
DIGITS = 6
"""Significant digits: the numbers stand in recipes and are compared when a run goes on."""


def weights_from_counts(weighting: Weighting, pixels: NDArray[np.integer], *, beta: float = 0.9) -> tuple[float, ...]:
    """Compute a weight for each class.

    - inverse: 1 / pixels of the class.
    - median: 1 / frequency of the class, which is its pixels divided by the labeled pixels of the images that show it
      (Eigen & Fergus 2015, arXiv 1411.4734). A class in few images that fills them is not made heavy.
    - effective: 1 / effective number of samples, (1 - beta^n) / (1 - beta) (Cui et al. 2019, arXiv 1901.05555). The
      neighbors of a pixel tell nothing new, so n is not counted in pixels but in images that the class would fill.

    No weight is more than 20 times the median. Then all are scaled to a mean of 1 over the classes that occur; a class
    that never occurs has weight 1, which no pixel uses.

    Args:
        weighting: Which of them.
        pixels: Pixels of each class in each image, [N, K].
        beta: Of the effective number: 0 weighs all classes alike, towards 1 it becomes inverse.

    Raises:
        ValueError: If no pixel is labeled.

    >>> weights_from_counts("inverse", np.array([[30, 10, 0]]))
    (0.5, 1.5, 1.0)
    """
    counted = pixels.astype(np.float64)
    total, occurs = counted.sum(0), counted.any(0)  # [K], [K]
    if not occurs.any():
        raise ValueError(f"loss.class_weights is {weighting}, but every pixel of the training masks is ignored")
    labeled = counted.sum(1)  # [N]
    if weighting == "median":
        share = total[occurs] / ((counted > 0) * labeled[:, None]).sum(0)[occurs]
    elif weighting == "effective":
        n = total[occurs] / labeled[labeled > 0].mean()  # in images
        share = -np.expm1(n * np.log(beta)) if beta > 0 else np.ones_like(n)
    else:
        share = total[occurs] / total.sum()
    found = 1 / share
    found = np.minimum(found, LARGEST * np.median(found))
    weights = np.ones(len(total))
    weights[occurs] = found / found.mean()
    return tuple(float(f"{x:.{DIGITS}g}") for x in weights)
