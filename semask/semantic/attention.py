"""Semantic attention: tokens attend to each other through what they say about the classes (SeMask, section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semask.acceleration.kernels import Linear, exported, predicts, recorded

WEIGHTS = 2**20
"""Attention weights of an image, N x N, up to which they are held at once; beyond, prediction goes by rows."""


class SemanticAttention(nn.Module):
    """One semantic attention block: predicts a semantic prior and refines the features with it.

    The class scores of a token, its *semantic query*, are the prior map that training supervises; tokens that score
    alike exchange features:

        prior  = x Wq + bq,  key = x Wk + bk         [B, N, K]
        weight = softmax(prior key^T)                [B, N, N], no 1/sqrt(d)
        refinement = scale * dropout((weight value) Wp + bp)

    SeMask (arXiv 2112.12782), section 3.2, equations 1 to 3; `scale` is the paper's lambda and starts at zero.

    Args:
        channels: Channels C of a token.
        num_classes: Classes K of the prior.
        dropout: Share of the refinement that is dropped in training.

    >>> prior, refinement = SemanticAttention(16, num_classes=3)(torch.randn(2, 49, 16))
    >>> prior.shape, refinement.shape, refinement.abs().sum().item()
    (torch.Size([2, 49, 3]), torch.Size([2, 49, 16]), 0.0)
    """

    def __init__(self, channels: int, num_classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.semantic_query = Linear(channels, num_classes)
        self.semantic_key = Linear(channels, num_classes)
        self.value = Linear(channels, channels)
        self.projection = Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the prior of each token and what to add to its features.

        Args:
            x: Tokens [B, N, C]; every token attends to all N.

        Returns:
            The prior [B, N, K] (logits) and the refinement [B, N, C]; the caller adds it to the residual.
        """
        prior = self.semantic_query(x)
        mixed = attend(prior, self.semantic_key(x), self.value(x))
        return prior, self.scale * self.dropout(self.projection(mixed))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute softmax(query key^T) value, [B, N, K], [B, N, K], [B, N, C] -> [B, N, C].

    For many tokens no N x N matrix is ever held: without gradients it goes through the rows in slices; with them, and
    on a GPU, torch's fused kernel does, forward and backward. What is recorded for another program stays plain.
    """
    N = query.shape[1]
    if exported() or (not recorded() and N * N <= WEIGHTS):
        return torch.softmax(query @ key.transpose(-2, -1), dim=-1) @ value
    if query.is_cuda or not predicts(query):
        return fused(query, key, value)
    key = key.transpose(-2, -1)
    mixed, step = torch.empty_like(value), max(8 * WEIGHTS // (len(query) * N), 1)
    for first in range(0, N, step):
        rows = slice(first, first + step)
        mixed[:, rows] = torch.softmax(query[:, rows] @ key, dim=-1) @ value
    return mixed


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute the same by torch's fused attention, which needs query, key and value of one width: padded with zeros."""
    width = max(query.shape[-1], value.shape[-1])
    width += -width % 8  # what kernels of GPUs ask for
    q, k, v = (F.pad(x, (0, width - x.shape[-1])).unsqueeze(1) for x in (query, key, value))  # one head
    return F.scaled_dot_product_attention(q, k, v, scale=1.0).squeeze(1)[..., : value.shape[-1]]
