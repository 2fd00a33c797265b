"""Semantic FPN: every level is brought to a quarter of the image's size and summed."""

from collections.abc import Sequence

from torch import Tensor, nn

from semask.decoders.blocks import ConvNormReLU, classifier
from semask.decoders.decoder import Decoder
from semask.outputs import PixelOutput, resize


class SemanticFPN(Decoder):
    """The decoder of SeMask FPN.

    Per level a chain of (3 x 3 convolution, BatchNorm, ReLU) with a bilinear x2 after each one, as often as its stride
    asks for and at least one convolution; the sum, channel-wise dropout and a 1 x 1 convolution give the class scores.

    Panoptic Feature Pyramid Networks (Kirillov et al., arXiv 1901.02446), figure 3, without its top-down path.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per location of the maps, the first one 4.
        num_classes: Classes K.
        channels: Width of the decoder.
        dropout: Probability that a channel is dropped in training.

    >>> import torch
    >>> decoder = SemanticFPN((8, 16), (4, 8), num_classes=5, channels=4)
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
        self.levels = nn.ModuleList(
            level(width, channels, doublings=(stride // strides[0]).bit_length() - 1)
            for width, stride in zip(in_channels, strides, strict=True)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(channels, num_classes)

    def forward(self, maps: Sequence[Tensor]) -> PixelOutput:
        """Decode the maps [B, C_i, h_i, w_i] to class scores [B, K, h_0, w_0]."""
        first, *others = self.levels
        total = first(maps[0])  # [B, channels, h_0, w_0]
        for chain, x in zip(others, maps[1:], strict=True):
            total = total + resize(chain(x), total.shape[-2:])
        return PixelOutput(self.classifier(self.dropout(total)))


def level(in_channels: int, channels: int, *, doublings: int) -> nn.Sequential:
    """A convolution for each doubling of the map, at least one."""
    chain: list[nn.Module] = []
    for i in range(max(doublings, 1)):
        chain.append(ConvNormReLU(in_channels if i == 0 else channels, channels))
        if doublings:
            chain.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*chain)


DECODERS = {"fpn": SemanticFPN}
