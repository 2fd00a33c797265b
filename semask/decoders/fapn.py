"""Feature-aligned pixel decoders: FaPN, and its combination with multi-scale deformable attention (MSFaPN)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerPixelDecoderEncoderLayer

from semask.decoders.blocks import NORM_GROUPS, convolution, tokens
from semask.decoders.deformable import (
    KERNEL,
    DeformableAttention,
    SinePositions,
    deformable_convolution,
    reference_points,
)

OFFSET_GROUPS = 8
POINTS = 4


class FeatureAlign(nn.Module):
    """Aligns an upsampled map with the lateral one: a deformable convolution whose offsets both maps decide.

    FaPN (Huang et al., arXiv 2108.07058), section 3.2; the published SeMask adds the lateral map twice, before and
    after.

    Args:
        channels: Channels of both maps.
        norm: GroupNorm of the offsets. In the published models it is the very norm of the level's output convolution.
    """

    convolve: Callable[..., Tensor] = staticmethod(deformable_convolution)
    """Exporters put `sampled_convolution` in its place."""

    def __init__(self, channels: int, norm: nn.GroupNorm) -> None:
        super().__init__()
        points = KERNEL * KERNEL
        self.offset = convolution(2 * channels, channels, 1, bias=False)
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
        aligned = self.convolve(
            upsampled.to(dtype), offsets.to(dtype), mask.to(dtype).sigmoid(), self.weight, self.bias
        )
        return F.relu(aligned) + lateral


class PyramidLevel(nn.Module):
    """One step up the pyramid: lateral 1 x 1 convolution, upsampling, alignment if wanted, 3 x 3 convolution.

    Args:
        in_channels: Channels of the map from the encoder.
        channels: Width of the decoder.
        upsampling: "nearest" or "bilinear", of the map from the level below.
        align: Whether the upsampled map is feature-aligned with the lateral one.
    """

    def __init__(self, in_channels: int, channels: int, *, upsampling: str, align: bool) -> None:
        super().__init__()
        self.upsampling = upsampling
        norm = nn.GroupNorm(NORM_GROUPS, channels)
        self.lateral = nn.Sequential(
            convolution(in_channels, channels, 1, bias=False), nn.GroupNorm(NORM_GROUPS, channels)
        )
        self.align = FeatureAlign(channels, norm) if align else None
        self.output = nn.Sequential(convolution(channels, channels, 3, bias=False), norm, nn.ReLU())

    def forward(self, features: Tensor, below: Tensor) -> Tensor:
        """Join a map [B, in_channels, h, w] of the encoder with the level below: -> [B, channels, h, w]."""
        lateral = self.lateral(features)
        joined = lateral + F.interpolate(below, size=lateral.shape[-2:], mode=self.upsampling)
        if self.align is not None:
            joined = self.align(lateral, joined)
        output: Tensor = self.output(joined)
        return output


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
            convolution(last, channels, 3, bias=False), nn.GroupNorm(NORM_GROUPS, channels), nn.ReLU()
        )
        self.levels = nn.ModuleList(
            PyramidLevel(width, channels, upsampling="nearest", align=True) for width in laterals
        )
        self.mask_features = convolution(channels, mask_channels, 3)

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
    """Multi-scale deformable attention over the three coarsest maps, then one step up to the finest.

    Mask2Former (Cheng et al., arXiv 2112.01527), section 3.2.1; the attention is that of `transformers`. With `align`
    the step up is feature-aligned (MSFaPN).

    Args:
        in_channels: Channels of the four maps.
        channels: Width of the decoder.
        mask_channels: Channels of the mask features.
        layers: Layers of deformable attention.
        heads: Heads of deformable attention.
        align: Whether the step up is feature-aligned.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        channels: int,
        mask_channels: int,
        layers: int,
        align: bool,
        heads: int = 8,
    ) -> None:
        super().__init__()
        finest, *coarse = in_channels
        self.projections = nn.ModuleList(
            nn.Sequential(convolution(width, channels, 1), nn.GroupNorm(NORM_GROUPS, channels))
            for width in reversed(coarse)
        )
        self.positions = SinePositions(channels)
        self.level_embed = nn.Parameter(torch.randn(len(coarse), channels))
        config = Mask2FormerConfig(feature_size=channels, num_attention_heads=heads)
        self.encoder = nn.ModuleDict(
            {"layers": nn.ModuleList(Mask2FormerPixelDecoderEncoderLayer(config) for _ in range(layers))}
        )
        for parameter in self.encoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for layer in self.encoder["layers"].children():
            layer.self_attn = DeformableAttention(channels, heads=heads, levels=len(coarse), points=POINTS)
        self.level = PyramidLevel(finest, channels, upsampling="bilinear", align=align)
        self.mask_features = convolution(channels, mask_channels, 1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decode maps [B, C_i, h_i, w_i]; returns as `FaPN.forward`."""
        finest, *coarse = maps
        scales = self.attend([project(x) for project, x in zip(self.projections, reversed(coarse), strict=True)])
        return self.mask_features(self.level(finest, scales[-1])), scales

    def attend(self, scales: Sequence[Tensor]) -> list[Tensor]:
        """Let each location of the scales [B, channels, h_i, w_i] attend to a few locations of all: new scales."""
        sizes = [(x.shape[-2], x.shape[-1]) for x in scales]
        places = [  # of the parameters' dtype: bfloat16, which autocast may have left, counts no further than 256
            tokens(self.positions(x.shape, x.device, embed.dtype)) + embed
            for x, embed in zip(scales, self.level_embed, strict=True)
        ]
        attended = torch.cat([tokens(x) for x in scales], dim=1)  # [B, N, channels], N locations of all scales
        for layer in self.encoder["layers"].children():
            attended = layer(
                attended,
                None,  # no map has padding
                position_embeddings=torch.cat(places, dim=1),
                reference_points=reference_points(sizes, like=self.level_embed),
                spatial_shapes_list=sizes,
            )[0]
        parts = torch.split(attended, [h * w for h, w in sizes], dim=1)
        return [part.mT.reshape(x.shape) for part, x in zip(parts, scales, strict=True)]
