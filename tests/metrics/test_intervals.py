"""Intervals against a slow computation image by image, and what must hold for any numbers."""

import math
import tracemalloc

import numpy as np
import pytest

from semask.metrics.intervals import Interval, intervals
from semask.metrics.resampling import drawn, in_groups, parts, quantile, resample, unions


def made(images: int, classes: int = 4, *, seed: int = 0) -> np.ndarray:
    """Areas [N, K, 3]; the last class is in a quarter of the images."""
    random = np.random.default_rng(seed)
    labeled = random.integers(1, 1000, (images, classes))
    labeled[random.random(images) > 0.25, -1] = 0
    hit = (labeled * random.uniform(0.5, 1, labeled.shape)).astype(np.int64)
    return np.stack([hit, labeled, hit + random.integers(0, 200, labeled.shape) * (labeled > 0)], axis=-1)


def slow_score(areas: np.ndarray, weights: list[float]) -> tuple[list[float], list[float]]:
    """IoU of each class and their mean, with standard errors by summing over images."""
    N, K = areas.shape[:2]
    iou, changes = [], []
    for k in range(K):
        pairs = [(int(h), int(a + b - h)) for h, a, b in areas[:, k]]
        union = sum(w * u for w, (_, u) in zip(weights, pairs, strict=True))
        if union == 0:
            iou.append(math.nan)
            changes.append(None)
            continue
        iou.append(sum(w * h for w, (h, _) in zip(weights, pairs, strict=True)) / union)
        changes.append([(h - iou[-1] * u) / union for h, u in pairs])
    known = [k for k in range(K) if changes[k] is not None]
    changes.append([sum(changes[k][n] for k in known) / len(known) for n in range(N)])
    errors = [
        math.nan
        if change is None
        else math.sqrt(sum(w * x * x for w, x in zip(weights, change, strict=True)) * N / (N - 1))
        for change in changes
    ]
    return [*iou, sum(iou[k] for k in known) / len(known)], errors


def slow_interval(areas: np.ndarray, k: int, resamples: int) -> tuple[float, float]:
    value, error = (x[k] for x in slow_score(areas, [1.0] * len(areas)))
    t = []
    for weights in np.concatenate(list(drawn(len(areas), resamples, 0))):
        other, own = (x[k] for x in slow_score(areas, list(weights)))
        if not math.isnan(other):
            slope = own / (other * (1 - other))
            t.append(abs(math.log(other / (1 - other)) - math.log(value / (1 - value))) / slope)
    times = sorted(t)[math.ceil(0.95 * (len(t) + 1)) - 1]
    center, half = math.log(value / (1 - value)), times * error / (value * (1 - value))
    return 1 / (1 + math.exp(half - center)), 1 / (1 + math.exp(-half - center))


def test_they_are_those_of_a_slow_computation():
    areas = made(40)
    found = intervals(areas, resamples=60)
    for k, interval in enumerate((*found.iou, found.miou)):
        if interval.low is not None:
            assert (interval.low, interval.high) == pytest.approx(slow_interval(areas, k, 60), rel=1e-9)
    whole = np.concatenate([areas[..., :1], areas[..., 1:2], areas[..., :1]], axis=-1).sum(1, keepdims=True)
    accuracy = found.overall_accuracy
    assert (accuracy.low, accuracy.high) == pytest.approx(slow_interval(whole, 0, 60), rel=1e-9)


