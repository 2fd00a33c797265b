"""Models that are quickly exported, and how their files are compared with them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from semask import SeMask
from semask.encoders import SemanticEncoder, Swin
from semask.encoders.swin import SwinSize
from semask.exporters.graph import Graph

SIZES = [(1, 64, 64), (2, 97, 130), (1, 288, 33)]
"""Batch, height and width: none is what a graph is recorded with; all windows, and maps of one cell."""


def small(decoder: str = "fpn", *, seed: int = 0, **settings) -> SeMask:
    """A model with a block of every kind, whose weights are far from their first values, of which many are 0 or 1."""
    torch.manual_seed(seed)
    made: dict[str, Any] = {"num_classes": 5, "channels": 32, "queries": 7} | settings
    made |= {"decoder_layers": 1} if decoder.startswith("mask") else {}
    swin = Swin(SwinSize(channels=16, depths=(2, 1, 1, 1), heads=(1, 2, 2, 2), window=7, drop_path=0.1))
    encoder = SemanticEncoder(swin, num_classes=made["num_classes"], semantic_window=(7, 7, None, None))
    model = SeMask(encoder, decoder, **made).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.1 if parameter.dim() == 1 else max(float(parameter.std()), 0.02)
            parameter.add_(spread * torch.randn_like(parameter))
    return model


def smooth(count: int, size: tuple[int, int]) -> Tensor:
    """Normalised images [count, 3, H, W] that have large parts, as photographs do."""
    coarse = torch.randn(count, 3, 9, 11, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")


def differences(model: SeMask, run: Callable[[Tensor], Sequence[Tensor]], sizes: Iterable = SIZES) -> list[float]:
    """Largest difference of an output at each size, in standard deviations of the output."""
    found = []
    for batch, height, width in sizes:
        image = smooth(batch, (height, width))
        with torch.no_grad():
            expected, results = Graph(model)(image), run(image)
        assert [tuple(x.shape) for x in results] == [tuple(x.shape) for x in expected]
        found.append(max(float((a - b).abs().max() / b.std()) for a, b in zip(results, expected, strict=True)))
    return found


def typical_difference(model: SeMask, run: Callable[[Tensor], Sequence[Tensor]]) -> float:
    """Mean difference of the scores, in their standard deviations."""
    image = smooth(2, (97, 130))
    with torch.no_grad():
        expected, result = Graph(model)(image)[-1], run(image)[-1]
    return float((result - expected).abs().mean() / expected.std())
