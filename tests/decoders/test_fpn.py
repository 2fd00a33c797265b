import pytest
import torch
from torch import nn

from semask.decoders.blocks import ConvNormReLU
from semask.decoders.fpn import SemanticFPN

CHANNELS, STRIDES = (4, 6, 8, 10), (4, 8, 16, 32)


def decoder(**settings) -> SemanticFPN:
    return SemanticFPN(CHANNELS, STRIDES, **{"num_classes": 5, "channels": 8, **settings})


def maps(height: int, width: int) -> list[torch.Tensor]:
    """Feature maps of an image."""
    return [
        torch.randn(2, channels, -(-height // stride), -(-width // stride))
        for channels, stride in zip(CHANNELS, STRIDES, strict=True)
    ]


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (5, 4)])
def test_shapes(size):
    features = maps(*size)
    output = decoder().eval()(features)
    assert output.logits.shape == (2, 5, *features[0].shape[-2:])
    assert output.logits.isfinite().all()


def test_convolutions_of_each_level():
    counts = [sum(isinstance(m, ConvNormReLU) for m in level.modules()) for level in decoder().levels]
    assert counts == [1, 1, 2, 3]


def test_every_level_counts():
    module, features = decoder().eval(), maps(64, 64)
    before = module(features).logits
    for i in range(4):
        changed = [x + 1 if i == j else x for j, x in enumerate(features)]
        assert not torch.allclose(module(changed).logits, before)


def test_gradients_reach_every_parameter():
    module = decoder().train()
    module(maps(64, 64)).logits.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_dropout_drops_whole_channels():
    module = decoder(dropout=0.5, channels=64).train()
    dropped = []
    module.classifier.register_forward_pre_hook(lambda _, inputs: dropped.append(inputs[0].eq(0).flatten(2).all(-1)))
    module([x + 10 for x in maps(64, 64)])
    assert 0.3 < dropped[0].double().mean() < 0.8


def test_convolutions_before_batchnorm_have_no_bias():
    convolutions = [m for m in decoder().levels.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 7
    assert all(conv.bias is None for conv in convolutions)


def test_batchnorm_that_goes_on_learning_without_gradients():
    module, features = decoder().eval(), maps(64, 96)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
    before = [norm.running_mean.clone() for norm in norms]
    with torch.no_grad():
        module(features)
    assert not any(norm.running_mean.equal(mean) for norm, mean in zip(norms, before, strict=True))
