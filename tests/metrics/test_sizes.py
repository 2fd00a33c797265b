"""IoU by object size against a flood fill, and the identity with the usual counts."""

import numpy as np
import pytest
from test_boundary import K, maps

from semask.metrics.sizes import size_counts, size_iou

LIMITS = (3, 12)


def slow_areas(classes: np.ndarray, valid: np.ndarray) -> dict[tuple[int, int], int]:
    """Area of the object that each pixel lies in."""
    H, W = classes.shape
    areas: dict[tuple[int, int], int] = {}
    for start in zip(*np.nonzero(valid), strict=True):
        if start in areas:
            continue
        found, left = {start}, [start]
        while left:
            y, x = left.pop()
            for v in range(max(y - 1, 0), min(y + 2, H)):
                for u in range(max(x - 1, 0), min(x + 2, W)):
                    if (v, u) not in found and valid[v, u] and classes[v, u] == classes[start]:
                        found.add((v, u))
                        left.append((v, u))
        areas |= dict.fromkeys(found, len(found))
    return areas


@pytest.mark.parametrize("seed", range(5))
def test_against_loops(seed):
    prediction, label = maps(seed)
    counts = size_counts(prediction, label, K, LIMITS)
    valid = label != 255
    labeled, predicted = slow_areas(label, valid), slow_areas(prediction, valid)
    expected = np.zeros((3, K, 3), np.int64)
    for at in labeled:
        a, b = label[at], prediction[at]
        size = sum(labeled[at] >= limit for limit in LIMITS)
        if a == b:
            expected[size, a, 0] += 1
        else:
            expected[size, a, 1] += 1
            expected[sum(predicted[at] >= limit for limit in LIMITS), b, 2] += 1
    assert (counts == expected).all()
    assert counts.dtype == np.int64
    assert (counts.sum(axis=(1, 2)) > 0).all()  # all sizes occur


@pytest.mark.parametrize("limits", [(), (5,), LIMITS, (1, 2, 4, 8)])
def test_the_sums_are_the_usual_counts(limits):
    prediction, label = maps(11)
    counts = size_counts(prediction, label, K, limits).sum(axis=0)
    for k in range(K):
        a, b = (label == k), (prediction == k) & (label != 255)
        assert counts[k].tolist() == [(a & b).sum(), (a & ~b).sum(), (b & ~a).sum()]


def test_limits_diagonals_and_single_pixels():
    label = np.zeros((6, 6), np.uint8)
    label[0, 0] = label[1, 1] = 1  # one object of 2 pixels: corners touch
    label[5, 5] = 2
    label[3, :] = 255  # cuts class 0 in two: 16 pixels and 11
    counts = size_counts(label.copy(), label, 3, (2, 12))
    assert counts[..., 0].tolist() == [[0, 0, 1], [11, 2, 0], [16, 0, 0]]
    assert not counts[..., 1:].any()
    iou = size_iou(counts)
    assert iou[1].tolist()[:2] == [1, 1]
    assert np.isnan(iou[0][:2]).all()


def test_a_size_without_labels_has_no_iou():
    counts = np.array([[[0, 0, 9], [3, 0, 9]]])
    assert np.isnan(size_iou(counts)[0, 0])
    assert size_iou(counts)[0, 1] == 0.25
