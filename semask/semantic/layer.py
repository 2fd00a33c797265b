"""The semantic layer: what SeMask adds after the transformer blocks of every stage."""

from functools import partial
from typing import get_args

import torch
from torch import Tensor, nn

from semask.acceleration.kernels import TOKENS, by_slices, sliced
from semask.semantic.attention import SemanticAttention
from semask.semantic.residual import Residual
from semask.semantic.windows import merge, pad_to_windows, partition, windows_along


class SemanticLayer(nn.Module):
    """LayerNorm, then `depth` semantic attention blocks in a row, over windows or over the whole map.

    Padded cells take part in the attention of their window as zeros (their query, key and value are the biases), as in
    the published models.

    SeMask (arXiv 2112.12782), section 3.2 and figure 3; `depth` is the paper's N_S.

    Args:
        channels: Channels C of the map.
        num_classes: Classes K of the prior.
        window: Side of the attention windows in cells; None attends over the whole map.
        depth: Number of attention blocks; they share the one LayerNorm, and the prior is the last one's.
        residual: What the refinement is added to. "normed": the normalised features, as in every published model; the
            layer is then never the identity. "input": the features as they came, so that a fresh layer (scale 0)
            leaves a pretrained backbone untouched.
        dropout: Dropout on the refinement in training.

    Raises:
        ValueError: If `window` or `depth` is below 1, or `residual` is unknown.

    >>> features, prior = SemanticLayer(16, num_classes=3, window=7)(torch.randn(2, 10, 12, 16))
    >>> features.shape, prior.shape
    (torch.Size([2, 10, 12, 16]), torch.Size([2, 3, 10, 12]))
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        window: int | None = 7,
        depth: int = 1,
        residual: Residual = "normed",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if window is not None and window < 1:
            raise ValueError(
                f"semantic window is {window}: give a side of at least 1 cell, or None for global attention"
            )
        if depth < 1:
            raise ValueError(f"semantic depth is {depth}: a semantic layer needs at least 1 block")
        if residual not in get_args(Residual):
            raise ValueError(f"residual is {residual!r}: choose one of {get_args(Residual)}")
        self.window = window
        self.residual = residual
        self.norm = nn.LayerNorm(channels)
        self.attentions = nn.ModuleList(SemanticAttention(channels, num_classes, dropout=dropout) for _ in range(depth))

    def forward(self, x: Tensor, *, with_prior: bool = True) -> tuple[Tensor, Tensor | None]:
        """Refine a map and predict its semantic prior.

        Args:
            x: Features [B, h, w, C].
            with_prior: Whether to return the prior; None takes its place otherwise, which saves memory.

        Returns:
            The refined features [B, h, w, C] and the prior [B, K, h, w] (logits).
        """
        refine = partial(self._refine, with_prior=with_prior)
        if not sliced(x):
            refined, *priors = refine(x)
        elif self.window is None:
            refined, *priors = by_slices(refine, x, length=1)  # image by image
        else:
            row = x.shape[0] * windows_along(x.shape[2], self.window) * self.window**2  # tokens of a row of windows
            refined, *priors = by_slices(refine, x, length=max(TOKENS // row, 1) * self.window, dim=1)
        return refined, priors[0].permute(0, 3, 1, 2) if priors else None

    def _refine(self, x: Tensor, *, with_prior: bool) -> tuple[Tensor, ...]:
        """Refine a map [B, h, w, C], or whole rows of its windows; also give the prior [B, h, w, K]."""
        normed = self.norm(x)
        tokens = self._cut(normed)
        total: Tensor | None = None
        for attention in self.attentions:
            prior, refinement = attention(tokens if total is None else tokens + total)
            total = refinement if total is None else total + refinement
        assert total is not None
        refined = (normed if self.residual == "normed" else x) + self._join(total, x.shape)
        return (refined, self._join(prior, x.shape)) if with_prior else (refined,)

    def _cut(self, x: Tensor) -> Tensor:
        """Group cells by what they attend to: [B, h, w, C] -> [B * n, window * window, C] or, global, [B, h * w, C]."""
        return x.flatten(1, 2) if self.window is None else partition(pad_to_windows(x, self.window), self.window)

    def _join(self, tokens: Tensor, shape: torch.Size) -> Tensor:
        """Undo `_cut` for a map of `shape` [B, h, w, ...]: -> [B, h, w, C or K]."""
        h, w = shape[1:3]
        return tokens.view(-1, h, w, tokens.shape[-1]) if self.window is None else merge(tokens, self.window, h, w)

    def extra_repr(self) -> str:
        """Scope and residual, for printing the model."""
        scope = "global" if self.window is None else f"{self.window} x {self.window} windows"
        return f"{scope}, residual={self.residual!r}"
