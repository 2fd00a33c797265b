"""Calibration (Guo et al. 2017, arXiv 1706.04599): whether a confidence of 80 % is right in 80 % of the pixels.

Without torch, so that exported files are calibrated in the same way.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures that are looked for."""
LEAST = float(np.finfo(np.float32).tiny)
"""What counts as the least probability, whose logarithm is finite."""
_STEPS = 24


def reliability(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Count pixels by their confidence, in 15 bins of equal width; bin b is (b / 15, (b + 1) / 15].

    Args:
        confidence: Confidence of pixels, [n] in [0, 1].
        right: Whether their class is right, [n].

    Returns:
        [15, 3] float64: pixels, right pixels, and the sum of the confidence, of each bin.
    """
    bins = np.clip(np.ceil(confidence.astype(np.float64) * BINS) - 1, 0, BINS - 1).astype(np.int64)
    weights = (None, right, confidence)
    return np.stack([np.bincount(bins, weights=x, minlength=BINS).astype(np.float64) for x in weights], axis=1)


def calibration_error(counts: NDArray[np.float64]) -> float:
    """Expected calibration error: mean difference between accuracy and confidence of the bins, weighed by pixels.

    Args:
        counts: Sums over images of what `reliability` gave, [15, 3].

    Returns:
        ECE in [0, 1]; NaN without pixels.
    """
    pixels, right, confidence = counts.T
    total = float(pixels.sum())
    return float(np.abs(right - confidence).sum() / total) if total else math.nan


def tempered(log_p: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Probabilities whose logarithms are those of others divided by a temperature, normalized.

    For the softmax of logits this is the softmax of the logits divided by the temperature.

    Args:
        log_p: Logarithms of probabilities, or of scores that do not sum up to 1, [K, ...].
        temperature: Above 1 for less confidence, below 1 for more.
    """
    x = log_p / np.float32(temperature)
    p: NDArray[np.float32] = np.exp(x - x.max(axis=0))
    p /= p.sum(axis=0)
    return p


class Fit(NamedTuple):
    """A temperature, and what it changes.

    Attributes:
        temperature: The one with the least negative log-likelihood.
        ece: Expected calibration error before and after; after of images that the temperature was not fitted to.
        nll: Negative log-likelihood of a pixel, in the same way.
    """

    temperature: float
    ece: tuple[float, float]
    nll: tuple[float, float]


def fit_temperature(log_p: NDArray[np.float32], label: NDArray[np.integer[Any]]) -> float:
    """Find the temperature with the least negative log-likelihood.

    Its derivative by 1 / temperature rises from end to end, so halving the range finds where it is 0.

    Args:
        log_p: Logarithms of the probabilities of pixels, [K, n].
        label: Class index of the pixels, [n].

    Returns:
        Temperature, from 0.05 to 20.

    Raises:
        ValueError: If there are no pixels.
    """
    if not len(label):
        raise ValueError("no labeled pixel to fit a temperature to: evaluate on labeled images")
    truth = float(log_p[label, np.arange(len(label))].mean(dtype=np.float64))
    low, high = math.log(1 / HOTTEST), math.log(1 / COLDEST)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        expected = float((tempered(log_p, math.exp(-middle)) * log_p).sum(axis=0).mean(dtype=np.float64))
        low, high = (low, middle) if expected > truth else (middle, high)
    return math.exp(-(low + high) / 2)


def fit(log_p: NDArray[np.float32], label: NDArray[np.integer[Any]], image: NDArray[np.integer]) -> Fit:
    """Fit a temperature to pixels of images, and measure what it changes.

    What comes after is measured on every other image with the temperature of the rest, and the other way round, since
    a temperature looks better on the pixels that it was fitted to. With a single image that is not possible.

    Args:
        log_p: Logarithms of the probabilities of pixels, or of scores that do not sum up to 1, [K, n].
        label: Class index of the pixels, [n].
        image: Number of the image of the pixels, [n].

    Raises:
        ValueError: If there are no pixels.
    """
    temperature = fit_temperature(log_p, label)
    _, order = np.unique(image, return_inverse=True)
    even = order % 2 == 0
    halves = [even, ~even] if not even.all() else []
    after = np.empty_like(log_p)
    for half in halves:
        after[:, half] = tempered(log_p[:, half], fit_temperature(log_p[:, ~half], label[~half]))
    if not halves:
        after = tempered(log_p, temperature)
    before = np.exp(log_p)
    measured = [(error_of(p, label), likelihood_of(p, label)) for p in (before, after)]
    (ece_before, nll_before), (ece_after, nll_after) = measured
    return Fit(temperature, (ece_before, ece_after), (nll_before, nll_after))


def error_of(p: NDArray[np.float32], label: NDArray[np.integer[Any]]) -> float:
    """Expected calibration error of the most probable class of pixels [K, n]."""
    return calibration_error(reliability(p.max(axis=0).clip(0, 1), p.argmax(axis=0) == label))


def likelihood_of(p: NDArray[np.float32], label: NDArray[np.integer[Any]]) -> float:
    """Mean negative logarithm of the probability of the label of pixels [K, n]; scores are normalized before."""
    truth = (p / p.sum(axis=0))[label, np.arange(len(label))]
    return float(-np.log(np.maximum(truth, LEAST)).mean(dtype=np.float64))
