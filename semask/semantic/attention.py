"""Semantic attention: tokens attend to each other through their class scores (SeMask, section 3.2)."""

import torch
from torch import Tensor, nn


class SemanticAttention(nn.Module):
    """One semantic attention block: predicts a semantic prior and refines the features with it.

    The class scores of a token, its *semantic query*, are the prior that training supervises; tokens with similar
    scores exchange features:

        prior  = x Wq + bq,  key = x Wk + bk         [B, N, K]
        weights = softmax(prior key^T)               [B, N, N], no 1/sqrt(d)
        refinement = scale * dropout((weights value) Wp + bp)

    SeMask (arXiv 2112.12782), section 3.2, equations 1 to 3; `scale` is the paper's learned scalar and starts at zero.

    Args:
        channels: Channels C of a token.
        num_classes: Classes K of the prior.
        dropout: Dropout probability of the refinement.

    >>> prior, refinement = SemanticAttention(16, num_classes=3)(torch.randn(2, 49, 16))
    >>> prior.shape, refinement.shape, refinement.abs().sum().item()
    (torch.Size([2, 49, 3]), torch.Size([2, 49, 16]), 0.0)
    """

    def __init__(self, channels: int, num_classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.semantic_query = nn.Linear(channels, num_classes)
        self.semantic_key = nn.Linear(channels, num_classes)
        self.value = nn.Linear(channels, channels)
        self.projection = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the prior of each token and what to add to its features.

        Args:
            x: Tokens [B, N, C]; every token attends to all N.

        Returns:
            The prior [B, N, K] (logits) and the refinement [B, N, C]; the caller adds it to the residual.
        """
        prior = self.semantic_query(x)  # [B, N, K]
        mixed = self.attend(prior, self.semantic_key(x), self.value(x))  # [B, N, C]
        return prior, self.scale * self.dropout(self.projection(mixed))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Compute softmax(query key^T) value: [B, N, K], [B, N, K], [B, N, C] -> [B, N, C]."""
        weights = torch.softmax(query @ key.transpose(-2, -1), dim=-1)  # [B, N, K] [B, K, N] -> [B, N, N]
        return weights @ value
