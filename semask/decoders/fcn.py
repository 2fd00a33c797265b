"""FCN: convolutions on the coarsest map, and an auxiliary head on the one before it."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from semask.decoders.blocks import AuxiliaryHead, ConvNormReLU, classifier, refuse_single_cell
from semask.decoders.decoder import Decoder
from semask.files.schema import Range
from semask.outputs import PixelOutput


class FCN(Decoder):
    """The plain head that others are measured against.

    `convs` times (3 x 3 convolution, BatchNorm, ReLU) on the coarsest map, one more on the result next to the map
    itself, channel-wise dropout and a 1 x 1 convolution; in training also an `AuxiliaryHead` of half the width on the
    map before, if there is one.

    Fully Convolutional Networks (Long et al., arXiv 1411.4038), section 3, in the form that later papers compare with
    (MMSegmentation's): no sums with finer maps (the paper's section 4.2), but more convolutions, meant for backbones
    whose coarsest map has a stride of 8. Published with `channels=512`, with MobileNetV2 9.8 M parameters for 150
    classes (SegFormer, arXiv 2105.15203, table 2), and so it is here, the auxiliary head included.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per location of the maps.
        num_classes: Classes K.
        channels: Width of the decoder.
        dropout: Share of the channels that is dropped in training.
        convs: Convolutions before the one that sees the map again.

    >>> decoder = FCN((8, 16), (16, 32), num_classes=5, channels=4)
    >>> output = decoder((torch.randn(2, 8, 6, 5), torch.randn(2, 16, 3, 3)))
    >>> output.logits.shape, [logits.shape for logits in output.auxiliary]
    (torch.Size([2, 5, 3, 3]), [torch.Size([2, 5, 6, 5])])
    """

    skips_maps = True

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        *,
        num_classes: int,
        channels: int = 256,
        dropout: float = 0.1,
        convs: Annotated[int, Range(0, 16)] = 2,
    ) -> None:
        super().__init__(num_classes)
        if convs < 1:
            raise ValueError(f"convs is {convs}: give at least 1 convolution")
        widths = (in_channels[-1], *(channels,) * convs)
        self.convs = nn.Sequential(*(ConvNormReLU(widths[i], widths[i + 1]) for i in range(convs)))
        self.merge = ConvNormReLU(in_channels[-1] + channels, channels)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(channels, num_classes)
        self.auxiliary = nn.ModuleList(
            AuxiliaryHead(width, max(channels // 2, 1), num_classes=num_classes, dropout=dropout)
            for width in in_channels[-2:-1]
        )

    def forward(self, maps: Sequence[Tensor]) -> PixelOutput:
        """Decode the maps [B, C_i, h_i, w_i], fine to coarse.

        Returns:
            Class scores [B, K, h, w] of the coarsest map's size; in training also those of the map before.

        Raises:
            ValueError: In training, if the coarsest map of the whole batch is a single location.
        """
        x = maps[-1]
        if self.training:
            refuse_single_cell(x)
        merged = self.merge(torch.cat([x, self.convs(x)], dim=1))
        logits = self.classifier(self.dropout(merged))
        if not self.training:
            return PixelOutput(logits)
        return PixelOutput(logits, tuple(head(x) for head, x in zip(self.auxiliary, maps[-2:-1], strict=True)))


DECODERS = {"fcn": FCN}
