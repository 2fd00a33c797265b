"""Swin Transformer for dense prediction: any input size, shifted windows at every size.

Swin (Liu et al., arXiv 2103.14030). The map is padded to whole windows *before* the cyclic shift, as in the published
models for detection and segmentation; timm pads after it, which gives other numbers as soon as a map is no multiple of
the window.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from semask.acceleration.kernels import MLP, TOKENS, Linear, norm_linear, recorded, sliced
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
        image = pad_image(image, self.patch)
        x: Tensor = self.norm(self.projection(image).permute(0, 2, 3, 1))
        return x


class PatchMerging(nn.Module):
    """Halves the map: the four cells of a 2 x 2 block side by side, [B, h, w, C] -> [B, h/2, w/2, 2C], rounded up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not sliced(x):
            return self._merge(x)
        rows = 2 * max(TOKENS // (2 * x.shape[0] * x.shape[2]), 1)  # else the peak of the whole model is here
        return torch.cat([self._merge(part) for part in torch.split(x, rows, dim=1)], dim=1)

    def _merge(self, x: Tensor) -> Tensor:
        x = pad_to_windows(x, 2)
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], dim=-1)
        return norm_linear(self.norm, self.reduction, x)


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
        self.mlp = MLP(channels, 4 * channels)
        self.drop_path = StochasticDepth(drop_path, mode="row")

    def forward(self, x: Tensor) -> Tensor:
        if sliced(x) and not self.training:
            return self._by_bands(x)
        x = x + self.drop_path(self.attention(self.norm1(x)))
        x = x + self.drop_path(self.mlp(x, norm=self.norm2))
        return x

    def _by_bands(self, x: Tensor) -> Tensor:
        """Compute the same for some rows of windows at a time: nothing but the result is as large as the map."""
        result = torch.empty_like(x)
        for band in self.attention.bands(x):
            part = x.index_select(1, band.rows)
            part += self.attention.attend_band(self.norm1(part), band)
            part += self.mlp(part, norm=self.norm2)
            result.index_copy_(1, band.rows, part)
        return result


class Band(NamedTuple):
    """Some rows of windows of a map."""

    rows: Tensor
    """Rows of the map that lie in the windows, [n] int64."""
    places: Tensor
    """Which rows of the windows these are, [n] int64; the others are padding."""
    height: int
    """Rows of the windows."""
    kinds: Tensor | None
    """Which of the `shift_masks` each window has; None for none."""


