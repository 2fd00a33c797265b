import numpy as np
import pytest
import torch
from torch import Tensor

from semask.acceleration.strips import STRIP_VALUES, resize_rows
from semask.outputs import resize
from semask.prediction.score_maps import View, confidence, label_map, probabilities


def views(*sizes: tuple[tuple[int, int], tuple[int, int]], classes: int = 5) -> list[View]:
    """Views of double precision: (size of the scores, size of the image)."""
    return [View(4 * torch.randn(1, classes, *scores).double(), size, size) for scores, size in sizes]


def test_resize_rows():
    rng = np.random.default_rng(0)
    for h, w, H, W in rng.integers(1, 40, (200, 4)).tolist():
        x, size = torch.randn(1, 2, h, w).double(), (H, W)
        first, last = sorted(rng.integers(0, H, 2).tolist())
        rows = range(first, last + 1)
        torch.testing.assert_close(resize_rows(x, size, rows), resize(x, size)[:, :, first : last + 1])


@pytest.mark.parametrize("target", [(90, 70), (23, 31), (40, 31), (1, 1)])
def test_rows_of_probabilities(target):
    seen = views(((10, 12), (40, 48)), ((7, 9), (28, 36)), ((40, 31), (40, 31)))
    whole = probabilities(seen, target)
    expected = sum(resize(resize(view.scores.float(), view.size), target).softmax(1) for view in seen) / 3
    torch.testing.assert_close(whole, expected)
    torch.testing.assert_close(whole.sum(1), torch.ones(1, *target))
    for step in (1, 4, 17):
        parts = [probabilities(seen, target, range(i, min(i + step, target[0]))) for i in range(0, target[0], step)]
        torch.testing.assert_close(torch.cat(parts, dim=2), whole)


@pytest.mark.parametrize("values", [1, 1000, 5000, 2**24])
def test_classes_are_chosen_strip_by_strip(monkeypatch, values):
    monkeypatch.setitem(STRIP_VALUES, "cpu", values)
    seen = views(((10, 12), (40, 48)), ((20, 24), (80, 96)))
    best = probabilities(seen, (50, 60)).max(1)
    label = label_map(seen, (50, 60))
    assert label.dtype == torch.uint8
    assert label.equal(best.indices.byte())
    torch.testing.assert_close(confidence(seen, (50, 60)), best.values)


def smooth(*shape: int) -> Tensor:
    """Scores that change little from cell to cell, as those of a trained model."""
    return 10 * resize(torch.randn(*shape[:2], 3, 4), shape[2:])


SIZES = {
    "as large as the model saw it": ((64, 80), (64, 80), (64, 80)),
    "padded": ((64, 80), (61, 77), (61, 77)),
    "larger": ((64, 80), (61, 77), (300, 411)),
    "hardly larger": ((64, 80), (64, 80), (65, 81)),
    "smaller": ((64, 80), (64, 80), (20, 33)),
    "one pixel": ((64, 80), (64, 80), (1, 1)),
    "narrow": ((64, 4), (64, 1), (64, 1)),
}


@pytest.mark.parametrize(("padded", "size", "target"), SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_pixels_among_cells_that_agree_need_no_scores(monkeypatch, padded, size, target, factor):
    """The label is that of the largest resized score, however it is found."""
    torch.manual_seed(0)
    monkeypatch.setitem(STRIP_VALUES, "cpu", 2000)
    for classes in (1, 6, 256):
        scores = smooth(2, classes, padded[0] // factor, padded[1] // factor)
        view = View(scores, size, padded)
        resized = resize(resize(scores, padded)[..., : size[0], : size[1]], target)
        label = label_map([view], target)
        chosen = resized.gather(1, label[:, None].long())
        assert (resized.amax(1, keepdim=True) - chosen).max() < 1e-4
        assert (label == resized.argmax(1)).float().mean() > 0.999


def test_scores_of_the_full_size_are_never_held(monkeypatch, largest_tensor):
    monkeypatch.setitem(STRIP_VALUES, "cpu", 2**17)
    for scores in (torch.randn(1, 100, 24, 32), smooth(1, 100, 24, 32)):
        seen = [View(scores, (96, 128), (96, 128))]
        with largest_tensor:
            label_map(seen, (300, 400))
            confidence(seen, (300, 400))
    assert largest_tensor.values <= 2**18 < 100 * 300 * 400


def test_nothing_seen():
    with pytest.raises(ValueError, match="no view"):
        probabilities([], (4, 4))
