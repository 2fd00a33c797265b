"""Swin Transformer for dense prediction: any input size, shifted windows at every size.

Swin (Liu et al., arXiv 2103.14030). The map is padded to whole windows *before* the cyclic shift, as in the published
models for detection and segmentation; timm pads after it, which gives other numbers as soon as a map is no multiple of
the window.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from semask.encoders.backbone import Backbone
from semask.encoders.encoder import init_linear
from semask.semantic.windows import merge, pad_to_windows, partition


class SwinSize(NamedTuple):
    """The numbers that tell one Swin from another."""

    channels: int
    """Channels of the first stage; they double at every stage."""
    depths: tuple[int, ...]
    """Transformer blocks of each stage."""
    heads: tuple[int, ...]
    """Attention heads of each stage."""
    window: int
    """Side of the attention windows in cells."""
    drop_path: float
    """Stochastic depth of the last block; it rises linearly from 0."""


SIZES = {
    "swin_nano": SwinSize(32, (2, 2, 2, 2), (1, 2, 4, 8), 7, 0.1),
    "swin_tiny": SwinSize(96, (2, 2, 6, 2), (3, 6, 12, 24), 7, 0.3),
    "swin_small": SwinSize(96, (2, 2, 18, 2), (3, 6, 12, 24), 7, 0.3),
    "swin_base": SwinSize(128, (2, 2, 18, 2), (4, 8, 16, 32), 12, 0.3),
    "swin_large": SwinSize(192, (2, 2, 18, 2), (6, 12, 24, 48), 12, 0.3),
}
"""Tiny to Large as published (table 7 of the paper); nano is ours, for laptops and tests."""


class Swin(Backbone):
    """The stem and the stages of a Swin Transformer, feature maps in [B, h, w, C].

    Args:
        size: Channels, depths, heads, window and stochastic depth.
        in_channels: Bands of the image.

    >>> swin = Swin(SIZES["swin_nano"])
    >>> swin.stages[0](swin.stem(torch.randn(1, 3, 50, 62))).shape
    torch.Size([1, 13, 16, 32])
    """

    def __init__(self, size: SwinSize, *, in_channels: int = 3) -> None:
        super().__init__()
        self.size = size
        self.channels = tuple(size.channels * 2**i for i in range(len(size.depths)))
        self.strides = tuple(4 * 2**i for i in range(len(size.depths)))
        self.stem = PatchEmbedding(in_channels, size.channels)
        blocks = sum(size.depths)
        rates = [size.drop_path * i / max(blocks - 1, 1) for i in range(blocks)]
        self.stages = nn.ModuleList(
            Stage(
                channels,
                depth=depth,
                heads=heads,
                window=size.window,
                drop_path=[rates.pop(0) for _ in range(depth)],
                downsample=i > 0,
            )
            for i, (channels, depth, heads) in enumerate(zip(self.channels, size.depths, size.heads, strict=True))
        )
        self.apply(init_linear)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Keep no activations inside the blocks in training, compute them again."""
        for stage in self.stages:
            stage.checkpointing = enabled


