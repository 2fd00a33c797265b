import pytest
import torch
import torch.nn.functional as F

from semask import MaskLoss, PixelLoss
from semask.acceleration import cross_entropy
from semask.acceleration.cross_entropy import FastPixelLoss, accelerate_loss
from semask.acceleration.strips import STRIP_VALUES
from semask.losses.label import count_label
from semask.outputs import PixelOutput, SeMaskOutput, resize

WEIGHTS = (0.5, 1.0, 2.0, 0.0, 3.0)


def sample() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits and prior logits [2, K, 6, 6], and a label of 4 times their size with a third of it ignored."""
    label = torch.randint(0, 5, (2, 24, 24))
    label[torch.rand(label.shape) < 0.3] = 255
    logits, prior = (3 * torch.randn(2, 5, 6, 6) for _ in range(2))
    return logits.requires_grad_(), prior.requires_grad_(), label


def output(logits: torch.Tensor, prior: torch.Tensor | None = None) -> SeMaskOutput:
    return SeMaskOutput((), (), PixelOutput(logits, (logits[..., :3],)), prior)


def test_only_a_pixel_loss_is_exchanged():
    loss = PixelLoss(prior_weight=0.3, class_weights=WEIGHTS)
    fast = accelerate_loss(loss)
    assert type(fast) is FastPixelLoss
    assert vars(fast) == vars(loss)
    assert accelerate_loss(fast) is fast
    masks = MaskLoss()
    assert accelerate_loss(masks) is masks


@pytest.mark.parametrize("few", [0, 16], ids=["classes side by side", "pixels side by side"])
@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"class_weights": WEIGHTS},
        {"average": "all"},
        {"ohem_min_kept": 20},
        {"prior_weight": 2.0},
        {"cross_entropy_weight": 0.5, "focal_weight": 1.0, "dice_weight": 1.0, "lovasz_weight": 1.0},
    ],
    ids=str,
)
def test_equals_the_plain_form(settings, classes, counted, few, monkeypatch):
    monkeypatch.setattr(cross_entropy, "FEW_CLASSES", few)
    monkeypatch.setitem(STRIP_VALUES, "cpu", 300)
    logits, prior, label = sample()
    seen = output(logits, prior[:, :classes])
    counts = count_label(torch.zeros(1, 99, 99, dtype=torch.long), 5) if counted else None
    results = []
    for loss in (PixelLoss(**settings), accelerate_loss(PixelLoss(**settings))):
        losses = loss(seen, label, counts=counts)
        results.append((*losses, *torch.autograd.grad(losses.total, (logits, prior))))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("average", ["all", "valid"])
def test_no_valid_pixel(average):
    logits, prior, label = sample()
    losses = FastPixelLoss(average=average)(output(logits, prior), torch.full_like(label, 255))
    losses.total.backward()
    assert losses.total == losses.main == losses.prior == 0
    assert logits.grad.eq(0).all()
    assert prior.grad.eq(0).all()


def test_of_what_was_predicted_without_gradients():
    logits, prior, label = sample()
    expected = FastPixelLoss()(output(logits, prior), label).total
    with torch.inference_mode():
        predicted = output(logits * 1, prior * 1)
    torch.testing.assert_close(FastPixelLoss()(predicted, label).total, expected.detach())


def test_second_derivatives_are_refused():
    logits, prior, label = sample()
    (gradient,) = torch.autograd.grad(FastPixelLoss()(output(logits, prior), label).total, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("average", ["valid", "all"])
@pytest.mark.parametrize("class_weights", [None, (0.5, 1.0, 2.0)])
@pytest.mark.parametrize(("padded", "values"), [(None, 40), ((32, 48), 200), ((32, 48), 10**9)])
def test_strips_give_the_sum_and_the_gradient_of_the_whole(average, class_weights, padded, values, monkeypatch):
    monkeypatch.setitem(STRIP_VALUES, "cpu", values)
    logits = torch.randn(2, 3, 8, 12, dtype=torch.float64, requires_grad=True)
    label = torch.randint(3, (2, 27, 45))
    label[:, 3:9] = 255
    seen = SeMaskOutput((), (), PixelOutput(logits), None, padded)
    strips = FastPixelLoss(average=average, class_weights=class_weights)(seen, label).total
    scores = resize(logits, padded or (27, 45))[..., :27, :45]
    weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float64)
    if average == "valid":
        whole = F.cross_entropy(scores, label, weights, ignore_index=255)
    else:
        whole = F.cross_entropy(scores, label, weights, ignore_index=255, reduction="sum") / label.numel()
    torch.testing.assert_close(strips, whole)
    torch.testing.assert_close(*(torch.autograd.grad(3 * loss, logits)[0] for loss in (strips, whole)))


def test_scores_at_the_image_s_size_are_never_held(largest_tensor):
    logits = torch.randn(1, 50, 64, 64, requires_grad=True)
    seen = SeMaskOutput((), (), PixelOutput(logits), logits)
    with largest_tensor:
        FastPixelLoss()(seen, torch.zeros(1, 512, 512, dtype=torch.long)).total.backward()
    assert largest_tensor.values <= 2**21 + 50 * 512
