"""Differences of two sides against slow computations, and what must hold for any numbers."""

import itertools
import math

import numpy as np
import pytest

from semask.metrics.comparison import POWER_80, holm, paired
from semask.metrics.resampling import drawn

CLASSES = 4


def made(images: int, *, seeds: int = 1, quality: float = 0.75, seed: int = 0, labels: int = 0) -> np.ndarray:
    """Areas [S, N, K, 3] of some seeds; `labels` decides on the labels, `seed` on the predictions."""
    random, of_labels = np.random.default_rng(seed), np.random.default_rng(labels)
    labeled = of_labels.integers(1, 1000, (images, CLASSES))
    labeled[of_labels.random(images) > 0.5, -1] = 0
    hard = of_labels.uniform(-0.2, 0.2, (images, 1))
    sides = []
    for _ in range(seeds):
        own = random.normal(scale=0.02) if seeds > 1 else 0
        share = np.clip(quality + own + hard + random.uniform(-0.05, 0.05, labeled.shape), 0, 1)
        hit = (labeled * share).astype(np.int64)
        sides.append(np.stack([hit, labeled, hit + random.integers(0, 50, labeled.shape) * (labeled > 0)], axis=-1))
    return np.stack(sides)


def iou_of(areas: np.ndarray, weights: list[float]) -> list[float]:
    """IoU of each class and their mean, for areas [N, K, 3]."""
    found = []
    for k in range(areas.shape[1]):
        hit = sum(w * int(x[0]) for w, x in zip(weights, areas[:, k], strict=True))
        union = sum(w * int(x[1] + x[2] - x[0]) for w, x in zip(weights, areas[:, k], strict=True))
        found.append(hit / union if union else math.nan)
    known = [x for x in found if not math.isnan(x)]
    return [*found, sum(known) / len(known)]


def changes_of(areas: np.ndarray, weights: list[float]) -> list[list[float]]:
    """What each image changes in these, [K + 1] lists of N."""
    iou, N = iou_of(areas, weights), len(areas)
    rows = []
    for k in range(areas.shape[1]):
        union = [float(x[1] + x[2] - x[0]) for x in areas[:, k]]
        total = sum(w * u for w, u in zip(weights, union, strict=True))
        rows.append([(float(areas[n, k, 0]) - iou[k] * union[n]) / total if total else 0.0 for n in range(N)])
    known = [k for k in range(areas.shape[1]) if not math.isnan(iou[k])]
    return [*rows, [sum(rows[k][n] for k in known) / len(known) for n in range(N)]]


def difference_and_error(base: np.ndarray, other: np.ndarray, weights: list[float], k: int) -> tuple[float, float]:
    """Difference of means over seeds, and its standard error because of the images."""
    values = [[iou_of(x, weights)[k] for x in side] for side in (base, other)]
    changes = [[changes_of(x, weights)[k] for x in side] for side in (base, other)]
    N, squares = base.shape[1], 0.0
    for n in range(N):
        apart = sum(c[n] for c in changes[1]) / len(other) - sum(c[n] for c in changes[0]) / len(base)
        squares += weights[n] * apart**2
    return sum(values[1]) / len(other) - sum(values[0]) / len(base), math.sqrt(squares * N / (N - 1))


@pytest.mark.parametrize("k", range(CLASSES + 1))
def test_intervals_are_those_of_a_slow_computation(k):
    base, other = made(25, seed=1), made(25, seed=2, quality=0.8)
    found = paired(base, other, resamples=60, swaps=10)
    one = (*found.iou, found.miou)[k]
    value, error = difference_and_error(base, other, [1.0] * 25, k)
    t = []
    for weights in np.concatenate(list(drawn(25, 60, 0))):
        again, own = difference_and_error(base, other, list(weights), k)
        t.append(abs(again - value) / own)
    half = sorted(t)[math.ceil(0.95 * 61) - 1] * error
    assert one.difference == pytest.approx(value)
    assert (one.interval.low, one.interval.high) == pytest.approx((value - half, value + half))
    assert one.error_images == pytest.approx(error)
    assert one.smallest == pytest.approx(half + POWER_80 * error)
    assert (one.error_seeds, one.p_both) == (None, None)