class WindowAttention(nn.Module):
    """Multi-head attention with a relative position bias inside (shifted) windows; [B, h, w, C] -> [B, h, w, C].

    Args:
        channels: Channels C.
        heads: Attention heads.
        window: Side of a window in cells.
        shift: Cells by which the windows are shifted towards the lower right; 0 for none.
    """

    relative_position_index: Tensor
    shift_masks: Tensor

    def __init__(self, channels: int, *, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = Linear(channels, 3 * channels)
        self.projection = Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window), persistent=False)
        if shift:
            self.register_buffer("shift_masks", shift_masks(window, shift), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        B, h, w, _ = x.shape
        s = self.shift
        x = pad_to_windows(x, self.window)
        rows, columns = windows_along(h, self.window), windows_along(w, self.window)
        kinds = window_kinds(rows, columns, x.device).repeat(B) if s else None
        x = roll(x, -s) if s else x
        x = self._attend(x, kinds)
        x = roll(x, s) if s else x
        projected: Tensor = self.projection(crop(x, h, w))
        return projected

    def bands(self, x: Tensor) -> Iterator[Band]:
        """Cut a map [B, h, w, C] into bands of about `TOKENS` tokens; the shift wraps around in the last one."""
        B, h, w, _ = x.shape
        rows, columns = windows_along(h, self.window), windows_along(w, self.window)
        kinds = window_kinds(rows, columns, x.device) if self.shift else None
        step = max(TOKENS // (B * columns * self.window**2), 1)
        for first in range(0, rows, step):
            last = min(first + step, rows)
            at = torch.arange(first * self.window, last * self.window, device=x.device) + self.shift
            at %= rows * self.window
            places = (at < h).nonzero().flatten()
            part = None if kinds is None else kinds[first * columns : last * columns].repeat(B)
            yield Band(at[places], places, (last - first) * self.window, part)

    def attend_band(self, x: Tensor, band: Band) -> Tensor:
        """Compute the rows of a band [B, n, w, C] of what `forward` gives for the map."""
        B, _, w, C = x.shape
        padded = x.new_zeros(B, band.height, windows_along(w, self.window) * self.window, C)
        padded[:, :, :w].index_copy_(1, band.places, x)
        padded = padded.roll(-self.shift, dims=2) if self.shift else padded
        y = self._attend(padded, band.kinds)
        y = y.roll(self.shift, dims=2) if self.shift else y
        projected: Tensor = self.projection(y[:, :, :w].index_select(1, band.places))
        return projected

    def _attend(self, x: Tensor, kinds: Tensor | None) -> Tensor:
        """Attend within the windows of a map, before the projection.

        Args:
            x: Whole windows [B, h, w, C].
            kinds: Which of the `shift_masks` each window has, [B * n]; None for none.

        Returns:
            [B, h, w, C].
        """
        _, h, w, C = x.shape
        windows = partition(x, self.window)  # [B * n, N, C], N = window * window
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, C // self.heads)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # each [B * n, heads, N, C / heads]
        bias = self._bias()
        mixed = mix(query, key, value, bias if kinds is None else bias[kinds])
        return merge(mixed.transpose(1, 2).flatten(2), self.window, h, w)

    def _bias(self) -> Tensor:
        """What is added to the scores of a window of each kind, [1 or 4, heads, N, N]."""
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        return bias + self.shift_masks[:, None] if self.shift else bias

    def extra_repr(self) -> str:
        return f"heads={self.heads}, window={self.window}, shift={self.shift}"


def mix(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Compute softmax(query key^T / sqrt(d) + bias) value, all [n, heads, N, d], by the quickest form.

    Args:
        query: [n, heads, N, d].
        key: The same.
        value: The same.
        bias: [1 or n, heads, N, N].
    """
    if query.is_cuda:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
    scale = query.shape[-1] ** -0.5
    if recorded():
        scores = (query * scale) @ key.transpose(-2, -1)
        scores += bias.to(scores.dtype)
    else:  # for windows quicker than the fused kernel, which has no gradient for a bias besides
        sums = bias.to(query.dtype).flatten(0, 1) if len(bias) > 1 else bias[0].to(query.dtype).repeat(len(query), 1, 1)
        out = None if torch.is_grad_enabled() else sums  # baddbmm_ would be no FLOPs to torch's counter
        sums = torch.baddbmm(sums, query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), alpha=scale, out=out)
        scores = sums.view(*query.shape[:2], *bias.shape[2:])
    mixed: Tensor = scores.softmax(dim=-1).to(value.dtype) @ value
    return mixed


def relative_position_index(window: int) -> Tensor:
    """Index of the bias table's row for each pair of cells of a window, [N, N] int64, N = window * window."""
    cells = torch.cartesian_prod(torch.arange(window), torch.arange(window))  # [N, 2] (row, column)
    offset = cells[:, None] - cells[None] + window - 1  # [N, N, 2], 0 .. 2 * window - 2
    return offset[..., 0] * (2 * window - 1) + offset[..., 1]


def window_kinds(rows: int, columns: int, device: torch.device) -> Tensor:
    """Which of the `shift_masks` each window of a map has, [rows * columns] int64."""
    below = torch.arange(rows, device=device) == rows - 1
    right = torch.arange(columns, device=device) == columns - 1
    return (2 * below[:, None].long() + right.long()).flatten()


def shift_masks(window: int, shift: int) -> Tensor:
    """Scores to add so that cells that the cyclic shift brought together don't see each other.

    Only the last windows of a row or a column hold such cells, whatever the map's size, so there are four kinds.

    Returns:
        [4, N, N], N = window * window: for windows inside, at the right, at the bottom, and at both; -100 between cells
        that don't belong together and 0 elsewhere.
    """
    wrapped = torch.arange(window) >= window - shift
    rows, columns = wrapped.repeat_interleave(window), wrapped.repeat(window)  # [N]
    below, right = rows[:, None] != rows, columns[:, None] != columns
    return torch.stack([torch.zeros_like(below), right, below, below | right]) * -100.0
