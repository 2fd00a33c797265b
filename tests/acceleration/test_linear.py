import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from semask.acceleration.linear import FastLinear, FastMLP, norm_linear, onednn


def mlp(channels: int, hidden: int) -> FastMLP:
    return FastMLP(FastLinear(channels, hidden), nn.GELU(), FastLinear(hidden, channels))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 4, 7), (1, 7)])
def test_linear_equals_torch(shape, bias):
    layer, x = FastLinear(7, 11, bias=bias), torch.randn(shape, requires_grad=True)
    expected = F.linear(x, layer.weight, layer.bias)
    y = layer(x)
    torch.testing.assert_close(y, expected)
    grad_output = torch.randn_like(y)
    parameters = [x, *layer.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(y, parameters, grad_output),
        torch.autograd.grad(expected, parameters, grad_output),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)


def test_linear_of_a_view_that_is_not_contiguous():
    layer, x = FastLinear(6, 4), torch.randn(2, 6, 5, 3).permute(0, 2, 3, 1)[:, 1:4]
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grad", [True, False])
def test_mlp_equals_torch(dtype, grad):
    block, norm, x = mlp(8, 32).to(dtype), nn.LayerNorm(8).to(dtype), torch.randn(3, 5, 8, dtype=dtype)
    first, _, second = block
    expected = F.linear(F.gelu(F.linear(norm(x), first.weight, first.bias)), second.weight, second.bias)
    with torch.set_grad_enabled(grad):
        y = block(x, norm=norm)
    tolerance = 0.02 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(y, expected, atol=tolerance, rtol=tolerance)
    if grad:
        ours, theirs = (torch.autograd.grad(z.sum(), [*block.parameters(), *norm.parameters()]) for z in (y, expected))
        torch.testing.assert_close(ours, theirs, atol=50 * tolerance, rtol=tolerance)


@pytest.mark.parametrize("frozen", [(), ("norm",), ("linear",), ("x",), ("x", "norm"), ("x", "norm", "linear")])
def test_norm_and_linear_equal_torch(frozen):
    x, norm, linear = torch.randn(2, 5, 6, 8).permute(0, 2, 1, 3), nn.LayerNorm(8, eps=0.1), FastLinear(8, 3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x.requires_grad_("x" not in frozen)
    norm.requires_grad_("norm" not in frozen)
    linear.requires_grad_("linear" not in frozen)
    y, expected = norm_linear(norm, linear, x), F.linear(norm(x), linear.weight, linear.bias)
    torch.testing.assert_close(y, expected)
    leaves = [leaf for leaf in (x, *norm.parameters(), *linear.parameters()) if leaf.requires_grad]
    assert y.requires_grad == bool(leaves)
    if leaves:
        grad_output = torch.randn_like(y)
        torch.testing.assert_close(
            torch.autograd.grad(y, leaves, grad_output), torch.autograd.grad(expected, leaves, grad_output)
        )


def test_norm_and_linear_keep_nothing_but_their_input():
    kept = []
    x, norm, linear = torch.randn(9, 8, requires_grad=True), nn.LayerNorm(8), FastLinear(8, 3)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        norm_linear(norm, linear, x)
    assert [t.data_ptr() for t in kept if t.numel() == x.numel()] == [x.data_ptr()]


def test_autocast_and_frozen_layers():
    layer, x = FastLinear(4, 4), torch.randn(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        assert not onednn(x, layer.weight)
    layer.requires_grad_(False)
    assert not layer(x).requires_grad
    x.requires_grad_()
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(3, 4))


@pytest.mark.parametrize("grad", [True, False])
def test_hooks_are_heard(grad):
    block, norm, seen = mlp(4, 8), nn.LayerNorm(4), []
    for name, module in {"norm": norm, "first": block[0], "gelu": block[1], "second": block[2]}.items():
        module.register_forward_hook(lambda *_, name=name: seen.append(name))
    with torch.set_grad_enabled(grad):
        block(torch.randn(2, 4), norm=norm)
    assert seen == ["norm", "first", "gelu", "second"]


@pytest.mark.parametrize("grad", [True, False])
def test_replaced_layers_are_called(grad):
    block, norm, x = mlp(4, 8), nn.LayerNorm(4), torch.randn(2, 4)
    block[0] = nn.Sequential(nn.Linear(4, 8), nn.ReLU())  # what an adapter might put there
    block[1] = nn.GELU(approximate="tanh")
    with torch.set_grad_enabled(grad):
        y = block(x, norm=norm)
        hidden = F.gelu(block[0](norm(x)), approximate="tanh")
        torch.testing.assert_close(y, F.linear(hidden, block[2].weight, block[2].bias))


def test_a_layer_that_draws_is_not_computed_again():
    block, norm, calls = mlp(4, 8), nn.LayerNorm(4), []
    block[2] = nn.Sequential(FastLinear(8, 4), nn.Dropout(0.5))
    block[2][1].register_forward_hook(lambda *_: calls.append(1))
    block(torch.randn(2, 4), norm=norm).sum().backward()
    assert calls == [1]


def test_pruned_layers_train():
    block, norm, x = mlp(4, 8), nn.LayerNorm(4), torch.randn(2, 4)
    for layer in (block[0], block[2]):
        prune.l1_unstructured(layer, "weight", 0.5)
    for _ in range(2):
        block(x, norm=norm).sum().backward()


def test_switched_off():
    layer, x = FastLinear(4, 4), torch.randn(3, 4)
    assert onednn(x, layer.weight)
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        assert not onednn(x, layer.weight)
    finally:
        torch._C._set_mkldnn_enabled(enabled)


def test_bfloat16_without_its_instructions():
    code = """
import torch
from semask.acceleration.linear import FastLinear
with torch.inference_mode():
    print(FastLinear(8, 8).bfloat16()(torch.randn(4, 8).bfloat16()).dtype)
"""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "torch.bfloat16"


class Without:
    """An operator library of torch that lacks what it had."""


@pytest.mark.parametrize("grad", [True, False])
def test_without_the_private_operator(grad, monkeypatch):
    layer, block, norm, x = FastLinear(4, 8), mlp(4, 8), nn.LayerNorm(4), torch.randn(2, 4, requires_grad=True)
    with torch.set_grad_enabled(grad):
        expected = layer(x), block(x, norm=norm), norm_linear(norm, layer, x)
        monkeypatch.setattr(torch.ops, "mkldnn", Without())
        assert not onednn(x, layer.weight)
        found = layer(x), block(x, norm=norm), norm_linear(norm, layer, x)
    torch.testing.assert_close(found, expected)
    if grad:
        leaves = [x, *layer.parameters(), *block.parameters(), *norm.parameters()]
        gradients = torch.autograd.grad(sum(y.sin().sum() for y in found), leaves)
        monkeypatch.undo()
        torch.testing.assert_close(gradients, torch.autograd.grad(sum(y.sin().sum() for y in expected), leaves))
