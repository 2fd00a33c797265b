"""SETR: progressive upsampling (PUP) and multi-level aggregation (MLA), with auxiliary heads on every map."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semask.decoders.blocks import AuxiliaryHead, ConvNormReLU, classifier, refuse_single_cell
from semask.decoders.decoder import Decoder
from semask.outputs import PixelOutput, resize


class SETR(Decoder):
    """What both variants share: dropout, the class scores, and an `AuxiliaryHead` on each map for training.

    Rethinking Semantic Segmentation with Transformers (Zheng et al., arXiv 2012.15840), section 3.2. The paper's
    encoder is a ViT, all of whose maps have a stride of 16; here the maps may have any strides, and come normalized
    from the encoder. No published figure was compared: those in the paper include its encoder.

    Args:
        in_channels: Channels of the maps.
        num_classes: Classes K.
        width: Channels of what the class scores are made of.
        channels: Width of the auxiliary heads.
        dropout: Share of the channels that is dropped in training.
    """

    def __init__(
        self, in_channels: Sequence[int], *, num_classes: int, width: int, channels: int, dropout: float
    ) -> None:
        super().__init__(num_classes)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(width, num_classes)
        self.auxiliary = nn.ModuleList(
            AuxiliaryHead(in_width, channels, num_classes=num_classes, dropout=dropout) for in_width in in_channels
        )

    def forward(self, maps: Sequence[Tensor]) -> PixelOutput:
        """Decode the maps [B, C_i, h_i, w_i], fine to coarse.

        Returns:
            Class scores [B, K, h, w]; in training also those of each map, of its size.

        Raises:
            ValueError: In training, if the coarsest map of the whole batch is a single location.
        """
        if self.training:
            refuse_single_cell(maps[-1])
        logits = self.classifier(self.dropout(self.decode(maps)))
        if not self.training:
            return PixelOutput(logits)
        return PixelOutput(logits, tuple(head(x) for head, x in zip(self.auxiliary, maps, strict=True)))

    def decode(self, maps: Sequence[Tensor]) -> Tensor:
        """Make the features [B, width, h, w] that are classified of the maps [B, C_i, h_i, w_i]."""
        raise NotImplementedError


class SETRPUP(SETR):
    """Progressive upsampling: (3 x 3 convolution, BatchNorm, ReLU) and a bilinear x2 in turn, from the coarsest map on.

    As many convolutions as doublings up to the image's size (4 from a stride of 16, 5 from 32). The scores come out
    before the last doubling, at half the image's size: a 1 x 1 convolution and bilinear resizing may change places, and
    whoever uses the scores resizes them to the image anyway. Where the encoder has a map of the size to double to, its
    size is taken, so that odd sizes stay aligned.

    SETR, section 3.2 (2) and figure 1b.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per location of the maps.
        num_classes: Classes K.
        channels: Width of the decoder.
        dropout: Share of the channels that is dropped in training.

    >>> decoder = SETRPUP((16,), (16,), num_classes=5, channels=4)
    >>> decoder((torch.randn(2, 16, 4, 3),)).logits.shape
    torch.Size([2, 5, 32, 24])
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
        super().__init__(in_channels, num_classes=num_classes, width=channels, channels=channels, dropout=dropout)
        self.strides = tuple(strides)
        self.steps = halved(strides[-1])
        self.first = ConvNormReLU(in_channels[-1], channels)
        self.convs = nn.ModuleList(ConvNormReLU(channels, channels) for _ in self.steps)

    def decode(self, maps: Sequence[Tensor]) -> Tensor:
        sizes = {stride: x.shape[-2:] for stride, x in zip(self.strides, maps, strict=True)}
        x: Tensor = self.first(maps[-1])
        for stride, conv in zip(self.steps, self.convs, strict=True):
            doubled = [2 * side for side in x.shape[-2:]]
            x = conv(resize(x, sizes.get(stride, doubled)))
        return x


class SETRMLA(SETR):
    """Multi-level aggregation: a stream of convolutions for each map, coarser ones added to finer, all concatenated.

    A stream is a 1 x 1 convolution, the sum with all coarser streams, a 3 x 3 convolution, and two more of half the
    width, each with BatchNorm and ReLU; its result is resized to the finest map, or, from an encoder whose finest map
    is coarser than a quarter of the image, to about that quarter (x4 from a stride of 16, as in the paper).

    SETR, section 3.2 (3) and figure 1c, with the widths of the published models (for 1024 channels the text has 512,
    512, 256). The paper's maps are of one size; here a coarser one is resized before the sum.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per location of the maps.
        num_classes: Classes K.
        channels: Width of the decoder, at least 2.
        dropout: Share of the channels that is dropped in training.

    >>> decoder = SETRMLA((16, 16), (16, 16), num_classes=5, channels=4)
    >>> decoder((torch.randn(2, 16, 4, 3), torch.randn(2, 16, 4, 3))).logits.shape
    torch.Size([2, 5, 16, 12])
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
        if channels < 2:
            raise ValueError(f"channels is {channels}: setr_mla halves them, give at least 2")
        half = channels // 2
        super().__init__(
            in_channels, num_classes=num_classes, width=half * len(in_channels), channels=channels, dropout=dropout
        )
        self.upscaling = max(strides[0] // 4, 1)
        self.reductions = nn.ModuleList(reduction(width, channels) for width in in_channels)
        self.streams = nn.ModuleList(
            nn.Sequential(ConvNormReLU(channels, channels), ConvNormReLU(channels, half), ConvNormReLU(half, half))
            for _ in in_channels
        )

    def decode(self, maps: Sequence[Tensor]) -> Tensor:
        size = [self.upscaling * side for side in maps[0].shape[-2:]]
        return torch.cat(
            [resize(stream(x), size) for stream, x in zip(self.streams, self.top_down(maps), strict=True)], dim=1
        )

    def top_down(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Bring the maps [B, C_i, h_i, w_i] to one width and add to each all coarser ones, [B, channels, h_i, w_i]."""
        sums = [reduce(x) for reduce, x in zip(self.reductions, maps, strict=True)]
        for i in reversed(range(len(sums) - 1)):
            sums[i] = sums[i] + resize(sums[i + 1], sums[i].shape[-2:])
        return sums


def halved(stride: int) -> list[int]:
    """The strides that a map passes through on its way to half the image's size: 16 -> 8, 4, 2."""
    steps = []
    while stride > 2:
        stride = -(-stride // 2)
        steps.append(stride)
    return steps


def reduction(in_channels: int, channels: int) -> nn.Sequential:
    """1 x 1 convolution without bias, BatchNorm, ReLU: [B, C, h, w] -> [B, C', h, w]."""
    conv = nn.Conv2d(in_channels, channels, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


DECODERS = {"setr_pup": SETRPUP, "setr_mla": SETRMLA}
