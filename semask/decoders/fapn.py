"""Feature-aligned pixel decoders: FaPN, and its combination with multi-scale deformable attention (MSFaPN)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
)

OFFSET_GROUPS = 8
KERNEL = 3


class FeatureAlign(nn.Module):
    """Aligns an upsampled map with the lateral one: a deformable convolution whose offsets both maps decide.

    FaPN (Huang et al., arXiv 2108.07058), section 3.2; the published SeMask adds the lateral map twice, before and
    after.

    Args:
        channels: Channels of both maps.
        norm: GroupNorm of the offsets. In the published models it is the very norm of the level's output convolution.
    """

    def __init__(self, channels: int, norm: nn.GroupNorm) -> None:
        super().__init__()
        points = KERNEL * KERNEL
        self.offset = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.norm = norm
        self.offset_mask = nn.Conv2d(channels, 3 * OFFSET_GROUPS * points, KERNEL, padding=1)
        self.weight = nn.Parameter(torch.empty(channels, channels, KERNEL, KERNEL))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.kaiming_uniform_(self.weight, a=1)
        nn.init.zeros_(self.offset_mask.weight)
        nn.init.zeros_(self.offset_mask.bias)  # type: ignore[arg-type]

    def forward(self, lateral: Tensor, upsampled: Tensor) -> Tensor:
        """Align [B, C, h, w] with [B, C, h, w]; the result includes the lateral map."""
        features = self.norm(self.offset(torch.cat([lateral, 2 * upsampled], dim=1)))
        y, x, mask = self.offset_mask(features).chunk(3, dim=1)
        offsets = torch.cat([y, x], dim=1)  # [B, 2 * groups * points, h, w]: by group, kernel point, (y, x)
        dtype = self.weight.dtype  # autocast may have left half precision, which this convolution lacks on a CPU
        aligned = deform_conv2d(
            upsampled.to(dtype), offsets.to(dtype), self.weight, self.bias, padding=1, mask=mask.to(dtype).sigmoid()
        )
        return F.relu(aligned) + lateral


class AlignedLevel(nn.Module):
    """One step of the pyramid: lateral 1 x 1 convolution, upsampling, alignment, 3 x 3 convolution.

    Args:
        in_channels: Channels of the map from the encoder.
        channels: Width of the decoder.
        upsampling: "nearest" or "bilinear", of the map from the level below.
    """

    def __init__(self, in_channels: int, channels: int, *, upsampling: str) -> None:
        super().__init__()
        self.upsampling = upsampling
        norm = nn.GroupNorm(32, channels)
        self.lateral = nn.Sequential(nn.Conv2d(in_channels, channels, 1, bias=False), nn.GroupNorm(32, channels))
        self.align = FeatureAlign(channels, norm)
        self.output = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), norm, nn.ReLU())

    def forward(self, features: Tensor, below: Tensor) -> Tensor:
        """Join a map [B, in_channels, h, w] of the encoder with the level below: -> [B, channels, h, w]."""
        lateral = self.lateral(features)
        upsampled = F.interpolate(below, size=lateral.shape[-2:], mode=self.upsampling)
        joined: Tensor = self.output(self.align(lateral, lateral + upsampled))
        return joined


class FaPN(nn.Module):
    """Feature-aligned pyramid over all maps.

    Args:
        in_channels: Channels of the maps.
        channels: Width of the decoder.
        mask_channels: Channels of the mask features.
    """

    def __init__(self, in_channels: Sequence[int], *, channels: int, mask_channels: int) -> None:
        super().__init__()
        *laterals, last = in_channels
        self.top = nn.Sequential(
            nn.Conv2d(last, channels, 3, padding=1, bias=False), nn.GroupNorm(32, channels), nn.ReLU()
        )
        self.levels = nn.ModuleList(AlignedLevel(width, channels, upsampling="nearest") for width in laterals)
        self.mask_features = nn.Conv2d(channels, mask_channels, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decode maps [B, C_i, h_i, w_i].

        Returns:
            Mask features [B, mask_channels, h_0, w_0], and the three coarsest maps [B, channels, h, w], coarsest first.
        """
        pyramid = [self.top(maps[-1])]
        for features, level in zip(maps[-2::-1], list(self.levels)[::-1], strict=True):
            pyramid.append(level(features, pyramid[-1]))
        return self.mask_features(pyramid[-1]), pyramid[:3]


class DeformablePixelDecoder(nn.Module):
    """Multi-scale deformable attention over the three coarsest maps, then one step up to a quarter of the image's size.

    Mask2Former (Cheng et al., arXiv 2112.01527), section 3.2.1. With `align` that step is feature-aligned (MSFaPN).

    Args:
        config: Numbers of the Mask2Former, of `transformers`.
        in_channels: Channels of the maps.
        align: Whether the step up is feature-aligned.
    """

    def __init__(self, config: Mask2FormerConfig, in_channels: Sequence[int], *, align: bool) -> None:
        super().__init__()
        self.decoder = Mask2FormerPixelDecoder(config, list(in_channels))
        nn.init.normal_(self.decoder.level_embed)
        for module in self.decoder.modules():
            if isinstance(module, Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention):
                init_deformable(module)
        self.level = None
        if align:
            self.level = AlignedLevel(in_channels[0], config.feature_size, upsampling="bilinear")
            del self.decoder.adapter_1, self.decoder.layer_1
            self.decoder.num_fpn_levels = 0
            self.decoder.lateral_convolutions = self.decoder.output_convolutions = []

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decode maps [B, C_i, h_i, w_i]; returns as `FaPN.forward`."""
        output = self.decoder(list(maps), output_attentions=False, output_hidden_states=False)
        if self.level is None:
            return output.mask_features, list(output.multi_scale_features)
        finest = self.level(maps[0], output.multi_scale_features[-1])
        return self.decoder.mask_projection(finest), list(output.multi_scale_features)


def init_deformable(attention: Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention) -> None:
    """Initialise as Deformable DETR does (arXiv 2010.04159): each head looks 1, 2, ... cells in its own direction."""
    angles = torch.arange(attention.n_heads) * (2 * math.pi / attention.n_heads)
    ways = torch.stack([angles.cos(), angles.sin()], dim=-1)  # [heads, (x, y)]
    ways = ways / ways.abs().amax(-1, keepdim=True)
    distances = torch.arange(1, attention.n_points + 1)
    grid = ways[:, None, None] * distances[:, None]  # [heads, 1, points, 2]
    with torch.no_grad():
        attention.sampling_offsets.weight.zero_()
        attention.sampling_offsets.bias.copy_(grid.expand(-1, attention.n_levels, -1, -1).flatten())
        for linear in (attention.attention_weights, attention.value_proj, attention.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            linear.bias.zero_()
        attention.attention_weights.weight.zero_()
