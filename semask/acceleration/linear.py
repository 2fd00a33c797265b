"""Linear layers by oneDNN on a CPU, and what need not be kept for the backward pass around them.

In float32 torch calls MKL, which takes 10 to 35 % longer on AMD's processors.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from semask.acceleration.guards import predicts, recorded, untouched


class FastLinear(nn.Linear):
    """A linear layer, [..., C] -> [..., C'], by oneDNN where it can be called."""

    def forward(self, x: Tensor) -> Tensor:
        if not onednn(x, self.weight):
            return super().forward(x)
        if predicts(x):
            return onednn_linear(x, self.weight, self.bias)
        y: Tensor = OneDNNLinear.apply(x, self.weight, self.bias)
        return y


class FastMLP(nn.Sequential):
    """Linear, GELU, linear: [..., C] -> [..., C].

    In prediction the GELU is part of oneDNN's first layer. In training it is computed again in the backward pass, since
    its result is the largest tensor of a transformer block, and so is the norm before the MLP where it is given.
    """

    def forward(self, x: Tensor, *, norm: nn.Module | None = None) -> Tensor:
        """Apply `norm` to x [..., C], if it is given, then the three layers."""
        first, gelu, second = self
        usual = not recorded() and untouched(gelu, nn.GELU) and gelu.approximate == "none"
        if usual and predicts(x) and untouched(first, FastLinear) and onednn(x, first.weight):
            normed = x if norm is None else norm(x)
            y: Tensor = second(onednn_linear(normed, first.weight, first.bias, activation="gelu"))
            return y
        hidden = first(x) if norm is None else norm_linear(norm, first, x)  # [..., 4 C]
        if usual and torch.is_grad_enabled() and untouched(second, FastLinear):
            if onednn(hidden, second.weight):
                y = OneDNNGELULinear.apply(hidden, second.weight, second.bias)
            else:
                y = checkpoint(lambda h: second(gelu(h)), hidden, use_reentrant=False, preserve_rng_state=False)
            return y
        y = second(gelu(hidden))
        return y


def norm_linear(norm: nn.Module, linear: nn.Module, x: Tensor) -> Tensor:
    """Compute linear(norm(x)), [..., C] -> [..., C']; oneDNN's form keeps nothing but x for the backward pass."""
    if untouched(norm, nn.LayerNorm) and untouched(linear, FastLinear) and not predicts(x) and onednn(x, linear.weight):
        y: Tensor = OneDNNNormLinear.apply(x, norm.weight, norm.bias, norm.eps, linear.weight, linear.bias)
    else:
        y = linear(norm(x))
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
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of input, weight and bias."""
        x, weight = ctx.saved_tensors
        return linear_gradients(grad_output, x, weight, ctx.needs_input_grad)


class OneDNNGELULinear(torch.autograd.Function):
    """GELU and a linear layer by oneDNN; what the GELU gives is computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute gelu(x) weight^T + bias for x [..., C], weight [C', C], bias [C']."""
        ctx.save_for_backward(x, weight)
        return onednn_linear(F.gelu(x), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of input, weight and bias."""
        x, weight = ctx.saved_tensors
        inner, *others = linear_gradients(grad_output, F.gelu(x), weight, ctx.needs_input_grad)
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
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of input, scale, shift, weight and bias."""
        x, mean, deviation, scale, shift, weight = ctx.saved_tensors
        needs_x, needs_scale, needs_shift, _, needs_weight, needs_bias = ctx.needs_input_grad
        size, upstream = x.shape[-1:], (needs_x, needs_scale, needs_shift)
        normed = torch.native_layer_norm(x, size, scale, shift, ctx.eps)[0]
        inner, *others = linear_gradients(grad_output, normed, weight, (any(upstream), needs_weight, needs_bias))
        gradients = [None] * 3
        if inner is not None:
            gradients = torch.ops.aten.native_layer_norm_backward(
                inner, x, size, mean, deviation, scale, shift, upstream
            )
        return (*gradients, None, *others)


def linear_gradients(
    grad_output: Tensor, x: Tensor, weight: Tensor, needed: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Compute a linear layer's gradients of input, weight and bias, as far as they are needed."""
    rows = grad_output.reshape(-1, grad_output.shape[-1])
    return (
        onednn_linear(grad_output, weight.t(), None) if needed[0] else None,
        rows.t() @ x.reshape(-1, x.shape[-1]) if needed[1] else None,
        rows.sum(0) if needed[2] else None,
    )


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, activation: str = "none") -> Tensor:
    """Call oneDNN's linear layer, with an activation behind it."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")
    return y


def onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN's linear layer, a private interface of torch, can be called; autocast does not know of it."""
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
