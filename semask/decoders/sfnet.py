"""SFNet: coarse maps flow to where fine ones show that they belong."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from semask.decoders.blocks import AuxiliaryHead, ConvNormReLU, PointNormReLU, classifier, refuse_single_cell, warp
from semask.decoders.decoder import Decoder
from semask.files.schema import Length, Range
from semask.outputs import PixelOutput, resize


class SFNet(Decoder):
    """Semantic flow: pyramid pooling on the coarsest map, then a top-down path that warps instead of resizing.

    Semantic Flow for Fast and Accurate Scene Parsing (Li et al., arXiv 2002.10120), section 3. Every level is resized
    to the finest one, all are concatenated and fused. In training each level of the top-down path gives auxiliary class
    scores.

    With 128 channels, 19 classes and a ResNet-18 (three 3 x 3 convolutions as its stem) the network without auxiliary
    heads has 12.87 million parameters, which is the published figure as we remember it; FLOPs were not compared. Where
    we depart from the paper: the pooled maps have a bias and a ReLU in place of BatchNorm, which could not train with
    one image a batch.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per location of the maps; any will do.
        num_classes: Classes K.
        channels: Width of the decoder; the paper's is 256, for ResNet-18 128.
        dropout: Share of the channels that is dropped in training.
        bins: Sides of the pooled maps, in locations.

    >>> import torch
    >>> decoder = SFNet((8, 16), (4, 8), num_classes=5, channels=4)
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
        bins: Annotated[tuple[Annotated[int, Range(1, 64)], ...], Length(1, 8)] = (1, 2, 3, 6),
    ) -> None:
        super().__init__(num_classes)
        *laterals, last = in_channels
        self.pool = PyramidPooling(last, channels, bins=bins, dropout=dropout)
        self.laterals = nn.ModuleList([PointNormReLU(width, channels) for width in laterals])
        self.alignments = nn.ModuleList([FlowAlignment(channels) for _ in laterals])
        self.outputs = nn.ModuleList([ConvNormReLU(channels, channels) for _ in laterals])
        self.auxiliary = nn.ModuleList(
            [AuxiliaryHead(channels, channels, num_classes=num_classes, dropout=dropout) for _ in laterals]
        )
        self.fuse = ConvNormReLU(channels * len(in_channels), channels)
        self.classifier = classifier(channels, num_classes)

    def forward(self, maps: Sequence[Tensor]) -> PixelOutput:
        """Decode the maps [B, C_i, h_i, w_i] to class scores [B, K, h_0, w_0].

        Raises:
            ValueError: If the coarsest map is a single location of a single image, in training.
        """
        if self.training:
            refuse_single_cell(maps[-1])
        x = self.pool(maps[-1])
        levels, auxiliary = [x], []
        for i in reversed(range(len(self.laterals))):
            fine = self.laterals[i](maps[i])
            x = fine + self.alignments[i](fine, x)
            levels.append(self.outputs[i](x))
            if self.training:
                auxiliary.append(self.auxiliary[i](x))
        fused = self.fuse(torch.cat([resize(level, maps[0].shape[-2:]) for level in reversed(levels)], dim=1))
        return PixelOutput(self.classifier(fused), tuple(auxiliary))


class FlowAlignment(nn.Module):
    """The Flow Alignment Module: warps a coarse map to the grid of a fine one, by a flow that both decide.

    Section 3.2.

    Args:
        channels: Channels of both maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = max(channels // 2, 1)
        self.project_fine = nn.Conv2d(channels, width, 1, bias=False)
        self.project_coarse = nn.Conv2d(channels, width, 1, bias=False)
        self.flow = nn.Conv2d(2 * width, 2, 3, padding=1, bias=False)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Warp coarse [B, C, h', w'] to fine [B, C, h, w]: -> [B, C, h, w]."""
        projected = resize(self.project_coarse(coarse), fine.shape[-2:])
        return warp(coarse, self.flow(torch.cat([projected, self.project_fine(fine)], dim=1)))


class PyramidPooling(nn.Module):
    """A map next to its own averages over coarse grids, fused by a 1 x 1 convolution.

    Pyramid Scene Parsing Network (Zhao et al., arXiv 1612.01105), section 3.2, with the fusion of SFNet.

    Args:
        in_channels: Channels of the map.
        channels: Channels of each pooled map and of the result.
        bins: Sides of the pooled maps, in locations.
        dropout: Share of the result's channels that is dropped in training.
    """

    def __init__(self, in_channels: int, channels: int, *, bins: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [nn.Sequential(nn.AdaptiveAvgPool2d(side), nn.Conv2d(in_channels, channels, 1), nn.ReLU()) for side in bins]
        )
        self.fuse = PointNormReLU(in_channels + channels * len(bins), channels)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Pool [B, in_channels, h, w]: -> [B, channels, h, w]."""
        pooled = [resize(branch(x), x.shape[-2:]) for branch in self.branches]
        fused: Tensor = self.dropout(self.fuse(torch.cat([x, *pooled], dim=1)))
        return fused


DECODERS = {"sfnet": SFNet}
