"""The same numbers sooner and in less memory, when nothing is to be differentiated.

Training, `torch.compile` and exporters see plain torch operations. In eager prediction linear layers run in oneDNN on a
CPU, and what has no reason to be whole is computed slice by slice: docs/benchmarks.md has the numbers.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


class Linear(nn.Linear):
    """A linear layer, [..., C] -> [..., C'], with an optional GELU behind it.

    oneDNN is 10 to 35 % faster than the MKL that torch calls in float32 on AMD's processors, and takes the GELU along.

    Args:
        in_channels: Channels C.
        out_channels: Channels C'.
        bias: Whether to add a bias.
        gelu: Whether GELU follows.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True, gelu: bool = False) -> None:
        super().__init__(in_channels, out_channels, bias=bias)
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        if onednn(x, self.weight):
            activation = "gelu" if self.gelu else "none"
            y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, activation, [], "none")
            return y
        y = super().forward(x)
        return F.gelu(y) if self.gelu else y


def onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN's linear layer can be called; autocast does not know of it."""
    return (
        x.device.type == "cpu"
        and predicts(x)
        and x.dtype == weight.dtype
        and x.dtype in (torch.float32, torch.bfloat16)
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def by_slices(function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor | None, length: int) -> tuple[Tensor, ...]:
    """Apply a function to slices of the first dimension in turn, when predicting.

    Args:
        function: Treats each entry of the first dimension by itself.
        tensors: Its arguments, each [n, ...]; None stays None.
        length: Entries at once.

    Returns:
        function(*tensors), each [n, ...].
    """
    first = tensors[0]
    assert first is not None
    if not predicts(first) or len(first) <= length:
        return function(*tensors)
    results: list[Tensor] = []
    for start in range(0, len(first), length):
        rows = slice(start, start + length)
        parts = function(*(tensor if tensor is None else tensor[rows] for tensor in tensors))
        results = results or [part.new_empty(len(first), *part.shape[1:]) for part in parts]
        for result, part in zip(results, parts, strict=True):
            result[rows] = part
    return tuple(results)
