import pytest
import torch
from torch import nn

from semask import load, save
from semask.builder import build
from semask.decoders.blocks import warp
from semask.decoders.sfnet import FlowAlignment, SFNet
from semask.losses.pixel import PixelLoss
from semask.outputs import resize

CHANNELS, STRIDES = (4, 6, 8, 10), (4, 8, 16, 32)


def maps(height: int, width: int, *, images: int = 2, levels: int = 4) -> list[torch.Tensor]:
    return [
        torch.randn(images, channels, -(-height // stride), -(-width // stride))
        for channels, stride in list(zip(CHANNELS, STRIDES, strict=True))[:levels]
    ]


def constant_flow(x: float, y: float, size: tuple[int, int]) -> torch.Tensor:
    return torch.tensor([x, y])[None, :, None, None].expand(1, 2, *size)


@pytest.mark.parametrize("size", [(11, 14), (6, 7), (4, 3)])
def test_no_flow_is_resizing(size):
    x = torch.randn(1, 3, 6, 7)
    torch.testing.assert_close(warp(x, constant_flow(0, 0, size)), resize(x, size))


def test_flow_undoes_a_shift_by_cells():
    x = torch.randn(1, 3, 9, 12)
    shifted = x.roll((1, 2), dims=(2, 3))  # one down, two to the right
    torch.testing.assert_close(warp(shifted, constant_flow(2, 1, (9, 12)))[..., :-1, :-2], x[..., :-1, :-2])


def test_flow_counts_cells_of_its_own_grid():
    coarse = torch.arange(8.0).expand(1, 1, 4, 8)
    moved = warp(coarse, constant_flow(2, 0, (8, 16))) - resize(coarse, (8, 16))
    torch.testing.assert_close(moved[..., 1:-3], torch.ones(1, 1, 8, 12))  # two fine cells are one coarse cell


def test_beyond_the_border_the_nearest_cell_counts():
    x = torch.randn(1, 3, 5, 6)
    torch.testing.assert_close(warp(x, constant_flow(-99, 99, (5, 6))), x[..., -1:, :1].expand_as(x))


def wave(shift: float) -> torch.Tensor:
    """A picture [1, 4, 24, 24] that is moved to the right and down, beside three channels of ones."""
    place = torch.linspace(0, 6, 24) - shift
    return torch.cat([(place.sin() + place[:, None].cos())[None], torch.ones(3, 24, 24)])[None]


def test_alignment_learns_a_shift():
    align = FlowAlignment(4)
    optimizer = torch.optim.Adam(align.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        loss = (align(wave(0), wave(0.5)) - wave(0)).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


def test_the_flow_has_a_low_and_a_high_map_as_its_input():
    align, fine, coarse = FlowAlignment(4), torch.randn(1, 4, 8, 9), torch.randn(1, 4, 4, 5)
    assert align(fine, coarse).shape == fine.shape
    assert not torch.allclose(align(fine, coarse), align(fine.flip(-1), coarse))
    nn.init.zeros_(align.flow.weight)
    torch.testing.assert_close(align(fine, coarse), resize(coarse, (8, 9)))


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_shapes(levels):
    decoder = SFNet(CHANNELS[:levels], STRIDES[:levels], num_classes=5, channels=8)
    features = maps(70, 90, levels=levels)
    output = decoder(features)
    assert output.logits.shape == (2, 5, 18, 23)
    assert [x.shape[-2:] for x in output.auxiliary] == [x.shape[-2:] for x in features[-2::-1]]
    assert decoder.eval()(features).auxiliary == ()


def test_parameters_of_the_paper():
    decoder = SFNet((64, 128, 256, 512), STRIDES, num_classes=19, channels=128)
    del decoder.auxiliary
    resnet18 = 11_324_992  # torchvision's 11,176,512 without its classifier, with a stem of three convolutions
    assert round((resnet18 + sum(x.numel() for x in decoder.parameters())) / 1e6, 2) == 12.87


def test_one_image_of_few_cells():
    decoder = SFNet(CHANNELS, STRIDES, num_classes=5, channels=8)
    assert decoder(maps(64, 32, images=1)).logits.isfinite().all()
    with pytest.raises(ValueError, match="coarsest map of the batch is a single location"):
        decoder(maps(32, 32, images=1))


def test_trains_and_is_saved(tmp_path):
    image, label = torch.randn(1, 3, 70, 90), torch.randint(0, 5, (1, 70, 90))
    model = build("swin_nano", "sfnet", num_classes=5, channels=32).train()
    PixelLoss()(model(image), label).total.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.decoder.parameters())
    loaded = load(save(tmp_path / "model.safetensors", model, {}))
    assert loaded(image).logits.equal(model.eval()(image).logits)


def test_half_precision():
    decoder = SFNet(CHANNELS, STRIDES, num_classes=5, channels=8)
    with torch.autocast("cpu", torch.bfloat16):
        output = decoder(maps(70, 90))
    assert output.logits.dtype == torch.bfloat16
    assert all(x.isfinite().all() for x in (output.logits, *output.auxiliary))
    x = torch.arange(600.0).expand(1, 1, 2, 600)  # cells that bfloat16 can't tell apart
    torch.testing.assert_close(warp(x, constant_flow(0, 0, (2, 600)).bfloat16()), x)
