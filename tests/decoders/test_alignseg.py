import pytest
import torch
from torch import nn

from semask import load, save
from semask.builder import build
from semask.decoders.alignseg import AlignedAggregation, AlignedContext, AlignSeg
from semask.losses.pixel import PixelLoss
from semask.outputs import resize

CHANNELS, STRIDES = (4, 6, 8, 10), (4, 8, 16, 32)


def maps(height: int, width: int, *, images: int = 2, levels: int = 4) -> list[torch.Tensor]:
    return [
        torch.randn(images, channels, -(-height // stride), -(-width // stride))
        for channels, stride in list(zip(CHANNELS, STRIDES, strict=True))[:levels]
    ]


class Constant(nn.Module):
    """Gives the same offset (x, y) everywhere."""

    def __init__(self, x: float, y: float) -> None:
        super().__init__()
        self.offset = torch.tensor([x, y])[None, :, None, None]

    def forward(self, both: torch.Tensor) -> torch.Tensor:
        return self.offset.expand(len(both), 2, *both.shape[-2:])


def test_without_offsets_maps_are_resized_and_summed():
    module, fine, coarse = AlignedAggregation(4), torch.randn(2, 4, 9, 12), torch.randn(2, 4, 5, 6)
    module.fine_offsets = module.coarse_offsets = Constant(0, 0)
    torch.testing.assert_close(module(fine, coarse), fine + resize(coarse, (9, 12)))


def test_offsets_undo_the_shifts_of_both_maps():
    module, fine, coarse = AlignedAggregation(4), torch.randn(1, 4, 9, 12), torch.randn(1, 4, 9, 12)
    module.fine_offsets, module.coarse_offsets = Constant(1, 0), Constant(-2, 1)
    total = module(fine.roll(1, 3), coarse.roll((1, -2), (2, 3)))
    torch.testing.assert_close(total[..., :-1, 2:-1], (fine + coarse)[..., :-1, 2:-1])


def test_aggregation_starts_close_to_a_plain_sum():
    module, fine, coarse = AlignedAggregation(64).eval(), torch.randn(1, 64, 9, 12), torch.randn(1, 64, 5, 6)
    plain = fine + resize(coarse, (9, 12))
    assert 0 < (module(fine, coarse) - plain).norm() < 0.2 * plain.norm()


def test_each_cell_picks_a_place_in_the_pooled_map():
    module, x = AlignedContext(6, 4).eval(), torch.randn(1, 6, 9, 12)
    pooled, projected = module.pool(x), module.project(x)
    assert pooled.shape == (1, 4, 3, 3)
    module.offsets = Constant(0, 0)
    torch.testing.assert_close(module(x), projected + resize(pooled, (9, 12)))
    module.offsets = Constant(-3, 3)  # three pooled cells to the left and down: the lower left corner, for all
    torch.testing.assert_close(module(x), projected + pooled[..., 2:, :1])
    module.offsets = Constant(1, 0)  # one pooled cell to the right is a third of the map
    moved = resize(pooled, (9, 12))[..., 4:]
    torch.testing.assert_close((module(x) - projected)[..., :8], moved)


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_shapes(levels):
    decoder = AlignSeg(CHANNELS[:levels], STRIDES[:levels], num_classes=5, channels=8)
    features = maps(70, 90, levels=levels)
    output = decoder(features)
    assert output.logits.shape == (2, 5, 18, 23)
    assert [x.shape for x in output.auxiliary] == [(2, 5, 18, 23)]
    assert decoder.eval()(features).auxiliary == ()


def test_every_map_counts():
    decoder, features = AlignSeg(CHANNELS, STRIDES, num_classes=5, channels=8).eval(), maps(64, 64)
    before = decoder(features).logits
    for i in range(4):
        changed = [x + 1 if i == j else x for j, x in enumerate(features)]
        assert not torch.allclose(decoder(changed).logits, before)


def test_one_image_of_few_cells():
    decoder = AlignSeg(CHANNELS, STRIDES, num_classes=5, channels=8)
    assert decoder(maps(64, 32, images=1)).logits.isfinite().all()
    with pytest.raises(ValueError, match="coarsest map of the batch is a single location"):
        decoder(maps(32, 32, images=1))


def test_trains_and_is_saved(tmp_path):
    image, label = torch.randn(1, 3, 70, 90), torch.randint(0, 5, (1, 70, 90))
    model = build("swin_nano", "alignseg", num_classes=5, channels=32).train()
    PixelLoss()(model(image), label).total.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.decoder.parameters())
    loaded = load(save(tmp_path / "model.safetensors", model, {}))
    assert loaded(image).logits.equal(model.eval()(image).logits)


def test_half_precision():
    decoder = AlignSeg(CHANNELS, STRIDES, num_classes=5, channels=8)
    with torch.autocast("cpu", torch.bfloat16):
        output = decoder(maps(70, 90))
    assert output.logits.dtype == torch.bfloat16
    assert all(x.isfinite().all() for x in (output.logits, *output.auxiliary))
