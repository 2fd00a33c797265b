"""Non-local head: the convolutions of FCN with self-attention over all locations between them."""

from collections.abc import Sequence
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from semask.decoders.fcn import FCN
from semask.files.schema import Range


class NonLocal(FCN):
    """`FCN` with a `NonLocalBlock` after its first convolution.

    Non-local Neural Networks (Wang et al., arXiv 1711.07971), section 3; that the block lies between the convolutions
    of a head is MMSegmentation's form, in which it serves as a baseline of semantic segmentation. No published figure
    was compared: those that we know of are for blocks of other widths.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per location of the maps.
        num_classes: Classes K.
        channels: Width of the decoder.
        dropout: Share of the channels that is dropped in training.
        convs: Convolutions before the one that sees the map again.
        reduction: How many times narrower than the decoder the attention is.

    >>> import torch
    >>> decoder = NonLocal((8, 16), (16, 32), num_classes=5, channels=4)
    >>> decoder((torch.randn(2, 8, 6, 5), torch.randn(2, 16, 3, 3))).logits.shape
    torch.Size([2, 5, 3, 3])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        *,
        num_classes: int,
        channels: int = 256,
        dropout: float = 0.1,
        convs: Annotated[int, Range(0, 16)] = 2,
        reduction: Annotated[int, Range(1, 256)] = 2,
    ) -> None:
        super().__init__(in_channels, strides, num_classes=num_classes, channels=channels, dropout=dropout, convs=convs)
        if not 1 <= reduction <= channels:
            raise ValueError(f"reduction is {reduction}: give 1 to {channels}, the decoder's channels")
        self.convs.insert(1, NonLocalBlock(channels, channels // reduction))


class NonLocalBlock(nn.Module):
    """Every location gets what all locations say, weighted by how they fit: [B, C, h, w] -> [B, C, h, w].

        y = softmax(theta(x)^T phi(x)) g(x),  z = x + BatchNorm(W y)

    Embedded Gaussian, the paper's section 3.2 and equation 6 (theta, phi and g are our query, key and value), without
    1/sqrt(d). The BatchNorm starts with scale 0, so that a fresh block does nothing (section 4.1). Only the query has
    a bias: the softmax or the BatchNorm would take any other out again.

    Args:
        channels: Channels C of the map.
        inner: Channels of query, key and value.
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.query = nn.Linear(channels, inner)
        self.key = nn.Linear(channels, inner, bias=False)
        self.value = nn.Linear(channels, inner, bias=False)
        self.projection = nn.Linear(inner, channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        for linear in (self.query, self.key, self.value, self.projection):
            # Nothing divides the scores by sqrt(d): larger weights would let the softmax start as a maximum.
            nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(self.query.bias)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        cells = x.flatten(2).mT[:, None]  # [B, 1, N, C], N = h * w: one attention head
        mixed = F.scaled_dot_product_attention(self.query(cells), self.key(cells), self.value(cells), scale=1.0)
        added = self.projection(mixed).squeeze(1).mT.unflatten(2, x.shape[-2:])  # [B, C, h, w]
        refined: Tensor = x + self.norm(added)
        return refined


DECODERS = {"nonlocal": NonLocal}
