"""Swin Transformer for dense prediction: any input size, shifted windows at every size.

Swin (Liu et al., arXiv 2103.14030). The map is padded to whole windows *before* the cyclic shift, as in the published
models for detection and segmentation; timm pads after it, which gives other numbers unless the map is a multiple of
the window.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semask.encoders.backbone import Backbone
from semask.encoders.encoder import init_linear
from semask.semantic.windows import crop, merge, pad_image, pad_to_windows, partition, roll, windows_along


class SwinSize(NamedTuple):
    """The numbers that tell one Swin from another."""

    channels: int
    """Channels of the first stage; they double at every stage."""
    depths: tuple[int, ...]
    """Transformer blocks of each stage."""
    heads: tuple[int, ...]
    """Attention heads of each stage."""
    window: int
    """Side of the attention windows in tokens."""
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
        in_channels: Channels of the image.

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
                self.channels[i],
                depth=depth,
                heads=size.heads[i],
                window=size.window,
                drop_path=[rates.pop(0) for _ in range(depth)],
                downsample=i > 0,
            )
            for i, depth in enumerate(size.depths)
        )
        self.apply(init_linear)

    def blocks(self) -> list[nn.Module]:
        """All transformer blocks."""
        return [block for stage in self.stages for block in stage.blocks]

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
        patches = self.projection(pad_image(image, self.patch))  # [B, C, h, w]
        x: Tensor = self.norm(patches.permute(0, 2, 3, 1))  # [B, h, w, C]
        return x


class PatchMerging(nn.Module):
    """Halves the map: 2 x 2 tokens side by side, [B, h, w, C] -> [B, h/2, w/2, 2C], sizes rounded up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_windows(x, 2)
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], dim=-1)
        merged: Tensor = self.reduction(self.norm(x))  # [B, h / 2, w / 2, 4C -> 2C]
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
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attention(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., arXiv 1603.09382): drops a residual branch in training, for each image by itself.

    Args:
        p: Probability that the branch of an image is dropped; what is kept is divided by 1 - p.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(1 - self.p)  # [B, 1, ..., 1]
        return x * (kept / (1 - self.p) if self.p < 1 else kept)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class WindowAttention(nn.Module):
    """Multi-head attention with a relative position bias inside (shifted) windows; [B, h, w, C] -> [B, h, w, C].

    Args:
        channels: Channels C.
        heads: Attention heads.
        window: Side of a window in tokens.
        shift: Tokens by which the windows are shifted towards the lower right; 0 for none.
    """

    relative_position_index: Tensor
    shift_masks: Tensor

    def __init__(self, channels: int, *, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window), persistent=False)
        if shift:
            self.register_buffer("shift_masks", shift_masks(window, shift), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        B, h, w, _ = x.shape
        rows, columns = windows_along(h, self.window), windows_along(w, self.window)
        x = pad_to_windows(x, self.window)
        if self.shift:
            x = roll(x, -self.shift)
        kinds = window_kinds(rows, columns, x.device).repeat(B)  # [B * n]
        windows = self.attend(partition(x, self.window), kinds)  # [B * n, N, C], N = window * window
        x = merge(windows, self.window, h, w)
        if self.shift:
            x = roll(x, self.shift)
        projected: Tensor = self.projection(crop(x, h, w))
        return projected

    def attend(self, windows: Tensor, kinds: Tensor) -> Tensor:
        """Attend within each window, before the projection.

        Args:
            windows: [B * n, N, C].
            kinds: Which of the `shift_masks` each window has, [B * n].

        Returns:
            [B * n, N, C].
        """
        C = windows.shape[-1]
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, C // self.heads))  # [B * n, N, 3, heads, C / heads]
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [B * n, heads, N, C / heads]
        scores = (query * (C // self.heads) ** -0.5) @ key.transpose(-2, -1)  # [B * n, heads, N, N]
        bias = self.bias()
        weights = (scores + (bias.index_select(0, kinds) if self.shift else bias)).softmax(dim=-1)
        mixed: Tensor = weights @ value  # [B * n, heads, N, C / heads]
        return mixed.transpose(1, 2).flatten(2)  # [B * n, N, heads, C / heads] -> [B * n, N, C]

    def bias(self) -> Tensor:
        """What is added to the scores of a window of each kind, [1 or 4, heads, N, N]."""
        bias = self.relative_position_bias_table[self.relative_position_index]  # [N, N, heads]
        bias = bias.permute(2, 0, 1)[None]  # [1, heads, N, N]
        return bias + self.shift_masks[:, None] if self.shift else bias

    def extra_repr(self) -> str:
        return f"heads={self.heads}, window={self.window}, shift={self.shift}"


def token_places(window: int) -> tuple[Tensor, Tensor]:
    """Row and column of each token of a window, [N] int64; on the CPU also where a model without memory is built."""
    side = torch.arange(window, device="cpu")
    return side.repeat_interleave(window), side.repeat(window)


def relative_position_index(window: int) -> Tensor:
    """Row of the bias table for each pair of tokens of a window, [N, N] int64, N = window * window."""
    rows, columns = token_places(window)
    down, right = rows[:, None] - rows + window - 1, columns[:, None] - columns + window - 1  # 0 .. 2 * window - 2
    return down * (2 * window - 1) + right


def window_kinds(rows: int, columns: int, device: torch.device) -> Tensor:
    """Which of the `shift_masks` each window of a map has, [rows * columns] int64."""
    below = torch.arange(rows, device=device) == rows - 1
    right = torch.arange(columns, device=device) == columns - 1
    return (2 * below[:, None].long() + right.long()).flatten()


def shift_masks(window: int, shift: int) -> Tensor:
    """Scores to add so that tokens that the cyclic shift brought together do not attend to each other.

    Only the last windows of a row or a column hold such tokens, whatever the map's size, so there are four kinds.

    Returns:
        [4, N, N], N = window * window: for windows inside, at the right, at the bottom, and at both; -100 between
        tokens that do not belong together and 0 elsewhere.
    """
    rows, columns = (place >= window - shift for place in token_places(window))  # [N] bool: what wraps around
    below, right = rows[:, None] != rows, columns[:, None] != columns
    return torch.stack([torch.zeros_like(below), right, below, below | right]) * -100.0
