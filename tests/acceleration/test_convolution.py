"""Convolutions in bfloat16 are those of float32 up to rounding, whatever the processor."""

import pytest
import torch
from torch import Tensor, nn

from semask import Predictor, build
from semask.acceleration.accelerate import accelerate, plain
from semask.acceleration.bfloat16 import use_bfloat16
from semask.acceleration.convolution import SafeConv2d

CASES = [
    (3, 4, 4, (64, 5)),  # one pixel wide
    (16, 4, 4, (64, 64)),  # kernel width x channels = 64
    (4, 16, 16, (64, 64)),
    (11, 3, 2, (33, 1)),
    (3, 3, 2, (33, 47)),
]


def near(found: Tensor, expected: Tensor) -> bool:
    """Equal but for the digits that bfloat16 does not have."""
    return bool((found.float() - expected).abs().max() <= 0.05 * expected.abs().max())


@pytest.mark.parametrize(("channels", "kernel", "stride", "size"), CASES, ids=str)
@pytest.mark.parametrize("cast", ["autocast", "weights"])
def test_convolutions_that_skip_pixels(cast, channels, kernel, stride, size):
    layer = nn.Sequential(nn.Conv2d(channels, 8, kernel, stride, kernel // 2 if kernel % 2 else 0))
    x = torch.randn(1, channels, *size)
    expected = layer(x)
    gradient = torch.randn_like(expected)
    weight = layer[0].weight
    (wanted,) = torch.autograd.grad(expected, weight, gradient)
    accelerate(layer)
    assert isinstance(layer[0], SafeConv2d)
    if cast == "weights":
        layer.bfloat16()
        found = layer(x.bfloat16())
    else:
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(x)
    assert found.dtype == torch.bfloat16
    assert near(found, expected)
    assert near(torch.autograd.grad(found, layer[0].weight, gradient.bfloat16())[0], wanted)
    with plain(layer):
        assert type(layer[0]) is nn.Conv2d


@pytest.mark.parametrize("encoder", ["swin_nano", "timm/tf_efficientnet_lite0"])
@pytest.mark.parametrize("size", [(300, 3), (3, 300), (1, 1)], ids=str)
def test_narrow_images(encoder, size):
    model = build(encoder, "fpn", num_classes=3).eval()
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8).permute(1, 2, 0).numpy()
    expected = Predictor(model)(image).confidence
    found = Predictor(use_bfloat16(model))(image).confidence
    assert expected is not None
    assert found is not None
    assert (abs(found.astype(float) - expected.astype(float)) < 0.1 * max(1, expected.max())).all()
