from importlib import import_module

import pytest
import torch

from semask.builder import build

module = import_module("semask.decoders.nonlocal")  # the name is a keyword: no import statement can spell it


def block(channels: int = 6, inner: int = 4) -> torch.nn.Module:
    """A block that is far from its start, where it does nothing."""
    layer = module.NonLocalBlock(channels, inner)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def test_in_a_model():
    model = build("swin_nano", "nonlocal", num_classes=5, channels=32)
    image = torch.randn(1, 3, 70, 90)
    output = model.train()(image).prediction
    assert output.logits.shape == (1, 5, 3, 3)
    assert [x.shape for x in output.auxiliary] == [(1, 5, 5, 6)]
    assert model.eval()(image).prediction.auxiliary == ()


def test_a_fresh_block_does_nothing():
    x = torch.randn(2, 6, 3, 5)
    assert module.NonLocalBlock(6, 4).train()(x).equal(x)


def test_equals_the_equation():
    """Cell by cell: z_i = x_i + BatchNorm(W sum_j exp(theta_i . phi_j) g_j / sum_j exp(theta_i . phi_j))."""
    layer, x = block().double().eval(), torch.randn(1, 6, 3, 4, dtype=torch.float64)
    layer.norm.running_mean.normal_()
    cells = [x[0, :, i, j] for i in range(3) for j in range(4)]
    added = []
    for cell in cells:
        weights = torch.stack([torch.exp(layer.query(cell) @ layer.key(other)) for other in cells])
        mixed = sum(w * layer.value(other) for w, other in zip(weights / weights.sum(), cells, strict=True))
        added.append(layer.projection(mixed))
    expected = x + layer.norm(torch.stack(added, dim=-1).view(1, 6, 3, 4))
    torch.testing.assert_close(layer(x), expected)


def test_cells_have_no_order():
    layer, x = block().eval(), torch.randn(2, 6, 4, 5)
    order = torch.randperm(20)
    shuffled = x.flatten(2)[..., order].view_as(x)
    torch.testing.assert_close(layer(shuffled), layer(x).flatten(2)[..., order].view_as(x))


def test_every_cell_sees_the_whole_map():
    layer, x = block().double().eval(), torch.randn(1, 6, 15, 15, dtype=torch.float64)
    before = layer(x)
    x[..., 0, 0] *= 2
    assert (layer(x) != before).any(1).all()


def test_the_block_lies_between_the_convolutions():
    decoder = module.NonLocal((8,), (16,), num_classes=3, channels=8, convs=3, reduction=4)
    names = [type(layer).__name__ for layer in decoder.convs]
    assert names == ["ConvNormReLU", "NonLocalBlock", "ConvNormReLU", "ConvNormReLU"]
    assert decoder.convs[1].query.out_features == 2


def test_gradients_reach_every_parameter():
    decoder = module.NonLocal((8, 8), (8, 16), num_classes=3, channels=8, dropout=0.0).train()
    for parameter in decoder.convs[1].parameters():
        torch.nn.init.normal_(parameter)  # its BatchNorm's scale starts at 0 and lets nothing behind it learn at once
    output = decoder([torch.randn(2, 8, 10, 8), torch.randn(2, 8, 5, 4)])
    (output.logits.square().sum() + output.auxiliary[0].square().sum()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in decoder.parameters())


def test_a_fresh_block_begins_to_learn():
    decoder = module.NonLocal((8,), (16,), num_classes=3, channels=8).train()
    decoder([torch.randn(2, 8, 5, 4)]).logits.square().sum().backward()
    assert decoder.convs[1].norm.weight.grad.abs().sum() > 0


def test_bfloat16():
    layer = block(64, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 64, 9, 11) * 10).isfinite().all()


def test_refusals():
    for reduction in (0, 9):
        with pytest.raises(ValueError, match=f"reduction is {reduction}: give 1 to 8"):
            module.NonLocal((8,), (16,), num_classes=3, channels=8, reduction=reduction)
    with pytest.raises(ValueError, match="single location"):
        module.NonLocal((8,), (16,), num_classes=3, channels=8).train()([torch.randn(1, 8, 1, 1)])
