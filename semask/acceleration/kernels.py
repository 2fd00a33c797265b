"""The same numbers sooner and in less memory.

`torch.compile` and exporters see plain torch operations. In eager mode linear layers run in oneDNN on a CPU, and in
prediction what has no reason to be whole is computed slice by slice: docs/benchmarks.md has the numbers.
"""

from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

M = TypeVar("M", bound=nn.Module)

TOKENS = 4096
"""Tokens that are computed at once: few enough that what an MLP makes of them stays in a processor's cache."""


def recorded() -> bool:
    """Whether operations are being compiled, traced or exported: then no branch may depend on an image's size."""
    return torch.compiler.is_compiling() or exported()


def exported() -> bool:
    """Whether operations are traced or exported for another program."""
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return traced or torch.compiler.is_exporting()


def predicts(x: Tensor) -> bool:
    """Whether x is a real tensor in eager mode without gradients."""
    return not torch.is_grad_enabled() and not recorded() and not x.is_meta


def sliced(x: Tensor) -> bool:
    """Whether to compute with x slice by slice: in prediction on a CPU, where caches are small and memory is slow."""
    return x.device.type == "cpu" and predicts(x)


class Linear(nn.Linear):
    """A linear layer, [..., C] -> [..., C'], by the quickest kernel.

    On a CPU that is oneDNN's: the MKL that torch calls in float32 takes 10 to 35 % longer on AMD's processors.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not onednn(x, self.weight):
            return super().forward(x)
        if predicts(x):
            return onednn_linear(x, self.weight, self.bias)
        y: Tensor = OneDNNLinear.apply(x, self.weight, self.bias)
        return y


class MLP(nn.Sequential):
    """Linear, GELU, linear: [..., C] -> [..., C].

    On a CPU the GELU is part of oneDNN's first layer in prediction; in training it is computed again in the backward
    pass, since what it gives is the largest tensor of a transformer's block.

    Args:
        channels: Channels C.
        hidden: Channels between the two layers.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(Linear(channels, hidden), nn.GELU(), Linear(hidden, channels))

    def forward(self, x: Tensor, *, norm: nn.LayerNorm) -> Tensor:  # type: ignore[override]
        """Normalise x [..., C] by the block's `norm`, then apply the three."""
        first, gelu, second = self
        usual = untouched(gelu, nn.GELU) and gelu.approximate == "none"
        y: Tensor
        if usual and predicts(x) and untouched(first, Linear) and onednn(x, first.weight):
            y = second(onednn_linear(norm(x), first.weight, first.bias, activation="gelu"))
            return y
        hidden = norm_linear(norm, first, x)
        if usual and torch.is_grad_enabled() and not recorded() and untouched(second, Linear):
            if onednn(hidden, second.weight):
                y = OneDNNGELULinear.apply(hidden, second.weight, second.bias)
            else:
                y = checkpoint(lambda h: second(gelu(h)), hidden, use_reentrant=False, preserve_rng_state=False)
            return y
        y = second(gelu(hidden))
        return y


def norm_linear(norm: nn.Module, linear: nn.Module, x: Tensor) -> Tensor:
    """Compute linear(norm(x)), [..., C] -> [..., C']; oneDNN's form keeps nothing but x for the backward pass."""
    if untouched(norm, nn.LayerNorm) and untouched(linear, Linear) and not predicts(x) and onednn(x, linear.weight):
        y: Tensor = OneDNNNormLinear.apply(x, norm.weight, norm.bias, norm.eps, linear.weight, linear.bias)
    else:
        y = linear(norm(x))
    return y


def untouched(module: nn.Module, kind: type[M]) -> TypeGuard[M]:
    """Whether a module is what it was, without hooks, so that its result can be computed elsewhere."""
    return type(module) is kind and not module._forward_hooks and not module._forward_pre_hooks


class OneDNNLinear(torch.autograd.Function):
    """A linear layer by oneDNN, forward and for the gradient of its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute x weight^T + bias for x [..., C], weight [C', C], bias [C']."""
        ctx.save_for_backward(x, weight)
        return onednn_linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of input, weight and bias."""
        x, weight = ctx.saved_tensors
        return linear_gradients(slope, x, weight, ctx.needs_input_grad)


class OneDNNGELULinear(torch.autograd.Function):
    """GELU and a linear layer by oneDNN; what the GELU gives is computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute gelu(x) weight^T + bias for x [..., C], weight [C', C], bias [C']."""
        ctx.save_for_backward(x, weight)
        return onednn_linear(F.gelu(x), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of input, weight and bias."""
        x, weight = ctx.saved_tensors
        inner, *others = linear_gradients(slope, F.gelu(x), weight, ctx.needs_input_grad)
        return (None if inner is None else torch.ops.aten.gelu_backward(inner, x), *others)


class OneDNNNormLinear(torch.autograd.Function):
    """LayerNorm and a linear layer by oneDNN; what the norm gives is computed again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        """Compute norm(x) weight^T + bias for x [..., C], the norm's scale and shift [C], weight [C', C], bias [C']."""
        normed, mean, deviation = torch.native_layer_norm(x, x.shape[-1:], scale, shift, eps)
        ctx.eps = eps
        ctx.save_for_backward(x, mean, deviation, scale, shift, weight)
        return onednn_linear(normed, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of input, scale, shift, weight and bias."""
        x, mean, deviation, scale, shift, weight = ctx.saved_tensors
        needs_x, needs_scale, needs_shift, _, needs_weight, needs_bias = ctx.needs_input_grad
        size, upstream = x.shape[-1:], (needs_x, needs_scale, needs_shift)
        normed = torch.native_layer_norm(x, size, scale, shift, ctx.eps)[0]
        inner, *others = linear_gradients(slope, normed, weight, (any(upstream), needs_weight, needs_bias))
        gradients = [None] * 3
        if inner is not None:
            gradients = torch.ops.aten.native_layer_norm_backward(
                inner, x, size, mean, deviation, scale, shift, upstream
            )
        return (*gradients, None, *others)


def linear_gradients(
    slope: Tensor, x: Tensor, weight: Tensor, needed: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Compute a linear layer's gradients of input, weight and bias, as far as they are needed."""
    rows = slope.reshape(-1, slope.shape[-1])
    return (
        onednn_linear(slope, weight.t(), None) if needed[0] else None,
        rows.t() @ x.reshape(-1, x.shape[-1]) if needed[1] else None,
        rows.sum(0) if needed[2] else None,
    )


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, activation: str = "none") -> Tensor:
    """Call oneDNN's linear layer, with an activation behind it."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")
    return y


def onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN's linear layer can be called, and is any better; autocast does not know of it."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype
        and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and predicts(x)))
        and not recorded()
        and not torch.is_autocast_enabled("cpu")
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and (x.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def by_slices(
    function: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, *, length: int, dim: int = 0
) -> tuple[Tensor, ...]:
    """Apply a function to slices of a dimension in turn.

    Args:
        function: Treats entries of the dimension by themselves, or groups of `length` of them; what it gives has the
            same entries there.
        x: Its argument.
        length: Entries at once.
        dim: The dimension.

    Returns:
        function(x).
    """
    n = x.shape[dim]
    results: list[Tensor] = []
    for start in range(0, n, length):
        size = min(length, n - start)
        parts = function(x.narrow(dim, start, size))
        results = results or [part.new_empty(*part.shape[:dim], n, *part.shape[dim + 1 :]) for part in parts]
        for result, part in zip(results, parts, strict=True):
            result.narrow(dim, start, size).copy_(part)
    return tuple(results)