def test_scores_and_errors_of_resamples():
    areas = made(15, seed=3)
    hit, union = unions(areas)[:, None]
    found = resample(hit, union, np.ones(1), resamples=20, seed=5)
    weights = np.concatenate(list(drawn(15, 20, 5)))
    for row, values, errors in zip(weights, found.values, found.errors, strict=True):
        expected = slow_score(areas, list(row))
        np.testing.assert_allclose(values, expected[0], rtol=1e-12)
        np.testing.assert_allclose(errors, expected[1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.error, slow_score(areas, [1.0] * 15)[1], rtol=1e-9)


def test_resamples_are_whole_and_the_same_in_other_parts(monkeypatch):
    once = np.concatenate(list(drawn(30, 50, 7)))
    assert (once.sum(axis=1) == 30).all()
    monkeypatch.setattr("semask.metrics.resampling._MOST_DRAWN", 100)
    assert parts(50, 30) == [3] * 16 + [2]
    assert (np.concatenate(list(drawn(30, 50, 7))) == once).all()
    assert not (np.concatenate(list(drawn(30, 50, 8))) == once).all()


def test_the_same_seed_gives_the_same():
    areas = made(50)
    assert intervals(areas, resamples=100) == intervals(areas, resamples=100)
    assert intervals(areas, resamples=100) != intervals(areas, resamples=100, seed=1)


def test_the_order_of_images_changes_only_chance():
    areas = made(200)
    one, other = (intervals(x, resamples=2000).miou for x in (areas, areas[np.random.default_rng(0).permutation(200)]))
    width = one.high - one.low
    assert abs(one.low - other.low) < 0.1 * width
    assert abs(one.high - other.high) < 0.1 * width


def test_the_order_of_classes_changes_nothing():
    areas = made(50)
    one, other = intervals(areas, resamples=100), intervals(areas[:, ::-1], resamples=100)
    for a, b in zip(one.iou, reversed(other.iou), strict=True):
        assert (a.low, a.high) == pytest.approx((b.low, b.high))
    assert (one.miou.low, one.miou.high) == pytest.approx((other.miou.low, other.miou.high))


def test_they_shrink_with_the_square_root_of_the_images():
    widths = [x.high - x.low for x in (intervals(made(n, seed=n)).miou for n in (100, 1600))]
    assert 3 < widths[0] / widths[1] < 5


def test_images_that_are_there_twice_say_nothing_new_in_groups():
    areas = made(60)
    twice, numbers = np.repeat(areas, 2, axis=0), np.repeat(np.arange(60), 2)
    one, grouped = intervals(areas), intervals(twice, numbers)
    assert (grouped.miou.low, grouped.miou.high) == pytest.approx((one.miou.low, one.miou.high))
    assert grouped.units == 60
    alone = intervals(twice)
    assert alone.miou.high - alone.miou.low < 0.8 * (one.miou.high - one.miou.low)


def test_groups_are_summed():
    areas = made(7)
    numbers = np.array([2, 0, 1, 1, 0, 2, 2])
    for number, summed in enumerate(in_groups(areas, numbers)):
        assert (summed == sum(areas[i] for i in range(7) if numbers[i] == number)).all()


def test_too_few_images_or_groups_have_none():
    found = intervals(made(9))
    assert found.miou == Interval(None, None, "9 images: with fewer than 10 an interval says too little")
    assert found.iou == (found.miou,) * 4
    assert found.overall_accuracy == found.miou
    grouped = intervals(made(90), np.repeat(np.arange(9), 10))
    assert grouped.miou.reason.startswith("9 groups of images: ")
    assert intervals(made(10)).miou.reason is None


def test_a_class_of_few_images_has_none():
    areas = made(100)
    areas[9:, 0] = 0
    found = intervals(areas)
    assert found.iou[0].reason == "its label is in 9 images: with fewer than 10 an interval says too little"
    assert found.iou[1].reason is None
    assert found.miou.reason is None


@pytest.mark.parametrize("share", [0, 1])
def test_what_never_varies_has_none(share):
    areas = made(50)
    areas[:, 0, 0] = areas[:, 0, 1] * share
    areas[:, 0, 2] = areas[:, 0, 1]
    assert intervals(areas, resamples=100).iou[0].reason.startswith("nearly all images are alike")


def test_they_stay_between_0_and_1():
    for interval in (x for n in range(10) for x in intervals(made(12, seed=n), resamples=100).iou):
        assert interval.low is None or 0 < interval.low < interval.high < 1


def test_only_the_means_without_classes():
    areas = made(50)
    found = intervals(areas, resamples=100, classes=False)
    assert found.iou == ()
    assert found.miou == intervals(areas, resamples=100).miou


def test_a_class_that_never_occurs_does_not_count():
    areas = np.concatenate([made(50), np.zeros((50, 1, 3), np.int64)], axis=1)
    found = intervals(areas, resamples=100)
    assert found.miou == intervals(areas[:, :4], resamples=100).miou
    assert found.iou[4].reason.startswith("its label is in 0 images")


def test_the_memory_is_bounded(monkeypatch):
    monkeypatch.setattr("semask.metrics.resampling._MOST_DRAWN", 2**14)
    areas = made(1000, 6)
    tracemalloc.start()
    intervals(areas, resamples=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6  # how often each image is drawn in each resample would alone be 8 MB


def test_quantiles():
    numbers = np.array([[3.0, 1, math.nan], [1, math.nan, math.nan], [2, math.inf, math.nan]])
    found = quantile(numbers, 0.5)
    assert found[:2].tolist() == [2, math.inf]
    assert math.isnan(found[2])


def test_the_true_value_is_held():
    """95 % of 300 studies, within three standard errors; benchmarks/interval_coverage.py looks closer."""
    everything = made(20_000, seed=1)
    hit, union = unions(everything.sum(axis=0))
    truth = (hit / union).mean()
    found = [intervals(everything[60 * n : 60 * n + 60], resamples=400, classes=False).miou for n in range(300)]
    held = np.mean([x.low <= truth <= x.high for x in found])
    assert 0.91 < held < 0.985
