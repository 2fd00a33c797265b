"""The lightweight semantic decoder: turns the priors of all stages into one map that the label can supervise."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PriorDecoder(nn.Module):
    """Sums the semantic priors of all stages at the size of the first map; it has no parameters.

    A prior is doubled bilinearly as often as its stride asks for, in a row and not at once, and then resized to `size`
    if it still differs: at odd sizes this is not the same, and published numbers need it.

    SeMask (arXiv 2112.12782), section 3.3.

    Args:
        strides: Image pixels per location of each prior.
        first_stride: Image pixels per location of the result.
        align_corners: How maps are resized; the published mask models align corners, the per-pixel ones do not.

    >>> import torch
    >>> PriorDecoder((4, 8))((torch.ones(1, 3, 5, 5), torch.ones(1, 3, 3, 3)), (5, 5)).unique()
    tensor([2.])
    """

    def __init__(self, strides: Sequence[int], *, first_stride: int = 4, align_corners: bool = False) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.doublings = [(stride // first_stride).bit_length() - 1 for stride in strides]

    def forward(self, priors: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Sum priors [B, K, h_i, w_i] to [B, K, *size] (logits)."""
        total: Tensor | None = None
        for prior, doublings in zip(priors, self.doublings, strict=True):
            for _ in range(doublings):
                prior = F.interpolate(prior, scale_factor=2, mode="bilinear", align_corners=self.align_corners)
            if prior.shape[-2:] != torch.Size(size):
                prior = F.interpolate(prior, size=size, mode="bilinear", align_corners=self.align_corners)
            total = prior if total is None else total + prior
        if total is None:
            raise ValueError("there is no prior to decode: the encoder has no semantic layer (semantic_depths is 0)")
        return total
