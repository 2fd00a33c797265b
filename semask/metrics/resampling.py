"""Images drawn again, with replacement: what scores would have been on other images of the same kind (bootstrap).

B. Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7 (1979). A score here is a sum of
ratios, IoU = hit / union with both summed over the images, so a resample is a product of matrices: how often each
image was drawn [R, N] times its areas [N, K]. The standard error of each resample comes from the same product, by
linearization: leaving the sums a little changes hit / union by (hit - IoU x union) / sum of the unions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RESAMPLES = 2000
FEWEST = 10
"""Units (images, or groups of them) below which an interval or a test says too little to be given."""
_MOST_DRAWN = 2**20
"""Numbers in one of the arrays [r, N] that are in memory at a time."""

_ROUNDING = 1e-12
"""Below it a difference of scores is one of the last digits."""


@dataclass(frozen=True)
class Resampled:
    """Scores with their standard errors, and the same on R resamples: of K classes, and last their mean.

    Attributes:
        value: Scores, [K + 1]; NaN for a class that does not occur, which is left out of the mean.
        error: Their standard errors, [K + 1].
        values: Scores of the resamples, [R, K + 1].
        errors: Their standard errors, [R, K + 1]; NaN for the classes if only the mean was asked for.
    """

    value: Floats
    error: Floats
    values: Floats
    errors: Floats


def unions(areas: NDArray[Any]) -> Floats:
    """Hit and union, [2, ..., K], of areas [..., K, 3]: hit, labeled, predicted pixels."""
    hit, labeled, predicted = np.moveaxis(areas, -1, 0).astype(np.float64)
    return np.stack([hit, labeled + predicted - hit])


def in_groups(areas: NDArray[Any], groups: NDArray[np.int64] | None) -> NDArray[Any]:
    """Sum areas [N, ...] over the images of each group (a number from 0 to G - 1 each): [G, ...]."""
    if groups is None:
        return areas
    summed = np.zeros((int(groups.max()) + 1, *areas.shape[1:]), areas.dtype)
    np.add.at(summed, groups, areas)
    return summed


def drawn(count: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each of `count` units is drawn in each resample, [r, count] a time; the parts change no number."""
    random = np.random.default_rng(seed)
    for r in parts(resamples, count):
        which = random.integers(0, count, (r, count)) + np.arange(r)[:, None] * count
        yield np.bincount(which.ravel(), minlength=r * count).reshape(r, count).astype(np.float64)


def parts(rows: int, columns: int) -> list[int]:
    """Cut an array of random numbers into parts of rows that fit into memory: their numbers of rows."""
    most = max(_MOST_DRAWN // columns, 1)
    return [min(most, rows - begin) for begin in range(0, rows, most)]


def resample(
    hit: Floats,
    union: Floats,
    signs: Floats,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    classes: bool = True,
) -> Resampled:
    """Draw units again, and see what becomes of a sum of scores.

    Costs R x N x K multiplications for each of S, and memory for a few arrays of 2^20 numbers and of R x K.

    Args:
        hit: Right pixels of each of S models in N units and K classes, [S, N, K].
        union: Pixels that are labeled or predicted, [S, N, K].
        signs: Weight of each model's score in the sum, [S]: 1 for one model, 1 and -1 for a difference.
        resamples: Number R of resamples.
        seed: Of the random numbers.
        classes: Whether the standard errors of the classes are wanted, not only that of the mean.
    """
    where = [np.flatnonzero(union[:, :, k].any(axis=0)) for k in range(hit.shape[2])]
    value, error = _scores(np.ones((1, hit.shape[1])), hit, union, signs, where)
    found = [
        _scores(weights, hit, union, signs, where if classes else None)
        for weights in drawn(hit.shape[1], resamples, seed)
    ]
    values, errors = (np.concatenate(x) for x in zip(*found, strict=True))
    values = np.where(np.abs(values - value) < _ROUNDING, value, values)
    return Resampled(value[0], error[0], values, errors)


def _scores(
    weights: Floats, hit: Floats, union: Floats, signs: Floats, where: list[NDArray[np.int64]] | None
) -> tuple[Floats, Floats]:
    """Scores of the classes and their mean [r, K + 1] and standard errors, for units drawn `weights` [r, N] times.

    `where` has the units in which each class occurs; without it the standard errors of the classes are left out.
    """
    unbiased = weights.shape[1] / max(weights.shape[1] - 1, 1)
    hits, all_ = weights @ hit, weights @ union  # [S, r, K]
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = hits / all_  # NaN: the class does not occur
        scale = signs[:, None, None] / all_
    occurs = all_ > 0
    count = occurs.sum(axis=2).astype(np.float64)  # [S, r]
    count[count == 0] = np.nan  # no class, no mean
    value = np.einsum("s,srk->rk", signs, iou)
    mean = signs @ (np.where(occurs, iou, 0).sum(axis=2) / count)
    a = np.where(occurs, scale, 0)
    b = np.where(occurs, iou * scale, 0)
    change = np.zeros_like(weights)
    for s in range(len(signs)):
        change += ((a[s] @ hit[s].T) - (b[s] @ union[s].T)) / count[s][:, None]
    mean_error = np.sqrt(np.einsum("rn,rn,rn->r", weights, change, change) * unbiased)
    error = np.full_like(value, np.nan)  # [r, K]
    for k, units in enumerate(where or ()):
        change = a[:, :, k].T @ hit[:, units, k] - b[:, :, k].T @ union[:, units, k]
        error[:, k] = np.sqrt(np.einsum("rn,rn,rn->r", weights[:, units], change, change) * unbiased)
    value, error = np.column_stack([value, mean]), np.column_stack([error, mean_error])
    return value, np.where(np.isnan(value), np.nan, np.where(error < _ROUNDING, 0, error))


def quantile(sizes: Floats, share: float) -> Floats:
    """Quantile over the first axis of sizes [R, ...], without NaN; NaN where nothing is left."""
    ordered = np.sort(sizes, axis=0)  # NaN is last
    count = np.count_nonzero(~np.isnan(sizes), axis=0)
    place = np.clip(np.ceil(share * (count + 1)).astype(np.int64), 1, np.maximum(count, 1)) - 1
    found: Floats = np.take_along_axis(ordered, place[None], axis=0)[0]
    return found