def test_p_is_that_of_all_swaps():
    """With 12 images all 4,096 swaps can be made."""
    base, other = made(12, seed=1, quality=0.75), made(12, seed=2, quality=0.76)
    found = paired(base, other, swaps=20_000, resamples=10)
    for k, one in enumerate((*found.iou, found.miou)):
        if one.p is None:
            continue
        seen = abs(iou_of(other[0], [1.0] * 12)[k] - iou_of(base[0], [1.0] * 12)[k])
        extreme = 0
        for swap in itertools.product((False, True), repeat=12):
            where = np.array(swap)[:, None, None]
            a, b = np.where(where, other[0], base[0]), np.where(where, base[0], other[0])
            hit, labeled, predicted = np.moveaxis(np.stack([a.sum(0), b.sum(0)]), -1, 0).astype(float)
            iou = hit / (labeled + predicted - hit)
            apart = iou[1] - iou[0]
            extreme += abs((*apart, apart.mean())[k]) >= seen - 1e-12
        assert one.p == pytest.approx(extreme / 4096, abs=0.015)


def test_sides_that_are_alike():
    areas = made(30)
    for other in (areas, areas.copy()):
        found = paired(areas, other, resamples=50, swaps=50)
        for one in (*found.iou, found.miou):
            assert (one.difference, one.p, one.error_images) == (0, 1, 0)
            assert one.interval.reason == "the sides are alike in all images, or in nearly all"


def test_several_seeds_that_are_alike():
    areas = made(30, seeds=3)
    found = paired(areas, areas, resamples=50, swaps=50)
    assert (found.miou.difference, found.miou.p, found.p_seeds) == (0, 1, 1)


def test_the_sides_exchanged():
    base, other = made(40, seed=1), made(40, seed=2, quality=0.8)
    one, back = paired(base, other, resamples=200, swaps=200), paired(other, base, resamples=200, swaps=200)
    for a, b in zip((*one.iou, one.miou), (*back.iou, back.miou), strict=True):
        assert a.difference == pytest.approx(-b.difference)
        assert (a.interval.low, a.interval.high) == pytest.approx((-b.interval.high, -b.interval.low))
        assert a.p == b.p


def test_the_order_of_images_changes_only_chance():
    base, other = made(100, seed=1), made(100, seed=2, quality=0.76)
    order = np.random.default_rng(0).permutation(100)
    one, back = paired(base, other).miou, paired(base[:, order], other[:, order]).miou
    assert one.difference == pytest.approx(back.difference)
    assert one.error_images == pytest.approx(back.error_images)
    assert one.interval.low == pytest.approx(back.interval.low, abs=0.2 * one.error_images)
    assert one.p == pytest.approx(back.p, abs=0.02)


def test_images_are_paired():
    """What is hard for both cancels out: the difference is known better than each score."""
    base, other = made(100, seed=1), made(100, seed=2, quality=0.8)
    together = paired(base, other, resamples=200, swaps=10).miou.error_images
    apart = paired(base, other[:, np.random.default_rng(0).permutation(100)], resamples=200, swaps=10).miou.error_images
    assert together < 0.5 * apart


def test_intervals_shrink_with_the_images():
    widths = []
    for images in (50, 800):
        sides = made(images, seed=1), made(images, seed=2, quality=0.8)
        found = paired(*sides, resamples=400, swaps=10).miou.interval
        widths.append(found.high - found.low)
    assert 3 < widths[0] / widths[1] < 5.5


def test_images_that_are_there_twice_are_one_group():
    base, other = made(40, seed=1), made(40, seed=2, quality=0.76)
    twice = [np.repeat(x, 2, axis=1) for x in (base, other)]
    one, grouped = paired(base, other), paired(*twice, np.repeat(np.arange(40), 2))
    assert grouped.units == 40
    assert (grouped.miou.interval, grouped.miou.p) == (one.miou.interval, one.miou.p)
    alone = paired(*twice).miou
    assert alone.error_images < 0.8 * one.miou.error_images


