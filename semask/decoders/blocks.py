"""Pieces that several decoders share."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semask.outputs import resize

NORM_GROUPS = 32
FINEST_STRIDE = 8
"""Maps finer than this are not gathered."""


class ConvNormReLU(nn.Sequential):
    """3 x 3 convolution without bias, BatchNorm, ReLU: [B, C, h, w] -> [B, C', h, w]."""

    def __init__(self, in_channels: int, channels: int) -> None:
        conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def classifier(channels: int, num_classes: int) -> nn.Conv2d:
    """The 1 x 1 convolution that gives class scores, near 0 to begin with."""
    conv = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # a Conv2d has a bias unless told otherwise
    return conv


class AuxiliaryHead(nn.Module):
    """Class scores straight from a map: 3 x 3 convolution, BatchNorm, ReLU, dropout, 1 x 1 convolution.

    Args:
        in_channels: Channels C of the map.
        channels: Width of the head.
        num_classes: Classes K.
        dropout: Share of the channels that is dropped in training.
    """

    def __init__(self, in_channels: int, channels: int, *, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.conv = ConvNormReLU(in_channels, channels)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Score the classes: [B, C, h, w] -> [B, K, h, w]."""
        logits: Tensor = self.classifier(self.dropout(self.conv(x)))
        return logits


def refuse_single_cell(x: Tensor) -> None:
    """Refuse a map [B, C, h, w] that BatchNorm can't be trained with.

    Raises:
        ValueError: If the map has one location in all.
    """
    B, _, h, w = x.shape
    if B * h * w == 1:
        raise ValueError(
            "the coarsest map of the batch is a single location, of which BatchNorm can't take a variance: "
            "train with larger crops, or more than 1 image per process"
        )


class GatheredMaps(nn.Module):
    """Brings the maps of stride 8 and more together at the finest of them: what a dilated backbone gives at its end.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per location of the maps, rising.
        channels: Channels of the result.
    """

    def __init__(self, in_channels: Sequence[int], strides: Sequence[int], *, channels: int) -> None:
        super().__init__()
        self.first = next((i for i, stride in enumerate(strides) if stride >= FINEST_STRIDE), len(strides) - 1)
        *laterals, last = in_channels[self.first :]
        self.laterals = nn.ModuleList([PointNormReLU(width, channels) for width in laterals])
        self.last = ConvNormReLU(last, channels)
        self.fuse = ConvNormReLU(channels * (len(laterals) + 1), channels) if laterals else nn.Identity()

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Gather the maps [B, C_i, h_i, w_i]: -> [B, channels, h, w].

        Raises:
            ValueError: If the coarsest map is a single location of a single image, in training.
        """
        if self.training:
            refuse_single_cell(maps[-1])
        *laterals, last = maps[self.first :]
        gathered = [lateral(x) for lateral, x in zip(self.laterals, laterals, strict=True)] + [self.last(last)]
        fused: Tensor = self.fuse(torch.cat([resize(x, gathered[0].shape[-2:]) for x in gathered], dim=1))
        return fused


class PointNormReLU(nn.Sequential):
    """1 x 1 convolution without bias, BatchNorm, ReLU: [B, C, h, w] -> [B, C', h, w]."""

    def __init__(self, in_channels: int, channels: int) -> None:
        conv = nn.Conv2d(in_channels, channels, 1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """Sample a map bilinearly at the locations of another grid, each moved by its flow.

    Args:
        x: Map [B, C, h', w'] of the same scene.
        flow: How far each location looks to the right and down, [B, 2, h, w] (x, y), in locations of its own grid; 0
            is the same as resizing. Beyond the border the nearest location counts.

    Returns:
        The map on the grid of the flow, [B, C, h, w].
    """
    h, w = flow.shape[-2:]
    dtype = torch.promote_types(x.dtype, torch.float32)  # bfloat16 can't tell the locations of a large map apart
    right, down = flow.to(dtype).unbind(1)  # [B, h, w]
    column = torch.arange(w, device=x.device, dtype=dtype)
    row = torch.arange(h, device=x.device, dtype=dtype)[:, None]
    places = torch.stack([(column + right + 0.5) * (2 / w) - 1, (row + down + 0.5) * (2 / h) - 1], dim=-1)
    return F.grid_sample(x.to(dtype), places, padding_mode="border", align_corners=False).to(x.dtype)


def convolution(in_channels: int, out_channels: int, kernel: int, *, bias: bool = True) -> nn.Conv2d:
    """Make a convolution that keeps the size, and starts as those of detectron2 do (uniform, Kaiming with a = 1)."""
    made = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias)
    init_convolution(made)
    return made


def init_convolution(convolution: nn.Conv2d) -> None:
    """Initialize a convolution as those of detectron2 are: uniform, Kaiming with a = 1, no bias."""
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)


def check_widths(*, channels: int, pixel_channels: int, heads: int) -> None:
    """Refuse widths of a mask decoder that can't be built.

    Raises:
        ValueError: If the pixel decoder's norms don't divide its width, or the heads one of the two.
    """
    if pixel_channels < 1 or pixel_channels % NORM_GROUPS:
        raise ValueError(
            f"the pixel decoder is {pixel_channels} channels wide: give a multiple of {NORM_GROUPS} as channels, or as "
            "pixel_channels in decoder_options"
        )
    if heads < 1 or channels % heads or pixel_channels % heads:
        raise ValueError(
            f"{heads} heads can't share {channels} channels and {pixel_channels} of the pixel decoder: give a divisor "
            "of both"
        )


def tokens(x: Tensor) -> Tensor:
    """Flatten a map [B, C, h, w] to its locations [B, h * w, C]."""
    return x.flatten(2).transpose(1, 2)
