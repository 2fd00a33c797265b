"""The semantic layer in less memory: no N x N weights of the whole map, and slices of the map in prediction."""

import torch
import torch.nn.functional as F
from torch import Size, Tensor

from semask.acceleration.guards import predicts, recorded, sliced
from semask.acceleration.slices import TOKENS, by_slices
from semask.acceleration.windows import crop, pad_to_windows
from semask.semantic.attention import SemanticAttention
from semask.semantic.layer import SemanticLayer
from semask.semantic.windows import merge, partition, windows_along

WEIGHTS = 2**20
"""Attention weights of an image, N x N, up to which they are held at once."""


class FastSemanticAttention(SemanticAttention):
    """Semantic attention that holds no N x N weights for many tokens."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Compute softmax(query key^T) value: [B, N, K], [B, N, K], [B, N, C] -> [B, N, C]."""
        return attend(query, key, value) if not recorded() else super().attend(query, key, value)


class FastSemanticLayer(SemanticLayer):
    """The semantic layer, in prediction some rows of windows at a time, or image by image where it is global."""

    def forward(self, x: Tensor, *, with_prior: bool = True) -> tuple[Tensor, Tensor | None]:
        """Refine a map [B, h, w, C] and predict its semantic prior [B, K, h, w]; see `SemanticLayer.forward`."""
        if not sliced(x):
            return super().forward(x, with_prior=with_prior)

        def refine(part: Tensor) -> tuple[Tensor, ...]:
            refined, prior = SemanticLayer.forward(self, part, with_prior=with_prior)
            return (refined,) if prior is None else (refined, prior.permute(0, 2, 3, 1))  # [B, n, w, C], [B, n, w, K]

        if self.window is None:
            refined, *priors = by_slices(refine, x, length=1)
        else:
            row = x.shape[0] * windows_along(x.shape[2], self.window) * self.window**2  # tokens of a row of windows
            refined, *priors = by_slices(refine, x, length=max(TOKENS // row, 1) * self.window, dim=1)
        return refined, priors[0].permute(0, 3, 1, 2) if priors else None

    def cut(self, x: Tensor) -> Tensor:
        """Group tokens that attend to each other; see `SemanticLayer.cut`."""
        return x.flatten(1, 2) if self.window is None else partition(pad_to_windows(x, self.window), self.window)

    def join(self, tokens: Tensor, shape: Size) -> Tensor:
        """Undo `cut`; see `SemanticLayer.join`."""
        if self.window is None:
            return super().join(tokens, shape)
        return crop(merge(tokens, self.window, *shape[1:3]), *shape[1:3])


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute softmax(query key^T) value, [B, N, K], [B, N, K], [B, N, C] -> [B, N, C], without N x N weights.

    In prediction on a CPU it goes through the rows in slices; with gradients, and on a GPU, torch's fused kernel does.
    """
    N = query.shape[1]
    if N * N <= WEIGHTS:
        return torch.softmax(query @ key.transpose(-2, -1), dim=-1) @ value
    if query.is_cuda or not predicts(query):
        return fused(query, key, value)
    key = key.transpose(-2, -1)
    mixed, step = torch.empty_like(value), max(8 * WEIGHTS // (len(query) * N), 1)
    for first in range(0, N, step):
        rows = slice(first, first + step)
        mixed[:, rows] = torch.softmax(query[:, rows] @ key, dim=-1) @ value  # [B, step, N] [B, N, C]
    return mixed


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute the same by torch's fused attention, which needs query, key and value of one width: padded with zeros."""
    width = max(query.shape[-1], value.shape[-1])
    width += -width % 8  # what kernels of GPUs ask for
    q, k, v = (F.pad(x, (0, width - x.shape[-1])).unsqueeze(1) for x in (query, key, value))  # one head
    return F.scaled_dot_product_attention(q, k, v, scale=1.0).squeeze(1)[..., : value.shape[-1]]
