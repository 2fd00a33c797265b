import pytest
import torch
from accelerate.state import PartialState

from semask import MaskLoss
from semask.builder import build
from semask.decoders.fpn import SemanticFPN
from semask.losses.label import LabelCounts, count_label
from semask.outputs import MaskOutput, SeMaskOutput

CLASSES = 4
MASKFORMER = {"class_weight": 1.0, "mask_weight": 20.0, "dice_weight": 1.0, "points": None}
MASK2FORMER = {"class_weight": 2.0, "mask_weight": 5.0, "dice_weight": 5.0, "points": 12544}


def batch(
    *, images: int = 4, queries: int = 3, dtype: torch.dtype = torch.float32
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Classes, masks, those of an earlier layer and the prior, and a label with few valid pixels.

    The images hold 4 classes (more than there are queries), 2, 1 and none.
    """
    tensors = [torch.randn(images, queries, CLASSES + 1), torch.randn(images, queries, 8, 8)]
    tensors += [torch.randn_like(x) for x in tensors]
    tensors.append(torch.randn(images, CLASSES - 1, 8, 8))
    label = torch.randint(0, CLASSES, (images, 16, 16))
    label[1] = torch.where(label[1] > 1, 255, label[1])
    label[2, 4:], label[2, :4], label[3] = 255, 1, 255
    return [x.to(dtype).requires_grad_() for x in tensors], label


def output(classes, masks, early_classes, early_masks, prior) -> SeMaskOutput:
    return SeMaskOutput((), (), MaskOutput(classes, masks, ((early_classes, early_masks),)), prior)


@pytest.mark.parametrize("passes", [2, 4])
def test_passes_with_their_share_of_the_step_sum_up_to_one_pass(passes):
    tensors, label = batch(dtype=torch.float64)
    loss = MaskLoss(**MASKFORMER)
    whole = loss(output(*tensors), label)
    gradients = torch.autograd.grad(whole.total, tensors)
    share = LabelCounts(*(x.double() / passes for x in count_label(label, CLASSES)))
    parts = [
        loss(output(*(x[some] for x in tensors)), label[some], counts=share) for some in torch.arange(4).chunk(passes)
    ]
    for of_parts, expected in zip(zip(*parts, strict=True), whole, strict=True):
        torch.testing.assert_close(sum(of_parts) / passes, expected)
    summed = torch.autograd.grad(sum(part.total for part in parts) / passes, tensors)
    torch.testing.assert_close(summed, gradients)


@pytest.mark.parametrize("settings", [MASKFORMER, {**MASK2FORMER, "points": 9}])
def test_processes_do_not_scale_the_masks_terms(settings, monkeypatch):
    """The set losses of transformers ask Accelerate's state, and divide the masks twice by the processes."""
    tensors, label = batch()
    losses = []
    for processes in (1, 2):
        torch.manual_seed(0)
        monkeypatch.setattr(PartialState, "_shared_state", {"num_processes": processes, "distributed_type": "NO"})
        losses.append(MaskLoss(**settings)(output(*tensors), label))
    assert losses[0] == losses[1]


def test_a_step_without_a_mask():
    tensors, label = batch()
    label = torch.full_like(label, 255)
    for counts in (None, count_label(label, CLASSES)):
        losses = MaskLoss(points=9)(output(*tensors), label, counts=counts)
        assert losses.total.isfinite()
        assert losses.prior == 0


@pytest.mark.parametrize(
    ("decoder", "expected"),
    [("maskformer", MASKFORMER), ("mask2former", MASK2FORMER), ("mask2former_fapn", MASK2FORMER)],
)
def test_what_is_left_open_is_the_decoder_s(decoder, expected):
    model = build("swin_nano", decoder, num_classes=4, channels=32, queries=3, decoder_layers=1)
    assert MaskLoss().for_decoder(model.decoder) == MaskLoss(**expected)
    given = {"dice_weight": 3.0, "points": 7, "prior_weight": 0.2}
    assert MaskLoss(**given).for_decoder(model.decoder) == MaskLoss(**{**expected, **given})
    assert MaskLoss(points=None).for_decoder(model.decoder).points is None


def test_without_a_decoder_it_is_mask2former_s():
    assert (
        MaskLoss().for_decoder(SemanticFPN((8,), (4,), num_classes=2))
        == MaskLoss().for_decoder(None)
        == MaskLoss(**MASK2FORMER)
    )
    tensors, label = batch()
    losses = []
    for settings in ({"points": 9}, {**MASK2FORMER, "points": 9}):
        torch.manual_seed(0)
        losses.append(MaskLoss(**settings)(output(*tensors), label))
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_weight": -1.0}, "mask_loss.class_weight is -1.0: give a number from 0"),
        ({"mask_weight": "heavy"}, "mask_loss.mask_weight is 'heavy'"),
        ({"points": 0}, "mask_loss.points is 0: give a whole number from 1"),
        ({"points": "all"}, "mask_loss.points is 'all'"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        MaskLoss(**settings)
