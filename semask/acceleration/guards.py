"""When a faster form may take the place of the plain one: every file of this room asks here."""

from typing import TypeGuard, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def recorded() -> bool:
    """Whether operations are being compiled, traced or exported: then the plain form runs, the same at every size."""
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return traced or torch.compiler.is_compiling() or torch.compiler.is_exporting()


def predicts(x: Tensor) -> bool:
    """Whether x is a real tensor in eager mode without gradients."""
    return not torch.is_grad_enabled() and not recorded() and not x.is_meta


def sliced(x: Tensor) -> bool:
    """Whether to compute with x slice by slice: in prediction on a CPU, where caches are small and memory is slow."""
    return x.device.type == "cpu" and predicts(x)


def untouched(module: nn.Module, kind: type[M]) -> TypeGuard[M]:
    """Whether a module is of exactly this class and has no hooks, so that its result can be computed elsewhere."""
    return type(module) is kind and not module._forward_hooks and not module._forward_pre_hooks
