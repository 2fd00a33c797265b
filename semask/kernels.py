"""The same numbers sooner and in less memory.

`torch.compile` and exporters see plain torch operations. In eager mode linear layers run in oneDNN on a CPU, and in
prediction what has no reason to be whole is computed slice by slice: docs/benchmarks.md has the numbers.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

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

    In prediction the GELU is part of oneDNN's first layer; in training it is computed again in the backward pass, since
    what it gives is the largest tensor of a transformer's block.

    Args:
        channels: Channels C.
        hidden: Channels between the two layers.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(Linear(channels, hidden), nn.GELU(), Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        first, gelu, second = self
        y: Tensor
        if predicts(x) and type(first) is Linear and onednn(x, first.weight):
            y = second(onednn_linear(x, first.weight, first.bias, activation="gelu"))
        elif recorded() or not torch.is_grad_enabled():
            y = second(gelu(first(x)))
        else:
            y = checkpoint(lambda h: second(gelu(h)), first(x), use_reentrant=False, preserve_rng_state=False)
        return y


class OneDNNLinear(torch.autograd.Function):
    """A linear layer by oneDNN, forward and for the gradient of its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute x weight^T + bias for x [..., C], weight [C', C], bias [C']."""
        ctx.save_for_backward(x, weight)
        return onednn_linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Compute the gradients of input, weight and bias."""
        x, weight = ctx.saved_tensors
        rows = slope.reshape(-1, slope.shape[-1])
        return (
            onednn_linear(slope, weight.t(), None) if ctx.needs_input_grad[0] else None,
            rows.t() @ x.reshape(-1, x.shape[-1]) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
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
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
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
