import json

import numpy as np
import pytest

from semask.losses.class_weights import weights_from_counts
from semask.losses.pixel import PixelLoss

PIXELS = np.array([[600, 100, 0, 0], [600, 0, 0, 200], [300, 100, 0, 0]], dtype=np.uint32)


def normalized(values: list[float]) -> list[float]:
    return (np.array(values) / np.mean(values)).tolist()


def test_inverse():
    weights = weights_from_counts("inverse", PIXELS)
    assert weights[2] == 1.0  # never occurs
    expected = normalized([1 / 1500, 1 / 200, 1 / 200])
    assert [weights[0], weights[1], weights[3]] == pytest.approx(expected, rel=1e-5)


def test_median_looks_at_the_images_that_show_a_class():
    weights = weights_from_counts("median", PIXELS)
    expected = normalized([1900 / 1500, 1100 / 200, 800 / 200])
    assert [weights[0], weights[1], weights[3]] == pytest.approx(expected, rel=1e-5)


def test_effective_lies_between_none_and_inverse():
    n = np.array([1500, 200, 200]) / (1900 / 3)
    expected = normalized(((1 - 0.9) / (1 - 0.9**n)).tolist())
    weights = weights_from_counts("effective", PIXELS, beta=0.9)
    assert [weights[0], weights[1], weights[3]] == pytest.approx(expected, rel=1e-5)
    assert weights_from_counts("effective", PIXELS, beta=0.0) == (1.0, 1.0, 1.0, 1.0)
    nearly = weights_from_counts("effective", PIXELS, beta=1 - 1e-9)
    assert nearly == pytest.approx(weights_from_counts("inverse", PIXELS), rel=1e-4)


@pytest.mark.parametrize("weighting", ["inverse", "median", "effective"])
def test_a_class_of_a_few_pixels_does_not_take_all_the_weight(weighting):
    pixels = np.full((1, 10), 10**6)
    pixels[0, 3] = 1
    weights = weights_from_counts(weighting, pixels)
    assert np.mean(weights) == pytest.approx(1, rel=1e-5)
    assert weights[3] == pytest.approx(20 * weights[0], rel=1e-5)


def test_numbers_survive_a_recipe():
    weights = weights_from_counts("inverse", PIXELS)
    assert tuple(json.loads(json.dumps(weights))) == weights
    assert all(float(f"{x:.6g}") == x for x in weights)


def test_masks_without_a_labeled_pixel():
    with pytest.raises(
        ValueError, match=r"loss\.class_weights is inverse, but every pixel of the training masks is igno"
    ):
        weights_from_counts("inverse", np.zeros((2, 3), dtype=np.uint32))


def test_a_loss_takes_its_weights_from_counts():
    loss = PixelLoss(class_weights="effective", class_weights_beta=0.9)
    computed = loss.for_counts(PIXELS)
    assert computed.class_weights == weights_from_counts("effective", PIXELS, beta=0.9)
    assert computed.for_counts(PIXELS) is computed
    assert PixelLoss().for_counts(PIXELS) == PixelLoss()
