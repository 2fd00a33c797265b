"""Exchanging a model's plain layers for faster ones, in place, and back."""

import contextlib
from collections.abc import Collection, Iterator
from typing import TypeVar

from torch import nn

from semask.acceleration.convolution import SafeConv2d, skips_pixels
from semask.acceleration.fpn import FastSemanticFPN
from semask.acceleration.linear import FastLinear, FastMLP
from semask.acceleration.semantic import FastSemanticAttention, FastSemanticLayer
from semask.acceleration.swin import FastBlock, FastWindowAttention
from semask.decoders.fpn import SemanticFPN
from semask.encoders.swin import Block, PatchMerging, WindowAttention
from semask.semantic.attention import SemanticAttention
from semask.semantic.layer import SemanticLayer

M = TypeVar("M", bound=nn.Module)

FASTER: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "convolution": (nn.Conv2d, SafeConv2d),  # right rather than fast
    "linear": (nn.Linear, FastLinear),
    "mlp": (nn.Sequential, FastMLP),
    "block": (Block, FastBlock),
    "window_attention": (WindowAttention, FastWindowAttention),
    "semantic_attention": (SemanticAttention, FastSemanticAttention),
    "semantic_layer": (SemanticLayer, FastSemanticLayer),
    "fpn": (SemanticFPN, FastSemanticFPN),
}
"""Each optimization by name: the plain layer and the faster one, a subclass with the same parameters."""
PLAIN = {fast: slow for slow, fast in FASTER.values()}
OWNERS = (Block, PatchMerging, SemanticLayer)
"""Modules whose linear layers are exchanged; those of other libraries stay what they are."""


def accelerate(model: M, *, only: Collection[str] | None = None) -> M:
    """Exchange plain layers of a model for faster ones, in place; results stay numerically the same up to rounding.

    Parameters, hooks and names in the state dict stay. Layers of other classes, subclasses too, and everything that is
    compiled stay as they are. Second derivatives are refused by the faster layers: `plain` gives the plain ones back.

    Args:
        model: Any model; it is changed.
        only: Names of `FASTER` to exchange; None for all.

    Returns:
        The model.

    Raises:
        ValueError: If there is no optimization of a name.

    >>> from semask.encoders.swin import Block
    >>> type(accelerate(Block(8, heads=1, window=3, shift=0, drop_path=0.0))).__name__
    'FastBlock'
    """
    names = FASTER.keys() if only is None else only
    if unknown := set(names) - FASTER.keys():
        raise ValueError(f"no optimization {', '.join(sorted(unknown))}: choose from {', '.join(FASTER)}")
    _exchange(model, dict(FASTER[name] for name in names), owned=False)
    return model


def _exchange(module: nn.Module, faster: dict[type[nn.Module], type[nn.Module]], *, owned: bool) -> None:
    if module._compiled_call_impl is not None or hasattr(module, "_orig_mod"):  # compiled, by either way
        return
    kind = type(module)
    if kind in faster and _is_usual(module, owned=owned):
        module.__class__ = faster[kind]
    owned = owned or isinstance(module, OWNERS)
    for child in module.children():
        _exchange(child, faster, owned=owned)


def _is_usual(module: nn.Module, *, owned: bool) -> bool:
    """Whether a module of one of torch's classes is what is exchanged; modules of ours always are."""
    if type(module) is nn.Conv2d:
        return skips_pixels(module)
    if type(module) is nn.Linear:
        return owned
    return type(module) is not nn.Sequential or (owned and len(list(module.children())) == 3)


@contextlib.contextmanager
def plain(model: M) -> Iterator[M]:
    """Give the plain layers of an accelerated model back, in place, as long as the context lasts: for exporters."""
    fast = [(module, type(module)) for module in model.modules() if type(module) in PLAIN]
    for module, kind in fast:
        module.__class__ = PLAIN[kind]
    try:
        yield model
    finally:
        for module, kind in fast:
            module.__class__ = kind
