import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from semask import PixelLoss
from semask.acceleration.kernels import MLP, Linear, by_slices, norm_linear, onednn, predicts, recorded, sliced
from semask.builder import build


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 4, 7), (1, 7)])
def test_linear_equals_torch(shape, bias):
    layer, x = Linear(7, 11, bias=bias), torch.randn(shape, requires_grad=True)
    expected = F.linear(x, layer.weight, layer.bias)
    y = layer(x)
    torch.testing.assert_close(y, expected)
    slope = torch.randn_like(y)
    parameters = [x, *layer.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(y, parameters, slope), torch.autograd.grad(expected, parameters, slope), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)


def test_linear_of_a_view_that_is_not_contiguous():
    layer, x = Linear(6, 4), torch.randn(2, 6, 5, 3).permute(0, 2, 3, 1)[:, 1:4]
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grad", [True, False])
def test_mlp_equals_torch(dtype, grad):
    mlp, norm, x = MLP(8, 32).to(dtype), nn.LayerNorm(8).to(dtype), torch.randn(3, 5, 8, dtype=dtype)
    first, _, second = mlp
    expected = F.linear(F.gelu(F.linear(norm(x), first.weight, first.bias)), second.weight, second.bias)
    with torch.set_grad_enabled(grad):
        y = mlp(x, norm=norm)
    tolerance = 0.02 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(y, expected, atol=tolerance, rtol=tolerance)
    if grad:
        ours, theirs = (torch.autograd.grad(z.sum(), [*mlp.parameters(), *norm.parameters()]) for z in (y, expected))
        torch.testing.assert_close(ours, theirs, atol=50 * tolerance, rtol=tolerance)


@pytest.mark.parametrize("frozen", [(), ("norm",), ("linear",), ("x",), ("x", "norm"), ("x", "norm", "linear")])
def test_norm_and_linear_equal_torch(frozen):
    x, norm, linear = torch.randn(2, 5, 6, 8).permute(0, 2, 1, 3), nn.LayerNorm(8, eps=0.1), Linear(8, 3)
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
        slope = torch.randn_like(y)
        torch.testing.assert_close(torch.autograd.grad(y, leaves, slope), torch.autograd.grad(expected, leaves, slope))


def test_norm_and_linear_keep_nothing_but_their_input():
    kept = []
    x, norm, linear = torch.randn(9, 8, requires_grad=True), nn.LayerNorm(8), Linear(8, 3)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        norm_linear(norm, linear, x)
    assert [t.data_ptr() for t in kept if t.numel() == x.numel()] == [x.data_ptr()]


def test_autocast_and_frozen_layers():
    layer, x = Linear(4, 4), torch.randn(3, 4)
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
    mlp, norm, seen = MLP(4, 8), nn.LayerNorm(4), []
    for name, module in {"norm": norm, "first": mlp[0], "gelu": mlp[1], "second": mlp[2]}.items():
        module.register_forward_hook(lambda *_, name=name: seen.append(name))
    with torch.set_grad_enabled(grad):
        mlp(torch.randn(2, 4), norm=norm)
    assert seen == ["norm", "first", "gelu", "second"]


@pytest.mark.parametrize("grad", [True, False])
def test_replaced_layers_are_called(grad):
    mlp, norm, x = MLP(4, 8), nn.LayerNorm(4), torch.randn(2, 4)
    mlp[0] = nn.Sequential(nn.Linear(4, 8), nn.ReLU())  # what an adapter might put there
    mlp[1] = nn.GELU(approximate="tanh")
    with torch.set_grad_enabled(grad):
        y = mlp(x, norm=norm)
        hidden = F.gelu(mlp[0](norm(x)), approximate="tanh")
        torch.testing.assert_close(y, F.linear(hidden, mlp[2].weight, mlp[2].bias))


def test_a_layer_that_draws_is_not_computed_again():
    mlp, norm, calls = MLP(4, 8), nn.LayerNorm(4), []
    mlp[2] = nn.Sequential(Linear(8, 4), nn.Dropout(0.5))
    mlp[2][1].register_forward_hook(lambda *_: calls.append(1))
    mlp(torch.randn(2, 4), norm=norm).sum().backward()
    assert calls == [1]


