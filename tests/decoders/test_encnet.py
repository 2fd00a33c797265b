import pytest
import torch
import torch.nn.functional as F

from semask import load, save
from semask.builder import build
from semask.decoders.encnet import ContextEncoding, EncNet, Encoding
from semask.losses.pixel import PixelLoss

CHANNELS, STRIDES = (4, 6, 8, 10), (4, 8, 16, 32)


def maps(height: int, width: int, *, images: int = 2, levels: int = 4) -> list[torch.Tensor]:
    """The coarsest maps of an image."""
    return [
        torch.randn(images, channels, -(-height // stride), -(-width // stride))
        for channels, stride in list(zip(CHANNELS, STRIDES, strict=True))[-levels:]
    ]


def literal(encoding: Encoding, x: torch.Tensor) -> torch.Tensor:
    """Equation 1 of the paper, in loops."""
    result = torch.zeros(len(x), *encoding.codewords.shape)
    for b, cells in enumerate(x):
        for cell in cells:
            residuals = cell - encoding.codewords
            result[b] += (-encoding.smoothing * residuals.norm(dim=1) ** 2).softmax(0)[:, None] * residuals
    return result


def test_encoding_is_the_equation_of_the_paper():
    encoding, x = Encoding(6, codewords=4), torch.randn(2, 9, 6)
    torch.testing.assert_close(encoding(x), literal(encoding, x))
    torch.testing.assert_close(encoding.shares(x).sum(-1), torch.ones(2, 9))


def test_the_order_of_the_cells_does_not_count():
    encoding, x = Encoding(6, codewords=4), torch.randn(2, 9, 6)
    torch.testing.assert_close(encoding(x[:, torch.randperm(9)]), encoding(x))


def test_one_gate_a_channel_for_all_cells():
    context, x = ContextEncoding(6, codewords=4).eval(), torch.rand(2, 6, 5, 7) + 0.1
    y, code = context(x)
    factors = (y / x).flatten(2)
    torch.testing.assert_close(factors, factors[..., :1].expand_as(factors))
    torch.testing.assert_close(factors[..., 0], 1 + F.sigmoid(context.gate(code)))


def test_scores_at_stride_8_and_extras_in_training_only():
    decoder, features = EncNet(CHANNELS, STRIDES, num_classes=5, channels=8), maps(70, 90)
    output = decoder(features)
    assert output.logits.shape == (2, 5, 9, 12)
    assert [x.shape for x in output.auxiliary] == [(2, 5, 5, 6)]
    assert output.presence.shape == (2, 5)
    assert decoder.eval()(features)[1:] == ((), None)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_any_number_of_maps(levels):
    decoder = EncNet(CHANNELS[-levels:], STRIDES[-levels:], num_classes=5, channels=8)
    features = maps(70, 90, levels=levels)
    size = features[max(levels - 3, 0)].shape[-2:]
    assert decoder(features).logits.shape == (2, 5, *size)


def test_a_single_cell_can_not_be_trained_on():
    decoder, features = EncNet(CHANNELS, STRIDES, num_classes=5, channels=8), maps(32, 32, images=1)
    with pytest.raises(ValueError, match="coarsest map of the batch is a single location"):
        decoder(features)
    assert decoder.eval()(features).logits.isfinite().all()


def test_trains_and_is_saved(tmp_path):
    image, label = torch.randn(1, 3, 70, 90), torch.randint(0, 5, (1, 70, 90))
    model = build("swin_nano", "encnet", num_classes=5, channels=32).train()
    PixelLoss()(model(image), label).total.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.decoder.parameters())
    loaded = load(save(tmp_path / "model.safetensors", model, {}))
    assert loaded(image).logits.equal(model.eval()(image).logits)
    assert loaded(image).logits.shape == (1, 5, 9, 12)


def test_half_precision():
    decoder = EncNet(CHANNELS, STRIDES, num_classes=5, channels=8)
    with torch.autocast("cpu", torch.bfloat16):
        output = decoder([100 * x for x in maps(70, 90)])
    assert output.logits.dtype == torch.bfloat16
    assert all(x.isfinite().all() for x in (output.logits, *output.auxiliary, output.presence))