def test_several_seeds():
    base, other = made(60, seeds=3, seed=1), made(60, seeds=4, seed=2, quality=0.8)
    found = paired(base, other)
    scores = [[iou_of(x, [1.0] * 60)[-1] for x in side] for side in (base, other)]
    assert found.miou.base == pytest.approx(np.mean(scores[0]))
    assert found.seed_deviation == pytest.approx([np.std(x, ddof=1) for x in scores])
    pooled = math.sqrt((2 * found.seed_deviation[0] ** 2 + 3 * found.seed_deviation[1] ** 2) / 5)
    assert found.miou.error_seeds == pytest.approx(pooled * math.sqrt(1 / 3 + 1 / 4))
    assert found.miou.interval.high - found.miou.interval.low > 2 * 2.5 * found.miou.error_seeds
    assert found.least_p_seeds == pytest.approx(1 / 35)
    apart = []
    for chosen in itertools.combinations(range(7), 3):
        everything = [*scores[0], *scores[1]]
        a = [everything[i] for i in chosen]
        b = [x for i, x in enumerate(everything) if i not in chosen]
        apart.append(abs(np.mean(b) - np.mean(a)))
    seen = abs(np.mean(scores[1]) - np.mean(scores[0]))
    assert found.p_seeds == pytest.approx(np.mean([x >= seen - 1e-12 for x in apart]))


def test_what_seeds_change_in_images_is_counted_once():
    base, other = made(60, seeds=3, seed=1), made(60, seeds=2, seed=2)
    found = paired(base, other, resamples=50, swaps=10)
    for k, one in enumerate((*found.iou, found.miou)):
        squares = 0.0
        for side in (base, other):
            rows = np.array([changes_of(x, [1.0] * 60)[k] for x in side])
            squares += ((rows - rows.mean(axis=0)) ** 2).sum()
        twice = squares / 3 * (1 / 3 + 1 / 2) * 60 / 59
        alone = difference_and_error(base, other, [1.0] * 60, k)[1]
        assert one.error_images == pytest.approx(math.sqrt(max(alone**2 - twice, 0)), abs=1e-9)


def test_many_seeds_are_dealt_at_random():
    found = paired(made(12, seeds=12, seed=1), made(12, seeds=12, seed=2), resamples=10, swaps=10, classes=False)
    assert 0 < found.p_seeds <= 1
    assert found.least_p_seeds < 1e-6


def test_one_seed_against_several():
    found = paired(made(40, seed=1), made(40, seeds=3, seed=2), resamples=100, swaps=10)
    assert found.seed_deviation[0] is None
    assert found.miou.error_seeds == pytest.approx(found.seed_deviation[1] * math.sqrt(1 + 1 / 3))
    assert found.p_seeds is None


def test_p_and_the_interval_agree_on_what_is_different():
    for number in range(8):
        sides = made(40, seeds=3, seed=number), made(40, seeds=3, seed=100 + number, quality=0.78)
        one = paired(*sides, resamples=500, swaps=10, classes=False).miou
        assert (one.p_both < 0.048) <= (one.interval.low > 0 or one.interval.high < 0) <= (one.p_both < 0.054)


def test_too_few_images():
    found = paired(made(9, seed=1), made(9, seed=2))
    for one in (*found.iou, found.miou):
        assert (one.p, one.p_holm, one.interval.low) == (None, None, None)
        assert "with fewer than 10" in one.interval.reason
        assert one.difference is not None


def test_a_class_that_is_not_there():
    base, other = made(30, seed=1), made(30, seed=2)
    base[:, :, 1], other[:, :, 1] = 0, 0
    other[:, :5, 1, 2] = 7  # predicted, never labeled
    found = paired(base, other, resamples=20, swaps=20)
    assert (found.iou[1].base, found.iou[1].other, found.iou[1].p, found.iou[1].p_holm) == (None, 0, None, None)
    assert found.iou[0].p_holm is not None


def test_only_the_mean():
    sides = made(30, seed=1), made(30, seed=2)
    assert paired(*sides, classes=False, resamples=50, swaps=50).iou == ()
    assert paired(*sides, classes=False, resamples=50, swaps=50).miou == paired(*sides, resamples=50, swaps=50).miou


def test_holm():
    p = [0.01, 0.04, 0.03, 0.005]
    # the smallest times 4, the next times 3, ... and none smaller than the one before
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []
    found = paired(made(60, seed=1), made(60, seed=2, quality=0.77), resamples=20, swaps=200)
    assert [x.p_holm for x in found.iou] == pytest.approx(holm([x.p for x in found.iou]))
