"""Models that are quickly exported, and how their files are compared with them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semask import SeMask
from semask.builder import build
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.swin import Swin, SwinSize
from semask.engines.graph import Graph

SIZES = [(1, 64, 64), (2, 97, 130), (1, 288, 33)]
"""Batch, height and width: none is what a graph is recorded with; all windows, and maps of one cell."""


def small(decoder: str = "fpn", *, seed: int = 0, **settings) -> SeMask:
    """A model with a block of every kind, whose weights are far from their first values, of which many are 0 or 1."""
    torch.manual_seed(seed)
    made: dict[str, Any] = {"num_classes": 5, "channels": 32, "queries": 7} | settings
    made |= {"decoder_layers": 1} if decoder.startswith("mask") else {}
    swin = Swin(SwinSize(channels=16, depths=(2, 1, 1, 1), heads=(1, 2, 2, 2), window=7, drop_path=0.1))
    encoder = SemanticEncoder(swin, num_classes=made["num_classes"], semantic_window=(7, 7, None, None))
    model = build(encoder, decoder, **made).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.1 if parameter.dim() == 1 else max(float(parameter.std()), 0.02)
            parameter.add_(spread * torch.randn_like(parameter))
    return model


def smooth(count: int, size: tuple[int, int]) -> Tensor:
    """Normalized images [count, 3, H, W] that have large parts, as photographs do."""
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


def in_16_bits(activations: NDArray[np.uint8], weights: NDArray[np.int8]) -> NDArray[np.int32]:
    """Products [M, N] of bytes [M, K] and [K, N], K even, as a processor without VNNI adds them: pairs saturate."""
    products = activations.astype(np.int32)[:, :, None] * weights.astype(np.int32)  # [M, K, N]
    pairs = products[:, 0::2] + products[:, 1::2]
    return np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=1, dtype=np.int32)


def saturates(weights: NDArray[np.int8]) -> bool:
    """Whether products of weights [K, N] with bytes go wrong in 16 bits, at their worst: with all of 255."""
    even = np.pad(weights, ((0, len(weights) % 2), (0, 0)))
    worst = np.where(even > 0, 255, 0), np.where(even < 0, 255, 0), np.full_like(even, 255, dtype=np.int32)
    bytes_ = np.concatenate([x.T for x in worst]).astype(np.uint8)  # [3 N, K]: for each output the worst of each sign
    exact = bytes_.astype(np.int32) @ even.astype(np.int32)
    return not np.array_equal(in_16_bits(bytes_, even), exact)
