"""AlignSeg: maps are moved into place before they are summed, and each location picks its own context."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semask.decoders.blocks import AuxiliaryHead, ConvNormReLU, PointNormReLU, classifier, refuse_single_cell, warp
from semask.decoders.decoder import Decoder
from semask.outputs import PixelOutput, resize

POOLED_SIDE = 3


class AlignSeg(Decoder):
    """Feature-aligned segmentation: to the finest map each coarser one, and at last the context, is aligned and added.

    AlignSeg: Feature-Aligned Segmentation Networks (Huang et al., arXiv 2003.00872): Aligned Feature Aggregation and
    Aligned Context Modeling, between residual refinement blocks as in the authors' network. In training the sum up to
    the map before the last one gives auxiliary class scores.

    Where we depart from it: ReLU in place of its leaky ReLU, offsets count locations, corners not aligned, and start
    near 0 but not at it. No published parameters or FLOPs were compared.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per location of the maps; any will do.
        num_classes: Classes K.
        channels: Width of the decoder.
        dropout: Share of the channels that is dropped in training.

    >>> import torch
    >>> decoder = AlignSeg((8, 16), (4, 8), num_classes=5, channels=4)
    >>> decoder((torch.randn(2, 8, 12, 10), torch.randn(2, 16, 6, 5))).logits.shape
    torch.Size([2, 5, 12, 10])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        *,
        num_classes: int,
        channels: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(num_classes)
        self.context = AlignedContext(in_channels[-1], channels)
        widths = [*in_channels, channels]  # of the maps, and of the context
        self.refine = nn.ModuleList([Refinement(width, channels) for width in widths])
        self.aggregate = nn.ModuleList([AlignedAggregation(channels) for _ in widths[1:]])
        self.refine_sum = nn.ModuleList([Refinement(channels, channels) for _ in widths[1:]])
        self.auxiliary_level = max(len(in_channels) - 2, 0)
        self.auxiliary = AuxiliaryHead(channels, channels, num_classes=num_classes, dropout=dropout)
        self.head = ConvNormReLU(channels, channels)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(channels, num_classes)

    def forward(self, maps: Sequence[Tensor]) -> PixelOutput:
        """Decode the maps [B, C_i, h_i, w_i] to class scores [B, K, h_0, w_0].

        Raises:
            ValueError: If the coarsest map is a single location of a single image, in training.
        """
        if self.training:
            refuse_single_cell(maps[-1])
        finest, *coarse = [refine(x) for refine, x in zip(self.refine, [*maps, self.context(maps[-1])], strict=True)]
        sums = [finest]
        for x, aggregate, refine in zip(coarse, self.aggregate, self.refine_sum, strict=True):
            sums.append(refine(aggregate(sums[-1], x)))
        logits = self.classifier(self.dropout(self.head(sums[-1])))
        if not self.training:
            return PixelOutput(logits)
        return PixelOutput(logits, (self.auxiliary(sums[self.auxiliary_level]),))


class AlignedAggregation(nn.Module):
    """Aligned Feature Aggregation: sums a fine and a coarse map, each moved by offsets that both decide.

    Args:
        channels: Channels of both maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fine_offsets = offsets(channels)
        self.coarse_offsets = offsets(channels)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Sum fine [B, C, h, w] and coarse [B, C, h', w']: -> [B, C, h, w]."""
        coarse = resize(coarse, fine.shape[-2:])
        both = torch.cat([fine, coarse], dim=1)
        return warp(fine, self.fine_offsets(both)) + warp(coarse, self.coarse_offsets(both))


class AlignedContext(nn.Module):
    """Aligned Context Modeling: adds to each location the context from the place that it picks in a pooled map.

    Args:
        in_channels: Channels of the map.
        channels: Channels of the result.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(POOLED_SIDE), *projection(in_channels, channels))
        self.project = projection(in_channels, channels)
        self.offsets = offsets(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Add context to [B, in_channels, h, w]: -> [B, channels, h, w]."""
        context = self.pool(x)  # [B, C, 3, 3]
        x = self.project(x)
        h, w = x.shape[-2:]
        moves = self.offsets(torch.cat([x, resize(context, (h, w))], dim=1))  # in locations of the pooled map
        right, down = moves.unbind(1)
        return x + warp(context, torch.stack([right * w, down * h], dim=1) / POOLED_SIDE)


class Refinement(nn.Module):
    """Residual refinement block: 1 x 1 convolution to the width of the decoder, narrow 3 x 3 convolutions next to it.

    Args:
        in_channels: Channels of the map.
        channels: Channels of the result.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        width = max(channels // 4, 1)
        self.unify = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.residual = nn.Sequential(
            ConvNormReLU(channels, width), nn.Conv2d(width, channels, 3, padding=1, bias=False)
        )
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Refine a map: [B, in_channels, h, w] -> [B, channels, h, w]."""
        x = self.unify(x)
        return F.relu(self.norm(x + self.residual(x)))


def projection(in_channels: int, channels: int) -> nn.Sequential:
    """A 1 x 1 and a narrowing 3 x 3 convolution, each with BatchNorm and ReLU."""
    return nn.Sequential(PointNormReLU(in_channels, in_channels), ConvNormReLU(in_channels, channels))


def offsets(channels: int) -> nn.Sequential:
    """What decides the offsets [B, 2, h, w] (x, y) from two maps [B, 2 * channels, h, w]; they start near 0."""
    last = nn.Conv2d(channels, 2, 3, padding=1, bias=False)
    nn.init.normal_(last.weight, std=0.001)  # at 0 the layer before would not learn from the first step
    return nn.Sequential(PointNormReLU(2 * channels, channels), last)


DECODERS = {"alignseg": AlignSeg}