def test_pruned_layers_train():
    mlp, norm, x = MLP(4, 8), nn.LayerNorm(4), torch.randn(2, 4)
    for layer in (mlp[0], mlp[2]):
        prune.l1_unstructured(layer, "weight", 0.5)
    for _ in range(2):
        mlp(x, norm=norm).sum().backward()


def test_switched_off():
    layer, x = Linear(4, 4), torch.randn(3, 4)
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
from semask.acceleration.kernels import Linear
with torch.inference_mode():
    print(Linear(8, 8).bfloat16()(torch.randn(4, 8).bfloat16()).dtype)
"""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "torch.bfloat16"


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("length", [1, 3, 10, 100])
def test_slices(length, dim):
    x, lengths = torch.randn(10, 10, 4), []

    def function(x):
        lengths.append(x.shape[dim])
        return x * 2, x.sum(-1)

    doubled, sums = by_slices(function, x, length=length, dim=dim)
    assert doubled.equal(2 * x)
    assert sums.equal(x.sum(-1))
    assert max(lengths) <= length
    assert sum(lengths) == 10


def test_slices_are_for_prediction_on_a_cpu():
    x = torch.randn(4, 4)
    assert not sliced(x)
    with torch.inference_mode():
        assert sliced(x)
        assert not sliced(x.to("meta"))


def test_what_is_recorded_sees_no_slices():
    x = torch.randn(10, 4)
    assert not predicts(x)
    assert not recorded()
    states = []

    def function(x):
        states.append((recorded(), predicts(x)))
        return x + 1

    with torch.no_grad():
        assert predicts(x)
        assert not predicts(x.to("meta"))
        torch.jit.trace(function, x)
    assert (True, False) in states


def test_compiled_without_a_break_and_once_for_all_sizes():
    torch.compiler.reset()
    model = build("swin_nano", num_classes=5, channels=64, semantic_window=(3, None, 2, None)).eval()
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=count, dynamic=True, fullgraph=True)
    with torch.no_grad():
        for size in [(320, 352), (321, 415), (384, 500)]:
            image = torch.randn(1, 3, *size)
            torch.testing.assert_close(compiled(image).logits, model(image).logits, atol=1e-5, rtol=1e-4)
    assert len(graphs) == 1


@pytest.mark.parametrize("decoder", ["fpn", "maskformer"])
def test_compiled_part_by_part_once_for_all_sizes(decoder):
    torch.compiler.reset()
    model = build("swin_nano", decoder, num_classes=5, channels=64, semantic_window=(3, None, 2, None)).eval()
    images = [torch.randn(1, 3, *size) for size in [(321, 353), (322, 415), (387, 500), (512, 512)]]
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    with torch.no_grad():
        expected = [model(image).prediction[:2] for image in images]
        model.compile(backend=count, fullgraph=True)
        made = []
        for image, wanted in zip(images, expected, strict=True):
            for found, right in zip(model(image).prediction[:2], wanted, strict=True):
                if torch.is_tensor(right):
                    torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-4)
            made.append(len(graphs))
    assert made[0] == made[-1] == 2 * 4 + 4 + 1  # blocks with and without shift, semantic layers, decoder


def test_compiled_training_step():
    torch.compiler.reset()
    model = build("swin_nano", num_classes=5, channels=16, drop_path=0.0)
    model.decoder.dropout.p = 0.0
    for layer in model.encoder.semantic_layers:
        for attention in layer.attentions:
            attention.dropout.p = 0.0
            nn.init.ones_(attention.scale)
    compiled = torch.compile(model, backend="aot_eager", dynamic=True, fullgraph=True)
    image, label = torch.randn(2, 3, 64, 96), torch.randint(5, (2, 64, 96))
    gradients = []
    for network in (model, compiled):
        PixelLoss()(network(image), label).total.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        model.zero_grad()
    for eager, other in zip(*gradients, strict=True):
        torch.testing.assert_close(eager, other, atol=1e-4, rtol=1e-3)
