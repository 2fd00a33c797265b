import pytest
import torch
import torch.nn.functional as F

from semask.losses.label import LabelCounts, count_label
from semask.losses.pixel import PixelLoss
from semask.losses.region import dice_loss, focal_sum, lovasz_loss
from semask.outputs import PixelOutput, SeMaskOutput

WEIGHTS = (0.5, 1.0, 2.0, 0.0, 3.0)


def output(logits: torch.Tensor, prior: torch.Tensor | None = None) -> SeMaskOutput:
    return SeMaskOutput((), (), PixelOutput(logits), prior)


def sample(*, size: int = 24, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits and prior logits [2, K, 6, 6], and a label of 4 times their size with a third of it ignored."""
    label = torch.randint(0, classes, (2, size, size))
    label[torch.rand(label.shape) < 0.3] = 255
    logits, prior = (3 * torch.randn(2, classes, size // 4, size // 4) for _ in range(2))
    return logits.requires_grad_(), prior.requires_grad_(), label


def full_size(logits: torch.Tensor) -> torch.Tensor:
    return F.interpolate(logits, size=(24, 24), mode="bilinear")


def pixel_losses(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(full_size(logits), label, ignore_index=255, reduction="none")


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_plain_cross_entropy(weights):
    logits, prior, label = sample()
    losses = PixelLoss(prior_weight=0.3, class_weights=weights)(output(logits, prior), label)
    weight = None if weights is None else torch.tensor(weights)
    main, side = (F.cross_entropy(full_size(x), label, weight, ignore_index=255) for x in (logits, prior))
    torch.testing.assert_close(losses.main, main)
    torch.testing.assert_close(losses.prior, side)
    torch.testing.assert_close(losses.total, main + 0.3 * side)


def test_of_what_was_predicted_without_gradients():
    logits, prior, label = sample()
    expected = PixelLoss()(output(logits, prior), label).total
    with torch.inference_mode():
        predicted = output(logits * 1, prior * 1)
    torch.testing.assert_close(PixelLoss()(predicted, label).total, expected.detach())


def test_average_over_all_pixels():
    logits, prior, label = sample()
    losses = PixelLoss(average="all")(output(logits, prior), label)
    torch.testing.assert_close(losses.main, pixel_losses(logits, label).mean())
    torch.testing.assert_close(losses.prior, pixel_losses(prior, label).mean())
    nothing_ignored = label.where(label != 255, 0)
    for average in ("all", "valid"):
        loss = PixelLoss(average=average)(output(logits, prior), nothing_ignored)
        torch.testing.assert_close(loss.main, F.cross_entropy(full_size(logits), nothing_ignored))


@pytest.mark.parametrize("settings", [{}, {"class_weights": WEIGHTS}, {"average": "all"}], ids=str)
def test_passes_with_their_share_of_the_step_sum_up_to_one_pass(settings):
    tensors, label = [torch.randn(4, 5, 6, 6).requires_grad_(), torch.randn(4, 3, 6, 6).requires_grad_()], sample()[2]
    label = torch.cat([label, torch.full_like(label, 255)])  # no pixel of the last two images counts
    label[1, 2:] = 255
    heads = (torch.randn(4, 5, 3, 3),)
    loss = PixelLoss(**settings)
    whole = loss(SeMaskOutput((), (), PixelOutput(tensors[0], heads), tensors[1]), label)
    share = LabelCounts(*(x / 2 for x in count_label(label, 5)))
    parts = [
        loss(SeMaskOutput((), (), PixelOutput(tensors[0][i], (heads[0][i],)), tensors[1][i]), label[i], counts=share)
        for i in (torch.tensor([0, 1]), torch.tensor([2, 3]))
    ]
    for of_parts, expected in zip(zip(*parts, strict=True), whole, strict=True):
        torch.testing.assert_close(sum(of_parts) / 2, expected)
    gradients = torch.autograd.grad(sum(part.total for part in parts) / 2, tensors)
    torch.testing.assert_close(gradients, torch.autograd.grad(whole.total, tensors))


def test_mining_averages_what_it_kept_itself():
    logits, prior, label = sample()
    counts = count_label(torch.zeros(9, 99, 99, dtype=torch.long), 5)
    alone, told = (PixelLoss(ohem_min_kept=9)(output(logits, prior), label, counts=x) for x in (None, counts))
    assert told.main == alone.main
    assert told.prior < alone.prior / 2


@pytest.mark.parametrize("average", ["all", "valid"])
@pytest.mark.parametrize("kept", [1, 40, 200, 10_000])
def test_hard_pixels_only(kept, average):
    logits, prior, label = sample()
    losses = PixelLoss(ohem_min_kept=kept, average=average)(output(logits, prior), label)
    hardest = pixel_losses(logits, label)[label != 255].sort(descending=True).values[: 2 * kept]
    torch.testing.assert_close(losses.main, hardest.sum() / (label.numel() if average == "all" else len(hardest)))
    torch.testing.assert_close(losses.prior, PixelLoss(average=average)(output(logits, prior), label).prior)


@pytest.mark.parametrize(("kept", "threshold"), [(1, 0.5), (1, 0.01), (300, 0.2), (1, 1.0)])
def test_hard_pixels_by_probability(kept, threshold):
    logits, _, label = sample()
    losses = pixel_losses(logits, label)[label != 255].sort(descending=True).values  # = -log(probability)
    count = max(int((losses.double().exp() > 1 / threshold).sum()), min(2 * kept, len(losses)))
    main = PixelLoss(ohem_min_kept=kept, ohem_threshold=threshold)(output(logits), label).main
    torch.testing.assert_close(main, losses[:count].mean())


def test_ignored_pixels_get_no_gradient():
    logits, prior, label = sample()
    label[:, :12] = 255
    for settings in ({}, {"average": "all"}, {"ohem_min_kept": 50}, {"class_weights": WEIGHTS}):
        logits.grad = prior.grad = None
        PixelLoss(**settings)(output(logits, prior), label).total.backward()
        for gradient in (logits.grad, prior.grad):
            assert gradient[:, :, :2].eq(0).all()
            assert gradient[:, :, 3:].abs().sum() > 0


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"average": "all"},
        {"ohem_min_kept": 5},
        {"ohem_min_kept": 5, "ohem_threshold": 0.7},
        {"class_weights": WEIGHTS},
    ],
)
def test_no_valid_pixel(settings):
    logits, prior, label = sample()
    losses = PixelLoss(**settings)(output(logits, prior), torch.full_like(label, 255))
    losses.total.backward()
    assert losses.total == losses.main == losses.prior == 0
    assert logits.grad.eq(0).all()
    assert prior.grad.eq(0).all()


def test_priors_of_fewer_classes_ignore_the_others():
    logits, prior, label = sample()
    losses = PixelLoss()(output(logits, prior[:, :3]), label)
    known = label.where(label < 3, 255)
    torch.testing.assert_close(losses.prior, F.cross_entropy(full_size(prior[:, :3]), known, ignore_index=255))
    torch.testing.assert_close(losses.main, F.cross_entropy(full_size(logits), label, ignore_index=255))
    weighted = PixelLoss(class_weights=WEIGHTS)(output(logits, prior[:, :3]), label).prior
    weight = torch.tensor(WEIGHTS[:3])
    torch.testing.assert_close(weighted, F.cross_entropy(full_size(prior[:, :3]), known, weight, ignore_index=255))


def test_without_priors():
    logits, _, label = sample()
    losses = PixelLoss()(output(logits), label)
    assert losses.total == losses.main
    assert losses.prior == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_computed_in_float32(dtype):
    logits, prior, label = sample()
    logits, prior = (3000 * logits).to(dtype).detach(), prior.to(dtype).detach()
    losses = PixelLoss()(output(logits, prior), label)
    expected = PixelLoss()(output(logits.float(), prior.float()), label)
    assert losses.total.dtype == torch.float32
    assert losses.total.isfinite()
    assert losses == expected


def test_double_precision_is_kept():
    logits, prior, label = sample()
    assert PixelLoss()(output(logits.double(), prior.double()), label).total.dtype == torch.float64


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prior_weight": -1}, "prior_weight is -1"),
        ({"average": "sum"}, "average is 'sum': give one of"),
        ({"ohem_min_kept": 0}, "ohem_min_kept is 0"),
        ({"ohem_threshold": 0.7}, "ohem_threshold is given without loss.ohem_min_kept"),
        ({"ohem_min_kept": 5, "ohem_threshold": 1.5}, "a number above 0 and up to 1"),
        ({"class_weights": (1.0, -1.0)}, "give a list of numbers from 0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        PixelLoss(**settings)


def test_too_few_class_weights():
    logits, prior, label = sample()
    with pytest.raises(ValueError, match="class_weights has 2 values for 5 classes"):
        PixelLoss(class_weights=(1.0, 1.0))(output(logits, prior), label)


def test_logits_of_a_padded_image_are_cut_before_they_are_compared():
    """3 x 5 pixels were padded to 4 x 8: what is said of the padding does not count, and nothing is stretched."""
    full, label = torch.randn(2, 4, 4, 8), torch.randint(0, 4, (2, 3, 5))
    padded = SeMaskOutput((), (), PixelOutput(full), full, padded=(4, 8))
    expected = F.cross_entropy(full[..., :3, :5], label)
    losses = PixelLoss()(padded, label)
    torch.testing.assert_close(losses.main, expected)
    torch.testing.assert_close(losses.prior, expected)


def test_auxiliary_heads():
    logits, label = torch.randn(2, 4, 8, 8), torch.randint(0, 4, (2, 8, 8))
    heads = (torch.randn(2, 4, 2, 2), torch.randn(2, 4, 4, 4))
    main = PixelLoss(auxiliary_weight=0.3)(SeMaskOutput((), (), PixelOutput(logits, heads), None), label).main
    alone = [F.cross_entropy(F.interpolate(x, size=(8, 8), mode="bilinear"), label) for x in heads]
    torch.testing.assert_close(main, F.cross_entropy(logits, label) + 0.3 * sum(alone))


def test_presence_of_classes():
    logits, scores = torch.randn(2, 3, 2, 2), torch.randn(2, 3)
    label = torch.tensor([[[0, 0], [2, 255]], [[1, 1], [1, 1]]])
    output = SeMaskOutput((), (), PixelOutput(logits, presence=scores), None)
    present = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    expected = F.binary_cross_entropy_with_logits(scores, present)
    main = F.cross_entropy(logits, label, ignore_index=255)
    torch.testing.assert_close(PixelLoss(presence_weight=0.5)(output, label).main, main + 0.5 * expected)


TERMS = {"focal_weight": 0.5, "dice_weight": 2.0, "lovasz_weight": 0.25}


def test_terms_are_added_with_their_weights_to_the_main_loss_alone():
    logits, prior, label = sample()
    plain = PixelLoss()(output(logits, prior), label)
    scores = full_size(logits)
    alone = {
        "focal_weight": focal_sum(scores, label, None, gamma=2.0) / (label != 255).sum(),
        "dice_weight": dice_loss(scores, label),
        "lovasz_weight": lovasz_loss(scores, label),
    }
    assert all(x > 0.1 for x in alone.values())
    for name, weight in TERMS.items():
        losses = PixelLoss(**{name: weight})(output(logits, prior), label)
        torch.testing.assert_close(losses.main, plain.main + weight * alone[name])
        assert losses.prior == plain.prior
        only = PixelLoss(cross_entropy_weight=0.0, **{name: weight})(output(logits, prior), label)
        torch.testing.assert_close(only.main, weight * alone[name])
    half = PixelLoss(cross_entropy_weight=0.5)(output(logits, prior), label)
    torch.testing.assert_close(half.main, 0.5 * plain.main)
    every = PixelLoss(**TERMS)(output(logits, prior), label)
    torch.testing.assert_close(every.main, plain.main + sum(TERMS[name] * x for name, x in alone.items()))


def test_terms_without_a_valid_pixel():
    logits, prior, label = sample()
    for given in (TERMS, TERMS | {"cross_entropy_weight": 0.0, "class_weights": WEIGHTS}):
        logits.grad = None
        losses = PixelLoss(**given)(output(logits, prior), torch.full_like(label, 255))
        losses.total.backward()
        assert losses.total == losses.main == losses.prior == 0
        assert logits.grad.eq(0).all()


def test_terms_of_low_precision_logits_are_computed_in_float32():
    logits, prior, label = sample()
    logits = (30 * logits).to(torch.bfloat16).detach()
    losses = PixelLoss(**TERMS)(output(logits, prior.detach()), label)
    assert losses.main.dtype == torch.float32
    assert losses.main == PixelLoss(**TERMS)(output(logits.float(), prior.detach()), label).main


def test_terms_do_not_see_the_padding():
    full, label = torch.randn(2, 4, 4, 8), torch.randint(0, 4, (2, 3, 5))
    padded = SeMaskOutput((), (), PixelOutput(full), None, padded=(4, 8))
    cut = SeMaskOutput((), (), PixelOutput(full[..., :3, :5]), None)
    torch.testing.assert_close(PixelLoss(**TERMS)(padded, label), PixelLoss(**TERMS)(cut, label))


def test_focal_loss_takes_weights_and_average_of_the_cross_entropy():
    logits, _, label = sample()
    weight = torch.tensor(WEIGHTS)
    scores = full_size(logits)
    given = {"cross_entropy_weight": 0.0, "focal_weight": 1.0, "focal_gamma": 1.5, "class_weights": WEIGHTS}
    total = focal_sum(scores, label, weight, gamma=1.5)
    valid = label[label != 255]
    torch.testing.assert_close(PixelLoss(**given)(output(logits), label).main, total / weight[valid].sum())
    everywhere = PixelLoss(**given, average="all")(output(logits), label).main
    torch.testing.assert_close(everywhere, total / label.numel())


def test_under_accumulation_the_focal_loss_is_that_of_the_step_and_the_others_a_mean_over_passes():
    logits, _, label = sample()
    label[1, 4:] = 255
    counted = count_label(label, 5)
    share = LabelCounts(*(x / 2 for x in counted))
    for name, alike in (("focal_weight", True), ("dice_weight", False), ("lovasz_weight", False)):
        loss = PixelLoss(cross_entropy_weight=0.0, **{name: 1.0})
        whole = loss(output(logits), label).main
        passes = [loss(output(logits[i : i + 1]), label[i : i + 1], counts=share).main for i in (0, 1)]
        assert torch.isclose(torch.stack(passes).mean(), whole, rtol=1e-5) == alike
        if not alike:
            alone = [loss(output(logits[i : i + 1]), label[i : i + 1]).main for i in (0, 1)]
            assert alone == passes


def test_all_weights_of_the_main_term_are_zero():
    with pytest.raises(ValueError, match="lovasz_weight are all 0: the decoder would learn nothing"):
        PixelLoss(cross_entropy_weight=0.0)


def test_class_weights_that_are_not_computed_yet():
    logits, prior, label = sample()
    with pytest.raises(ValueError, match="class_weights is median, which training computes from its masks: give num"):
        PixelLoss(class_weights="median")(output(logits, prior), label)
    with pytest.raises(
        ValueError, match=r"class_weights is 'rare': give a list of numbers .* or one of inverse, median"
    ):
        PixelLoss(class_weights="rare")
