"""The terms against slow computations, pixel by pixel, from the papers' definitions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from semask.losses.region import dice_loss, focal_sum, lovasz_loss


def sample(*, classes: int = 5, present: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [2, K, 7, 6], and a label with a third of it ignored that shows only the first classes."""
    label = torch.randint(0, present, (2, 7, 6))
    label[torch.rand(label.shape) < 0.3] = 255
    return (3 * torch.randn(2, classes, 7, 6)).requires_grad_(), label


def labeled(scores: torch.Tensor, label: torch.Tensor) -> list[tuple[np.ndarray, int]]:
    """Probabilities [K] and class of each pixel that is not ignored."""
    probabilities = scores.detach().double().softmax(1).numpy()
    return [
        (probabilities[b, :, y, x], int(label[b, y, x]))
        for b, y, x in np.ndindex(*label.shape)
        if label[b, y, x] != 255
    ]


def slow_dice(scores: torch.Tensor, label: torch.Tensor) -> float:
    pixels, losses = labeled(scores, label), []
    for k in sorted({c for _, c in pixels}):
        both = sum(p[k] for p, c in pixels if c == k)
        losses.append(1 - 2 * both / (sum(p[k] for p, _ in pixels) + sum(c == k for _, c in pixels)))
    return float(np.mean(losses))


def slow_lovasz(scores: torch.Tensor, label: torch.Tensor) -> float:
    """Equation 8 of the paper: errors from large to small, times what each adds to the Jaccard loss of a class."""
    pixels, losses = labeled(scores, label), []
    for k in sorted({c for _, c in pixels}):
        truth = np.array([c == k for _, c in pixels])
        errors = np.array([1 - p[k] if c == k else p[k] for p, c in pixels])
        wrong, total, before = np.zeros(len(truth), dtype=bool), 0.0, 0.0
        for pixel in np.argsort(-errors):
            wrong[pixel] = True
            predicted = truth ^ wrong
            jaccard = 1 - (truth & predicted).sum() / (truth | predicted).sum()
            total, before = total + errors[pixel] * (jaccard - before), jaccard
        losses.append(total)
    return float(np.mean(losses))


def slow_focal(scores: torch.Tensor, label: torch.Tensor, weights: list[float], gamma: float) -> float:
    return float(sum(-weights[c] * (1 - p[c]) ** gamma * np.log(p[c]) for p, c in labeled(scores, label)))


@pytest.mark.parametrize("present", [5, 3, 1])
def test_values_are_those_of_the_papers(present):
    scores, label = sample(present=present)
    assert dice_loss(scores, label).item() == pytest.approx(slow_dice(scores, label), rel=1e-5)
    assert lovasz_loss(scores, label).item() == pytest.approx(slow_lovasz(scores, label), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss(gamma):
    scores, label = sample()
    weights = [0.5, 1.0, 2.0, 0.0, 3.0]
    found = focal_sum(scores, label, torch.tensor(weights), gamma=gamma)
    assert found.item() == pytest.approx(slow_focal(scores, label, weights, gamma), rel=1e-5)
    plain = focal_sum(scores, label, None, gamma=gamma)
    assert plain.item() == pytest.approx(slow_focal(scores, label, [1.0] * 5, gamma), rel=1e-5)
    if gamma == 0:
        torch.testing.assert_close(plain, F.cross_entropy(scores, label, ignore_index=255, reduction="sum"))


@pytest.mark.parametrize("gamma", [0.1, 2.0])
def test_focal_loss_of_pixels_that_are_certain_has_finite_gradients(gamma):
    label = torch.tensor([[[0, 1, 255]]])
    scores = torch.tensor([[[[200.0, 200.0, 0.0]], [[-200.0, -200.0, 0.0]]]], requires_grad=True)
    focal_sum(scores, label, None, gamma=gamma).backward()
    assert scores.grad.isfinite().all()
    assert scores.grad[..., 1].abs().min() > 0  # wrong
    assert scores.grad[..., 2].eq(0).all()  # ignored


@pytest.mark.parametrize("term", [dice_loss, lovasz_loss])
def test_no_valid_pixel_is_a_zero_with_gradients(term):
    scores, label = sample()
    loss = term(scores, torch.full_like(label, 255))
    loss.backward()
    assert loss.shape == ()
    assert loss == 0
    assert scores.grad.eq(0).all()


@pytest.mark.parametrize("term", [dice_loss, lovasz_loss])
def test_gradients_reach_valid_pixels_only_and_point_downhill(term):
    scores, label = sample()
    before = term(scores, label)
    before.backward()
    ignored = (label == 255)[:, None].expand_as(scores)
    assert scores.grad[ignored].eq(0).all()
    assert term(scores.detach() - 0.1 * scores.grad / scores.grad.norm(), label) < before


@pytest.mark.parametrize("term", [dice_loss, lovasz_loss])
def test_a_class_counts_by_itself_and_not_by_its_pixels(term):
    """Of 100 pixels 1 is of class 1, and all are taken for class 0."""
    label = torch.zeros(1, 10, 10, dtype=torch.long)
    label[0, 0, 0] = 1
    scores = torch.zeros(1, 2, 10, 10)
    scores[:, 0] = 50
    assert float(term(scores, label)) == pytest.approx(0.5, abs=0.01)
