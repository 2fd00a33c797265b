"""Semantic FPN: every level is brought to a quarter of the image's size and summed."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semask.acceleration.kernels import sliced
from semask.decoders.blocks import ConvNormReLU, classifier
from semask.decoders.decoder import Decoder
from semask.outputs import PixelOutput, resize, resize_rows, source_rows

CELLS = 2**14
"""Cells of the first map that are decoded at once in prediction; 256 channels of them are 16 MiB."""


class SemanticFPN(Decoder):
    """The decoder of SeMask FPN.

    Per level a chain of (3 x 3 convolution, BatchNorm, ReLU) with a bilinear x2 after each one, as often as its stride
    asks for and at least one convolution; the sum, channel-wise dropout and a 1 x 1 convolution give the class scores.

    Panoptic Feature Pyramid Networks (Kirillov et al., arXiv 1901.02446), figure 3, without its top-down path.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per cell of the maps, the first one 4.
        num_classes: Classes K.
        channels: Width of the decoder.
        dropout: Share of the channels that is dropped in training.

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
        if self._is_large(maps[0]):
            return PixelOutput(self._by_rows(maps))
        total = self.levels[0](maps[0])
        for chain, x in zip(list(self.levels)[1:], maps[1:], strict=True):
            total = total + resize(chain(x), total.shape[-2:])
        return PixelOutput(self.classifier(self.dropout(total)))

    def _is_large(self, x: Tensor) -> bool:
        """Whether it is worth while to go through the rows of the first map in slices."""
        doubled = all(isinstance(chain[-1], nn.Upsample) for chain in cast(list[nn.Sequential], self.levels[1:]))
        return doubled and not self.training and sliced(x) and x.shape[-2] * x.shape[-1] > CELLS

    def _by_rows(self, maps: Sequence[Tensor]) -> Tensor:
        """Compute the same, but what is as large as the first map in slices of its rows: [B, K, h_0, w_0].

        The last doubling and the classifier are linear. So levels of one size are summed before it, and where there
        are fewer classes than channels it is the scores that are doubled.
        """
        (first,), *others = cast(list[nn.Sequential], list(self.levels))
        size = (maps[0].shape[-2], maps[0].shape[-1])
        classify = self.classifier.out_channels < self.classifier.in_channels
        parts: list[Tensor] = []
        for chain, x in zip(others, maps[1:], strict=True):
            part = chain[:-1](x)
            part = F.conv2d(part, self.classifier.weight) if classify else part
            if parts and part.shape == parts[-1].shape:
                parts[-1] += part
            else:
                parts.append(part)
        step = max(CELLS // size[1], 1)
        scores: Tensor | None = None
        for start in range(0, size[0], step):
            rows = range(start, min(start + step, size[0]))
            total = rows_of(first, maps[0], rows)
            total = self.classifier(total) if classify else total
            for part in parts:
                total += doubled_rows(part, size, rows)
            strip = total if classify else self.classifier(total)
            if scores is None:
                shape = (*strip.shape[:2], *size)
                last = torch.channels_last
                scores = torch.empty(shape, dtype=strip.dtype, device=strip.device, memory_format=last)
            scores[:, :, start : rows.stop] = strip
        assert scores is not None
        return scores


def rows_of(convolution: nn.Module, x: Tensor, rows: range) -> Tensor:
    """Some rows of a 3 x 3 convolution of x [B, C, h, w], zero around it."""
    above, below = min(rows.start, 1), min(x.shape[-2] - rows.stop, 1)
    y: Tensor = convolution(x[:, :, rows.start - above : rows.stop + below])
    return y[:, :, above : y.shape[-2] - below]


def doubled_rows(x: Tensor, size: tuple[int, int], rows: range) -> Tensor:
    """Some rows of x [B, C, h, w] that is first doubled and then resized to `size`."""
    doubled = (2 * x.shape[-2], 2 * x.shape[-1])
    needed = source_rows(rows, doubled[0], size[0])
    return resize_rows(resize_rows(x, doubled, needed), size, rows, source=(needed.start, doubled[0]))


def level(in_channels: int, channels: int, *, doublings: int) -> nn.Sequential:
    """A convolution for each doubling of the map, at least one."""
    chain: list[nn.Module] = []
    for i in range(max(doublings, 1)):
        chain.append(ConvNormReLU(in_channels if i == 0 else channels, channels))
        if doublings:
            chain.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*chain)


DECODERS = {"fpn": SemanticFPN}
