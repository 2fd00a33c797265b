"""Two models on the same images: differences of their scores, how sure they are, and what could have been seen.

The images are paired: each resample draws the same images for both sides, so that what is hard for both cancels out.
The interval of a difference adds two independent errors, both drawn R times: that of the images (bootstrap-t, see
`semask.metrics.intervals`), and, if a side has several seeds, that of the seeds, as in Student's test of two samples: t
with S_base + S_other - 2 degrees of freedom times the standard deviation between seeds, which is taken to be the same
on both sides. (Drawing 2 to 5 seeds again would make their error too small, by the factor sqrt((S - 1) / S) and more
in the tails.) What differs from seed to seed in each image is in both errors, so it is taken out of that of the
images. The test swaps the counts of the sides in random images: if the sides are
alike, a swap changes nothing but chance. Sources: E. Noreen, Computer-intensive methods for testing hypotheses (1989);
B. Phipson and G. Smyth, Permutation p-values should never be zero (2010); S. Holm, A simple sequentially rejective
multiple test procedure (1979).
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semask.metrics.intervals import LEVEL, Interval, too_few
from semask.metrics.resampling import RESAMPLES, Floats, in_groups, parts, quantile, resample, unions

SWAPS = 10_000
POWER_80 = 0.8416
"""Quantile of the normal distribution at 80 %."""
_MOST_ARRANGEMENTS = 20_000
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Difference:
    """A score of two sides, other - base; shares from 0 to 1.

    Attributes:
        base: Score of the first side, the mean over its seeds; None for a class that does not occur.
        other: The same of the other side.
        difference: other - base.
        interval: 95 % interval of the difference.
        p: Of the permutation test over images: how often swapped sides differ at least as much; None where there are
            too few images.
        p_both: The same for images and seeds together, if a side has several seeds: how often the errors that make the
            interval are at least as large as the difference; None with one seed each.
        p_holm: p_both, or p with one seed each, corrected by Holm for all classes that were tested; None for anything
            but a class.
        error_images: Standard error because of the images.
        error_seeds: Standard error because of the seeds, with what they change in single images; None with one seed
            each.
        smallest: Smallest difference that would have been found with a probability of 80 %: half the width of the
            interval + 0.84 standard errors. With one seed and many images that is (1.96 + 0.84) standard errors.
    """

    base: float | None
    other: float | None
    difference: float | None
    interval: Interval
    p: float | None = None
    p_both: float | None = None
    p_holm: float | None = None
    error_images: float | None = None
    error_seeds: float | None = None
    smallest: float | None = None


@dataclass(frozen=True)
class Paired:
    """Differences between two sides.

    Attributes:
        miou: Of the mean IoU.
        iou: Of the IoU of each class, [K].
        units: Number of units: images, or groups of images.
        seed_deviation: Standard deviation of the mean IoU between the seeds of each side; None for one seed.
        p_seeds: Of the permutation test over seeds, for mIoU: how often sides differ at least as much if the seeds are
            dealt to them in another way; None unless both have several.
        least_p_seeds: The smallest p that so few seeds can give.
    """

    miou: Difference
    iou: tuple[Difference, ...]
    units: int
    seed_deviation: tuple[float | None, float | None]
    p_seeds: float | None
    least_p_seeds: float | None


def paired(
    base: NDArray[Any],
    other: NDArray[Any],
    groups: NDArray[np.int64] | None = None,
    *,
    resamples: int = RESAMPLES,
    swaps: int = SWAPS,
    seed: int = 0,
    classes: bool = True,
) -> Paired:
    """Compare two sides on the same images.

    Args:
        base: Hit, labeled and predicted pixels of each seed of the first side, image and class, [S, N, K, 3].
        other: The same of the other side; its number of seeds may be another one.
        groups: Number of the group that each image belongs to, [N]; groups are drawn and swapped as a whole.
        resamples: Number of resamples.
        swaps: Number of random swaps.
        seed: Of the random numbers: the same seed gives the same result.
        classes: Whether the classes are wanted; without them `iou` is empty.
    """
    together = np.stack([in_groups(areas, groups) for areas in (*base, *other)])  # [S, units, K, 3]
    split, units = len(base), together.shape[1]
    hit, union = unions(together)
    signs = np.concatenate([np.full(split, -1 / split), np.full(len(other), 1 / len(other))])
    found = resample(hit, union, signs, resamples=resamples, seed=seed, classes=classes)
    of_seeds = _scores(hit.sum(axis=1), union.sum(axis=1))  # [S, K + 1]
    sides = of_seeds[:split], of_seeds[split:]
    between = _between_seeds(hit, union, split)
    error_images = np.sqrt(np.maximum(found.error**2 - between.in_images, 0))
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0: the sides are alike in all that was drawn
        drawn = (found.values - found.value) / found.errors * error_images  # [R, K + 1]
    if between.error is not None:
        drawn += np.random.default_rng([seed, 1]).standard_t(between.degrees, resamples)[:, None] * between.error
    p = _permuted([x.mean(axis=0) for x in (hit[:split], hit[split:], union[:split], union[split:])], swaps, seed)
    what = "images" if groups is None else "groups of images"
    labeled = [too_few(int(count), what, "its label") for count in (together[0, ..., 1] > 0).sum(axis=0)]
    few = [*(too_few(units, what) or x for x in labeled), too_few(units, what)]
    made = [
        _difference(
            float(sides[0][:, k].mean()), float(sides[1][:, k].mean()), drawn[:, k], float(error_images[k]),
            None if between.error is None else float(between.error[k]), float(p[k]), few[k],
        )
        for k in range(0 if classes else len(few) - 1, len(few))
    ]  # fmt: skip
    p_seeds, least = _seeds_permuted(sides[0][:, -1], sides[1][:, -1], seed)
    deviations = [float(x[:, -1].std(ddof=1)) if len(x) > 1 else None for x in sides]
    return Paired(made[-1], _corrected(made[:-1]), units, (deviations[0], deviations[1]), p_seeds, least)


def _scores(hits: Floats, all_: Floats) -> Floats:
    """IoU of each class and their mean, [..., K + 1]; NaN for a class that does not occur."""
    occurs = all_ > 0
    iou = np.divide(hits, all_, out=np.full_like(hits, np.nan), where=occurs)
    count = occurs.sum(axis=-1).astype(np.float64)
    mean = np.where(occurs, iou, 0).sum(axis=-1) / np.where(count > 0, count, np.nan)
    return np.concatenate([iou, mean[..., None]], axis=-1)


class _BetweenSeeds(NamedTuple):
    """What is due to the seeds, [K + 1] each.

    Attributes:
        error: Standard error of the difference because of the seeds; None with one seed each.
        degrees: Degrees of freedom of it.
        in_images: Squared standard error of what the seeds change in single images, which is a part of both errors.
    """

    error: Floats | None
    degrees: int
    in_images: Floats | float


def _between_seeds(hit: Floats, union: Floats, split: int) -> _BetweenSeeds:
    """Standard deviation between seeds, of those of both sides: hit and union [S, units, K], `split` of the base."""
    seeds, units = hit.shape[:2]
    sides = slice(split), slice(split, None)
    degrees, share = seeds - 2, 1 / split + 1 / (seeds - split)
    if degrees == 0:
        return _BetweenSeeds(None, 0, 0.0)
    scores = _scores(hit.sum(axis=1), union.sum(axis=1))  # [S, K + 1]
    squares = sum(((scores[own] - scores[own].mean(axis=0)) ** 2).sum(axis=0) for own in sides)
    total = np.maximum(union.sum(axis=1, keepdims=True), 1)
    change = (hit - hit.sum(axis=1, keepdims=True) / total * union) / total  # [S, units, K]
    occurs = union.any(axis=1, keepdims=True).sum(axis=2, keepdims=True)
    change = np.concatenate([change, change.sum(axis=2, keepdims=True) / np.maximum(occurs, 1)], axis=2)
    in_images = sum(((change[own] - change[own].mean(axis=0)) ** 2).sum(axis=(0, 1)) for own in sides)
    unbiased = units / max(units - 1, 1)
    return _BetweenSeeds(np.sqrt(squares / degrees * share), degrees, in_images / degrees * share * unbiased)


def _permuted(means: list[Floats], swaps: int, seed: int) -> Floats:
    """P-values of each class and the mean, [K + 1]: NaN for a class that a side lacks.

    Args:
        means: Hit of the base and of the other side, and union of both, each [units, K], means over the seeds.
        swaps: Number of random swaps.
        seed: Of the random numbers.
    """
    hit, hit_other, union, union_other = means
    seen = _scores(hit_other.sum(axis=0), union_other.sum(axis=0)) - _scores(hit.sum(axis=0), union.sum(axis=0))
    random = np.random.default_rng([seed, 2])
    extreme = np.zeros(len(seen))
    for r in parts(swaps, len(hit)):
        swapped = random.integers(0, 2, (r, len(hit))).astype(np.float64)
        hits, all_ = swapped @ (hit_other - hit), swapped @ (union_other - union)
        found = _scores(hit_other.sum(axis=0) - hits, union_other.sum(axis=0) - all_)
        found -= _scores(hit.sum(axis=0) + hits, union.sum(axis=0) + all_)
        extreme += (np.abs(found) >= np.abs(seen) - _ROUNDING).sum(axis=0)
    return np.where(np.isnan(seen), np.nan, (1 + extreme) / (swaps + 1))


def _seeds_permuted(base: Floats, other: Floats, seed: int) -> tuple[float | None, float | None]:
    """P-value of dealing the seeds [S] to the sides in another way, and the smallest that is possible."""
    if min(len(base), len(other)) < 2:
        return None, None
    scores = np.concatenate([base, other])
    ways = math.comb(len(scores), len(base))
    least = (2 if len(base) == len(other) else 1) / ways
    seen = abs(other.mean() - base.mean()) - _ROUNDING

    def dealt() -> Iterator[tuple[int, ...]]:
        if ways <= _MOST_ARRANGEMENTS:
            yield from itertools.combinations(range(len(scores)), len(base))
            return
        yield tuple(range(len(base)))
        random = np.random.default_rng([seed, 3])
        for _ in range(_MOST_ARRANGEMENTS - 1):
            yield tuple(random.permutation(len(scores))[: len(base)])

    sums = scores[np.array(list(dealt()))].sum(axis=1)
    apart = np.abs((scores.sum() - sums) / len(other) - sums / len(base))
    return float((apart >= seen).mean()), least


def _difference(
    base: float, other: float, drawn: Floats, error: float, error_seeds: float | None, p: float, few: str | None
) -> Difference:
    """A difference, of the errors [R] that were drawn and the p of the permutation test."""
    difference = other - base
    if math.isnan(difference):
        found = [None if math.isnan(x) else x for x in (base, other)]
        return Difference(found[0], found[1], None, Interval(None, None, "a side does not have the class"))
    none = Interval(None, None, few)
    made = Difference(base, other, difference, none, error_images=error, error_seeds=error_seeds)
    if few is not None:
        return made
    sizes = np.abs(drawn)
    half = float(quantile(sizes, LEVEL))
    if not math.isfinite(half):
        alike = "the sides are alike in all images, or in nearly all"
        return replace(made, interval=Interval(None, None, alike), p=p)
    extreme = np.count_nonzero(sizes >= abs(difference) - _ROUNDING)
    return replace(
        made,
        interval=Interval(difference - half, difference + half),
        p=p,
        p_both=None if error_seeds is None else (1 + extreme) / (1 + np.count_nonzero(~np.isnan(sizes))),
        smallest=half + POWER_80 * math.hypot(error, error_seeds or 0.0),
    )


def _corrected(classes: list[Difference]) -> tuple[Difference, ...]:
    """Differences of classes with p corrected for their number."""
    p = {k: x.p_both if x.p_both is not None else x.p for k, x in enumerate(classes)}
    tested = {k: value for k, value in p.items() if value is not None}
    of_all = dict(zip(tested, holm(list(tested.values())), strict=True))
    return tuple(replace(x, p_holm=of_all.get(k)) for k, x in enumerate(classes))


def holm(p: list[float]) -> list[float]:
    """Correct p-values for their number, so that with a chance of 95 % none of equal pairs is called different.

    >>> [round(x, 3) for x in holm([0.04, 0.01, 0.03])]
    [0.06, 0.03, 0.06]
    """
    corrected, least = [0.0] * len(p), 0.0
    for place, k in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        least = max(least, min((len(p) - place) * p[k], 1.0))
        corrected[k] = least
    return corrected
