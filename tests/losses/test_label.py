import pytest
import torch

from semask import MaskLoss, PixelLoss
from semask.losses.label import LabelCounts, count_label
from semask.outputs import MaskOutput, PixelOutput, SeMaskOutput

PIXEL = SeMaskOutput((), (), PixelOutput(torch.randn(2, 4, 4, 4)), torch.randn(2, 4, 4, 4), (16, 16))
MASK = SeMaskOutput(
    (), (), MaskOutput(torch.randn(2, 6, 5), torch.randn(2, 6, 4, 4), ()), torch.randn(2, 4, 4, 4), (16, 16)
)
LOSSES = [(PixelLoss(), PIXEL), (PixelLoss(ohem_min_kept=3), PIXEL), (MaskLoss(points=9), MASK)]


def label(*, value: int = 0) -> torch.Tensor:
    made = torch.randint(0, 4, (2, 16, 16))
    made[0, :2] = 255
    made[1, 3, 5] = value
    return made


@pytest.mark.parametrize(("loss", "output"), LOSSES)
@pytest.mark.parametrize("wrong", [4, 254, 256, -1, -100, 2**40])
def test_an_index_that_is_no_class(loss, output, wrong):
    with pytest.raises(
        ValueError, match=rf"^the label holds {wrong}, but the model has 4 classes: give 0 to 3, and 255"
    ):
        loss(output, label(value=wrong))


@pytest.mark.parametrize(("loss", "output"), LOSSES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.int(), "the label is torch.int32: give class indices as torch.int64"),
        (lambda x: x.to(torch.uint8), "the label is torch.uint8"),
        (lambda x: x.float(), "the label is torch.float32"),
        (lambda x: x[:, None], r"the label is of shape \[2, 1, 16, 16\]: give one class index a pixel, \[2, H, W\]"),
        (lambda x: x[0], r"the label is of shape \[16, 16\]"),
        (lambda x: x[:1], r"the label is of shape \[1, 16, 16\]"),
        (lambda x: x.repeat(1, 2, 1), "the label is of 32 x 16 pixels, but the images are of 16 x 16"),
    ],
)
def test_a_label_of_another_form(loss, output, change, message):
    with pytest.raises(ValueError, match=message) as refusal:
        loss(output, change(label()))
    assert "\n" not in str(refusal.value)


def test_many_wrong_indices_are_cut_short():
    wrong = torch.arange(512).view(2, 16, 16)
    with pytest.raises(ValueError, match=r"the label holds 4, 5, 6, 7, 8, 9, 10, 11, \.\.\., but the model has 4"):
        PixelLoss()(PIXEL, wrong)


@pytest.mark.parametrize(("loss", "output"), LOSSES)
def test_all_classes_and_ignored_pixels_are_fine(loss, output):
    assert loss(output, label(value=3)).total.isfinite()
    assert loss(output, torch.full((2, 16, 16), 255)).total.isfinite()


def test_counts():
    given = label()
    counts = count_label(given, 4)
    assert counts.pixels.tolist() == [(given == k).sum().item() for k in range(4)]
    assert counts.images.tolist() == [0, 0, 0, 0, 2]
    one_class = count_label(torch.tensor([[[2, 255]], [[255, 255]], [[1, 0]]]), 3)
    assert one_class.images.tolist() == [1, 1, 1, 0]
    assert (one_class.masks(), one_class.masks(most=1)) == (3, 2)
    assert one_class.weight(2) == 2
    assert one_class.weight(3, torch.tensor([0.5, 1.0, 4.0])) == 5.5


def test_counts_of_parts_add_up():
    given = label()
    parts = [count_label(part, 4) for part in given.split(1)]
    whole = count_label(given, 4)
    assert LabelCounts(*(sum(x) for x in zip(*parts, strict=True))).pixels.equal(whole.pixels)
    assert sum(part.masks() for part in parts) == whole.masks()


@pytest.mark.parametrize("wrong", [4, -1])
def test_counts_of_what_is_no_class(wrong):
    with pytest.raises(ValueError, match=f"the label holds {wrong}"):
        count_label(label(value=wrong), 4)
