import pytest
import torch
from torch import nn

from semask.acceleration.accelerate import accelerate, plain
from semask.acceleration.swin import FastBlock
from semask.encoders.swin import Block, Swin, SwinSize, WindowAttention

SMALL = SwinSize(8, (1, 2, 1, 2), (1, 2, 2, 4), 3, 0.2)
SIZES = [(90, 70), (5, 130), (130, 5), (64, 64)]


def run(swin: Swin, image: torch.Tensor) -> list[torch.Tensor]:
    maps = [swin.stem(image)]
    for stage in swin.stages:
        maps.append(stage(maps[-1]))
    return maps[1:]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [(90, 70), (5, 130), (130, 5), (64, 64)])
def test_prediction_by_strips_equals_the_plain_form(batch, size, dtype, monkeypatch):
    monkeypatch.setattr("semask.acceleration.swin.TOKENS", 50)  # one row of windows at once, or two
    swin, image = Swin(SMALL).to(dtype).eval(), torch.randn(batch, 3, *size, dtype=dtype)
    for parameter in swin.parameters():
        nn.init.normal_(parameter, std=0.3)
    with torch.inference_mode():
        plain = run(swin, image)
        predicted = run(accelerate(swin), image)
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-12, torch.bfloat16: 0.2}[dtype]
    for ours, expected in zip(predicted, plain, strict=True):
        torch.testing.assert_close(ours, expected, atol=tolerance * expected.std().item(), rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_training_equals_the_plain_form(size):
    swin, image = Swin(SMALL).double().train(), torch.randn(2, 3, *size).double()
    for parameter in swin.parameters():
        nn.init.normal_(parameter, std=0.3)
    gradients = []
    for _ in range(2):
        torch.manual_seed(1)  # stochastic depth
        maps = run(swin, image)
        gradients.append(torch.autograd.grad(sum(x.sin().sum() for x in maps), list(swin.parameters())))
        accelerate(swin)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_equals_the_plain_form(size, dtype):
    attention, x = WindowAttention(8, heads=2, window=4, shift=2).to(dtype), torch.randn(2, *size, 8, dtype=dtype)
    nn.init.normal_(attention.relative_position_bias_table)
    results = []
    for _ in range(2):
        y = attention(x)
        results.append((y, *torch.autograd.grad(y.sin().sum(), list(attention.parameters()))))
        accelerate(attention)
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)


def test_only_the_result_is_as_large_as_the_map(largest_tensor):
    block = accelerate(Block(8, heads=2, window=4, shift=2, drop_path=0.0)).eval()
    x = torch.randn(1, 256, 256, 8)
    with torch.inference_mode(), largest_tensor:
        block(x)
    assert largest_tensor.values == x.numel()
    with torch.inference_mode(), largest_tensor, plain(block):
        block(x)
    assert largest_tensor.values > x.numel()


@pytest.mark.parametrize("name", ["attention", "mlp", "norm1", "norm2", "attention.qkv", "mlp.1"])
def test_hooks_are_heard(name):
    block, heard = accelerate(Block(4, heads=1, window=2, shift=1, drop_path=0.0)).eval(), []
    block.get_submodule(name).register_forward_hook(lambda *_: heard.append(1))
    with torch.inference_mode():
        block(torch.randn(1, 5, 5, 4))
    assert heard


def test_an_attention_of_ones_own_is_called():
    block, x = Block(4, heads=1, window=2, shift=0, drop_path=0.0).eval(), torch.randn(1, 5, 5, 4)
    block.attention = nn.Linear(4, 4)
    with torch.inference_mode():
        expected = block(x)
        torch.testing.assert_close(accelerate(block)(x), expected)
    assert type(block) is FastBlock