class PatchEmbedding(nn.Module):
    """Cuts the image into 4 x 4 patches: [B, in_channels, H, W] -> [B, H/4, W/4, C], sizes rounded up."""

    def __init__(self, in_channels: int, channels: int, *, patch: int = 4) -> None:
        super().__init__()
        self.patch = patch
        self.projection = nn.Conv2d(in_channels, channels, patch, patch)
        self.norm = nn.LayerNorm(channels)

    def forward(self, image: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        image = F.pad(image, (0, -W % self.patch, 0, -H % self.patch))
        x: Tensor = self.norm(self.projection(image).permute(0, 2, 3, 1))
        return x


class PatchMerging(nn.Module):
    """Halves the map: the four cells of a 2 x 2 block side by side, [B, h, w, C] -> [B, h/2, w/2, 2C], rounded up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_windows(x, 2)
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], dim=-1)
        merged: Tensor = self.reduction(self.norm(x))
        return merged


class Stage(nn.Module):
    """Patch merging (but in the first stage), then blocks whose windows are shifted in turn."""

    def __init__(
        self, channels: int, *, depth: int, heads: int, window: int, drop_path: list[float], downsample: bool
    ) -> None:
        super().__init__()
        self.checkpointing = False
        self.merge = PatchMerging(channels // 2) if downsample else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(channels, heads=heads, window=window, shift=window // 2 * (i % 2), drop_path=drop_path[i])
            for i in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.merge(x)
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x


class Block(nn.Module):
    """A transformer block: attention in windows and an MLP, both on a residual; [B, h, w, C] -> [B, h, w, C]."""

    def __init__(self, channels: int, *, heads: int, window: int, shift: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads=heads, window=window, shift=shift)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.drop_path = StochasticDepth(drop_path, mode="row")

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attention(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class WindowAttention(nn.Module):
    """Multi-head attention with a relative position bias inside (shifted) windows; [B, h, w, C] -> [B, h, w, C].

    Args:
        channels: Channels C.
        heads: Attention heads.
        window: Side of a window in cells.
        shift: Cells by which the windows are shifted towards the lower right; 0 for none.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, *, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        _, h, w, _ = x.shape
        s = self.shift
        x = pad_to_windows(x, self.window)
        padded_h, padded_w = x.shape[1:3]
        if s:
            x = x.roll((-s, -s), dims=(1, 2))
        x = self._attend(partition(x, self.window), (padded_h, padded_w))
        if s:
            return merge(x, self.window, padded_h, padded_w).roll((s, s), dims=(1, 2))[:, :h, :w]
        return merge(x, self.window, h, w)

    def _attend(self, x: Tensor, padded: tuple[int, int]) -> Tensor:
        """Attend within each window: [B * n, N, C] -> [B * n, N, C], N = window * window."""
        BW, N, C = x.shape
        qkv = self.qkv(x).view(BW, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # each [B * n, heads, N, C / heads]
        scores = (query * (C // self.heads) ** -0.5) @ key.transpose(-2, -1)  # [B * n, heads, N, N]
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # [heads, N, N]
        scores += bias.to(scores.dtype)
        if self.shift:
            mask = shift_mask(*padded, self.window, self.shift, scores.device, scores.dtype)
            scores.view(-1, *mask.shape[:1], self.heads, N, N).add_(mask[:, None])
        mixed = scores.softmax(dim=-1).to(value.dtype) @ value
        projected: Tensor = self.projection(mixed.transpose(1, 2).reshape(BW, N, C))
        return projected

    def extra_repr(self) -> str:
        return f"heads={self.heads}, window={self.window}, shift={self.shift}"


def relative_position_index(window: int) -> Tensor:
    """Index of the bias table's row for each pair of cells of a window, [N, N] int64, N = window * window."""
    cells = torch.cartesian_prod(torch.arange(window), torch.arange(window))  # [N, 2] (row, column)
    offset = cells[:, None] - cells[None] + window - 1  # [N, N, 2], 0 .. 2 * window - 2
    return offset[..., 0] * (2 * window - 1) + offset[..., 1]


@lru_cache(maxsize=64)
def shift_mask(height: int, width: int, window: int, shift: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Scores to add so that cells that the cyclic shift brought together don't see each other.

    Returns:
        [n, N, N] with -100 between cells of different regions of the shifted map and 0 elsewhere.
    """
    with torch.inference_mode(False):  # the cache outlives the caller's mode
        edges = [slice(0, -window), slice(-window, -shift), slice(-shift, None)]
        region = torch.zeros(1, height, width, 1, device=device)
        for i, rows in enumerate(edges):
            for j, columns in enumerate(edges):
                region[:, rows, columns] = 3 * i + j
        regions = partition(region, window).squeeze(-1)  # [n, N]
        differs = regions[:, None] != regions[:, :, None]
        return differs.to(dtype) * -100
