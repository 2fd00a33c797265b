"""The semantic layer: what SeMask adds after the transformer blocks of every stage."""

from typing import get_args

from torch import Size, Tensor, nn

from semask.semantic.attention import SemanticAttention
from semask.semantic.residual import Residual
from semask.semantic.windows import crop, merge, pad_to_windows, partition


class SemanticLayer(nn.Module):
    """LayerNorm, then `depth` semantic attention blocks in a row, over windows or over the whole map.

    Padded tokens take part in the attention of their window as zeros (their query, key and value are the biases), as
    in the published models.

    SeMask (arXiv 2112.12782), section 3.2 and figure 3; `depth` is the paper's N_S.

    Args:
        channels: Channels C of the map.
        num_classes: Classes K of the prior.
        window: Side of the attention windows in tokens; None attends over the whole map.
        depth: Number of attention blocks; they share the one LayerNorm, and the prior is the last one's.
        residual: What the refinement is added to. "normed": the normalized features, as in every published model; the
            layer is then never the identity. "input": the features as they came, so that a fresh layer (scale 0)
            leaves a pretrained backbone unchanged.
        dropout: Dropout probability of the refinement.

    Raises:
        ValueError: If `window` or `depth` is below 1, or `residual` is unknown.

    >>> import torch
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
                f"semantic window is {window}: give a side of at least 1 token, or None for global attention"
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
            with_prior: Whether to return the prior; without, None takes its place.

        Returns:
            The refined features [B, h, w, C] and the prior [B, K, h, w] (logits).
        """
        normed = self.norm(x)
        tokens = start = self.cut(normed)  # [B * n, N, C]
        for attention in self.attentions:
            prior, refinement = attention(tokens)  # [B * n, N, K], [B * n, N, C]
            tokens = tokens + refinement
        refined = self.join(tokens, x.shape) if self.residual == "normed" else x + self.join(tokens - start, x.shape)
        return refined, self.join(prior, x.shape).permute(0, 3, 1, 2) if with_prior else None

    def cut(self, x: Tensor) -> Tensor:
        """Group tokens that attend to each other: [B, h, w, C] -> [B * n, window * window, C], global [B, h * w, C]."""
        return x.flatten(1, 2) if self.window is None else partition(pad_to_windows(x, self.window), self.window)

    def join(self, tokens: Tensor, shape: Size) -> Tensor:
        """Undo `cut` for a map of `shape` [B, h, w, ...]: -> [B, h, w, C or K]."""
        _, h, w, _ = shape
        if self.window is None:
            return tokens.view(-1, h, w, tokens.shape[-1])  # [B, h * w, C] -> [B, h, w, C]
        return crop(merge(tokens, self.window, h, w), h, w)

    def extra_repr(self) -> str:
        """Scope and residual, for printing the model."""
        scope = "global" if self.window is None else f"{self.window} x {self.window} windows"
        return f"{scope}, residual={self.residual!r}"
