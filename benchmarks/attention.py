"""Global semantic attention alone, against the number of tokens: the sides of `run.py attention`.

"plain" holds the N x N weights, as the published code does; "ours" is `semask.acceleration.semantic.attend`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import harness
import torch
from torch import Tensor

from semask.acceleration.semantic import attend


@dataclass(frozen=True)
class AttentionCase:
    """What is measured.

    Attributes:
        tokens: Tokens N that attend to each other.
        training: Forward and backward, or forward without gradients.
        classes: Width K of query and key.
        channels: Width C of the value.
        device: cpu or cuda.
    """

    tokens: int
    training: bool
    classes: int = 150
    channels: int = 384
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Tokens and what is computed."""
        return f"{self.tokens:,}, forward{', backward' if self.training else ''}"


def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.softmax(query @ key.transpose(-2, -1), dim=-1) @ value


def build(case: AttentionCase, *, form: Callable[[Tensor, Tensor, Tensor], Tensor]) -> harness.Step:
    tensors = [
        (0.3 * torch.randn(1, case.tokens, width, device=case.device)).requires_grad_(case.training)
        for width in (case.classes, case.classes, case.channels)
    ]

    def step() -> None:
        with torch.set_grad_enabled(case.training):
            mixed = form(*tensors)
        if case.training:
            torch.autograd.grad(mixed.sum(), tensors)

    return step


FORMS: dict[str, harness.Builder] = {"plain": partial(build, form=plain), "ours": partial(build, form=attend)}
