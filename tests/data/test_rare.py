import numpy as np
import pytest

from semask.data.rare import RareClasses

PIXELS = np.array([[900, 0, 5, 0], [850, 50, 0, 0], [900, 95, 0, 0]], dtype=np.uint32)
"""Pixels of four classes in three images; the last class never occurs."""


def test_shares_and_images():
    rare = RareClasses.of(PIXELS, temperature=0.01)
    assert rare.share.tolist() == pytest.approx([2650 / 2800, 145 / 2800, 5 / 2800, 0])
    assert rare.shown.tolist() == [[True] * 3, [False, True, True], [True, False, False], [False] * 3]


def test_probabilities_are_those_of_the_paper():
    rare = RareClasses.of(PIXELS, temperature=0.1)
    expected = np.exp((1 - rare.share[:3]) / 0.1)
    assert rare.probabilities()[:3].tolist() == pytest.approx((expected / expected.sum()).tolist())
    assert rare.probabilities()[3] == 0


@pytest.mark.parametrize(("temperature", "expected"), [(1e-4, [0, 0, 1, 0]), (1e4, [1 / 3, 1 / 3, 1 / 3, 0])])
def test_temperature(temperature, expected):
    rare = RareClasses.of(PIXELS, temperature=temperature)
    assert rare.probabilities().tolist() == pytest.approx(expected, abs=1e-4)


def test_among_some_classes():
    rare = RareClasses.of(PIXELS, temperature=1e-4)
    among = np.array([True, False, False, True])
    assert rare.probabilities(among).tolist() == [1, 0, 0, 0]  # however frequent it is
    assert rare.draw_class(0.99, among=among) == 0
    only_absent = np.array([False, False, False, True])
    assert rare.probabilities(only_absent).tolist() == [0] * 4
    assert rare.draw_class(0.5, among=only_absent) is None


def test_draws_follow_the_probabilities():
    rare = RareClasses.of(PIXELS, temperature=0.1)
    drawn = [rare.draw_class(x) for x in np.arange(0, 1, 1e-3)]
    counts = np.bincount(drawn, minlength=4) / 1000
    assert counts.tolist() == pytest.approx(rare.probabilities().tolist(), abs=2e-3)
    assert rare.draw_class(1 - 2**-53) == 2  # never one that does not occur


def test_images_show_the_class():
    rare = RareClasses.of(PIXELS, temperature=0.1)
    assert [rare.draw_image(1, x) for x in (0.0, 0.49, 0.5, 1 - 2**-53)] == [1, 1, 2, 2]
    assert {rare.draw_image(2, x) for x in np.arange(0, 1, 0.01)} == {0}


def test_nothing_is_labeled():
    with pytest.raises(ValueError, match="every pixel of the training masks is ignored"):
        RareClasses.of(np.zeros((2, 3), dtype=np.uint32), temperature=0.01)
