"""Boundary IoU against loops over pixels and their neighbors."""

import math

import numpy as np
import pytest

from semask.metrics.boundary import boundary_counts, boundary_iou, boundary_width, in_boundary

K = 4


def maps(seed: int, size: tuple[int, int] = (11, 13)) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of classes, of which class 3 never occurs, with single pixels of others and ignored ones in the label."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(2):
        blocks = np.kron(random.integers(0, K - 1, (4, 5)), np.ones((3, 3), np.int64))[: size[0], : size[1]]
        noise = random.random(size) < 0.1
        found.append(np.where(noise, random.integers(0, K - 1, size), blocks).astype(np.uint8))
    prediction, label = found
    label[random.random(size) < 0.15] = 255
    return prediction, label


def slow_region(classes: np.ndarray, valid: np.ndarray, k: int, d: int) -> set[tuple[int, int]]:
    H, W = classes.shape
    region = set()
    for y in range(H):
        for x in range(W):
            if not valid[y, x] or classes[y, x] != k:
                continue
            for v in range(y - d, y + d + 1):
                for u in range(x - d, x + d + 1):
                    outside = not (0 <= v < H and 0 <= u < W)
                    if outside or (valid[v, u] and classes[v, u] != k):
                        region.add((y, x))
    return region


@pytest.mark.parametrize("distance", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_against_loops(seed, distance):
    prediction, label = maps(seed)
    counts = boundary_counts(prediction, label, K, distance)
    valid = label != 255
    for k in range(K):
        a, b = (slow_region(one, valid, k, distance) for one in (prediction, label))
        assert counts[k].tolist() == [len(a & b), len(a | b)]
    assert counts.dtype == np.int64
    assert counts[3].tolist() == [0, 0]
    assert math.isnan(boundary_iou(counts)[3])


def test_the_published_form_without_ignored_pixels():
    """Erosion of the mask of one class in an image with a border of zeros, step by step."""
    prediction, label = (np.where(one == 255, 0, one) for one in maps(7))
    for d in (1, 2, 3):
        expected = []
        for one in (label, prediction):
            mask = one == 1
            eroded = np.pad(mask, 1)
            for _ in range(d):
                wide = np.pad(eroded, 1)
                H, W = eroded.shape
                eroded = np.logical_and.reduce([wide[y : y + H, x : x + W] for y in range(3) for x in range(3)])
            expected.append(mask & ~eroded[1:-1, 1:-1])
        a, b = expected
        assert boundary_counts(prediction, label, K, d)[1].tolist() == [(a & b).sum(), (a | b).sum()]


def test_ignored_pixels_are_no_contour():
    label = np.zeros((9, 9), np.uint8)
    label[4, 4] = 255
    prediction = np.zeros((9, 9), np.uint8)
    prediction[4, 4] = 1  # whatever is predicted there
    region = in_boundary(label, label != 255, 1)
    assert region.sum() == 9 * 9 - 7 * 7  # the border of the image alone
    assert boundary_counts(prediction, label, 2, 1).tolist() == [[32, 32], [0, 0]]


def test_what_is_right_has_an_iou_of_1_and_all_ignored_none():
    prediction, label = maps(3)
    right = np.where(label == 255, prediction, label)
    assert np.nanmin(boundary_iou(boundary_counts(right, label, K, 2))) == 1
    assert not boundary_counts(prediction, np.full_like(label, 255), K, 2).any()


def test_width():
    assert boundary_width(360, 480, 0.02) == 12  # of 600
    assert boundary_width(10, 10, 0.02) == 1
