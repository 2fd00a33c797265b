"""Looking at places that the features themselves decide: deformable convolution and multi-scale deformable attention.

Everything here takes its sizes from the maps as they come, so that it can be exported for images of any size.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL = 3


def deformable_convolution(x: Tensor, offsets: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve with a 3 x 3 kernel whose points are moved and weighted at each location.

    Deformable ConvNets v2 (Zhu et al., arXiv 1811.11168), equation 1, by torchvision's kernel.

    Args:
        x: Map [B, C, h, w].
        offsets: By group of channels, kernel point, (y, x), in locations: [B, G * 9 * 2, h, w].
        mask: Weight of each group's kernel points, [B, G * 9, h, w].
        weight: Kernel [C', C, 3, 3].
        bias: [C'].

    Returns:
        [B, C', h, w].
    """
    from torchvision.ops import deform_conv2d  # loads torch's compiler, which takes seconds

    convolved: Tensor = deform_conv2d(x, offsets, weight, bias, padding=KERNEL // 2, mask=mask)
    return convolved


def sampled_convolution(x: Tensor, offsets: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute `deformable_convolution` in torch's own operations, for engines that do not know torchvision's kernel.

    The points are sampled, then a 1 x 1 kernel convolves them.
    """
    _, C, h, w = x.shape
    points = KERNEL * KERNEL
    groups = mask.shape[1] // points
    steps = torch.arange(points, device=x.device)
    moves = offsets.reshape(-1, points, 2, h, w)  # [B * G, 9, (y, x), h, w]
    y = moves[:, :, 0] + (steps // KERNEL - KERNEL // 2)[:, None, None] + torch.arange(h, device=x.device)[:, None]
    x_ = moves[:, :, 1] + (steps % KERNEL - KERNEL // 2)[:, None, None] + torch.arange(w, device=x.device)
    places = torch.stack([(2 * x_ + 1) / w - 1, (2 * y + 1) / h - 1], dim=-1)  # [B * G, 9, h, w, 2]
    sampled = F.grid_sample(x.reshape(-1, C // groups, h, w), places.flatten(1, 2), align_corners=False)
    # [B * G, C / G, 9 * h, w] -> [B, G, C / G, 9, h, w]
    sampled = sampled.reshape(-1, groups, C // groups, points, h, w) * mask.reshape(-1, groups, 1, points, h, w)
    return F.conv2d(sampled.reshape(-1, C * points, h, w), weight.flatten(1)[..., None, None], bias)


class DeformableAttention(nn.Module):
    """Each location of several maps looks at a few places of all of them, near its own.

    Deformable DETR (Zhu et al., arXiv 2010.04159), equation 3. It stands in for the attention in a layer of
    `transformers`, which takes the sizes of the maps for constants; parameters have the same names.

    Args:
        channels: Channels C.
        heads: Attention heads; they share the channels.
        levels: Number of maps.
        points: Places that a head looks at in each map.
    """

    def __init__(self, channels: int, *, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize as the paper does: each head looks 1, 2, ... locations in its own direction."""
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        ways = torch.stack([angles.cos(), angles.sin()], dim=-1)  # [heads, (x, y)]
        ways = ways / ways.abs().amax(-1, keepdim=True)
        distances = torch.arange(1, self.points + 1)
        grid = ways[:, None, None] * distances[:, None]  # [heads, 1, points, 2]
        with torch.no_grad():
            self.sampling_offsets.weight.zero_()
            self.sampling_offsets.bias.copy_(grid.expand(-1, self.levels, -1, -1).flatten())
            for linear in (self.attention_weights, self.value_proj, self.output_proj):
                nn.init.xavier_uniform_(linear.weight)
                linear.bias.zero_()
            self.attention_weights.weight.zero_()

    def forward(
        self,
        hidden_states: Tensor,
        *,
        position_embeddings: Tensor,
        reference_points: Tensor,
        spatial_shapes_list: Sequence[tuple[int, int]],
        **_: Any,
    ) -> tuple[Tensor, None]:
        """Attend; what else the layer passes is for others.

        Args:
            hidden_states: Locations of the maps, one map after the other, [B, N, C].
            position_embeddings: What to add to them for deciding where to look, [B, N, C].
            reference_points: Where each location is, (x, y) as a share of its map, [N, 2].
            spatial_shapes_list: Height and width of each map.

        Returns:
            [B, N, C], and no weights.
        """
        N, C = hidden_states.shape[1:]
        heads, levels, points = self.heads, self.levels, self.points
        query = hidden_states + position_embeddings
        offsets = self.sampling_offsets(query).view(-1, N, heads, levels, points, 2)
        weights = self.attention_weights(query).view(-1, N, heads, levels * points).softmax(-1)
        values = self.value_proj(hidden_states).split([h * w for h, w in spatial_shapes_list], dim=1)
        sampled = []
        for level, (value, (h, w)) in enumerate(zip(values, spatial_shapes_list, strict=True)):
            size = torch.stack([extent(value, w), extent(value, h)])
            places = 2 * (reference_points[:, None, None] + offsets[:, :, :, level] / size) - 1
            places = places.transpose(1, 2).flatten(0, 1)  # [B * heads, N, points, 2]
            grid = value.transpose(1, 2).reshape(-1, C // heads, h, w)  # [B * heads, C / heads, h, w]
            sampled.append(F.grid_sample(grid, places, align_corners=False))  # [B * heads, C / heads, N, points]
        weights = weights.transpose(1, 2).reshape(-1, 1, N, levels * points)
        mixed = (torch.cat(sampled, dim=-1) * weights).sum(-1).view(-1, C, N)
        return self.output_proj(mixed.transpose(1, 2)), None


def reference_points(sizes: Sequence[tuple[int, int]], like: Tensor) -> Tensor:
    """Where the centers of the locations of maps of these sizes (h, w) are, (x, y) as a share of the map, [N, 2]."""
    points = []
    for h, w in sizes:
        y, x = ((torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) / side for side in (h, w))
        points.append(torch.stack([x.expand(h, w), y[:, None].expand(h, w)], dim=-1).flatten(0, 1))
    return torch.cat(points)


def extent(like: Tensor, side: int) -> Tensor:
    """A side as a tensor that depends on the size of the image where that is recorded, too."""
    return torch.ones((), device=like.device, dtype=like.dtype) * side


class SinePositions(nn.Module):
    """Positions of a map's locations as waves, half of the channels for the row and half for the column.

    DETR (Carion et al., arXiv 2005.12872), appendix A.4, with positions from 0 to 2 pi.

    Args:
        channels: Channels C of the result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, shape: Sequence[int], device: Any, dtype: torch.dtype, mask: None = None) -> Tensor:
        """Make the positions of a map of `shape` [B, any, h, w]: -> [B, C, h, w]. No map has a `mask`."""
        B, _, h, w = shape
        rows, columns = (self._waves(side, device, dtype) for side in (h, w))
        positions = torch.cat([rows[:, None].expand(-1, w, -1), columns[None].expand(h, -1, -1)], dim=-1)
        return positions.permute(2, 0, 1).expand(B, -1, -1, -1)

    def _waves(self, side: int, device: Any, dtype: torch.dtype) -> Tensor:
        """Waves along one side, [side, C / 2]."""
        half = self.channels // 2
        places = torch.arange(1, side + 1, device=device, dtype=dtype)
        places = places / (places[-1:] + 1e-6) * (2 * math.pi)
        pairs = torch.arange(half, device=device) // 2
        angles = places[:, None] / 10000 ** (2 * pairs.to(dtype) / half)
        return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=-1).flatten(1)
