"""Swin's layers in less time and memory: blocks by rows of windows, attention with a fused sum."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from semask.acceleration.guards import recorded, sliced, untouched
from semask.acceleration.linear import FastMLP
from semask.acceleration.slices import TOKENS
from semask.acceleration.windows import crop, pad_to_windows, roll
from semask.encoders.swin import Block, WindowAttention, window_kinds
from semask.semantic.windows import merge, partition, windows_along


class FastBlock(Block):
    """A transformer block, in prediction some rows of windows at a time: only the result is as large as the map."""

    def forward(self, x: Tensor) -> Tensor:
        if sliced(x) and not self.training and self._is_usual():
            return self._by_strips(x)
        x = x + self.drop_path(self.attention(self.norm1(x)))
        x = x + self.drop_path(self._mlp(x))
        return x

    def _is_usual(self) -> bool:
        """Whether the attention can be computed without calling the module."""
        return untouched(self.attention, FastWindowAttention) or untouched(self.attention, WindowAttention)

    def _mlp(self, x: Tensor) -> Tensor:
        """Norm and MLP of tokens [..., C]."""
        y: Tensor = self.mlp(x, norm=self.norm2) if untouched(self.mlp, FastMLP) else self.mlp(self.norm2(x))
        return y

    def _by_strips(self, x: Tensor) -> Tensor:
        """Compute the same for some rows of windows of a map [B, h, w, C] at a time."""
        result = torch.empty_like(x)
        for strip in strips(self.attention, x):
            part = x.index_select(1, strip.rows)  # [B, n, w, C]
            part += attend_strip(self.attention, self.norm1(part), strip)
            part += self._mlp(part)
            result.index_copy_(1, strip.rows, part)
        return result


class Strip(NamedTuple):
    """Some rows of windows of a map."""

    rows: Tensor
    """Rows of the map that lie in the windows, [n] int64."""
    places: Tensor
    """Which rows of the windows these are, [n] int64; the others are padding."""
    height: int
    """Rows of the windows."""
    kinds: Tensor
    """Which of the shift masks each window has."""


def strips(attention: WindowAttention, x: Tensor) -> Iterator[Strip]:
    """Cut a map [B, h, w, C] into strips of about `TOKENS` tokens; the shift wraps around in the last one."""
    B, h, w, _ = x.shape
    window = attention.window
    rows, columns = windows_along(h, window), windows_along(w, window)
    kinds = window_kinds(rows, columns, x.device)  # [rows * columns]
    step = max(TOKENS // (B * columns * window**2), 1)
    for first in range(0, rows, step):
        last = min(first + step, rows)
        at = torch.arange(first * window, last * window, device=x.device) + attention.shift
        at %= rows * window
        places = (at < h).nonzero().flatten()
        part = kinds[first * columns : last * columns].repeat(B)
        yield Strip(at[places], places, (last - first) * window, part)


def attend_strip(attention: WindowAttention, x: Tensor, strip: Strip) -> Tensor:
    """Compute the rows of a strip [B, n, w, C] of what the attention gives for the map."""
    B, _, w, C = x.shape
    window, shift = attention.window, attention.shift
    padded = x.new_zeros(B, strip.height, windows_along(w, window) * window, C)
    padded[:, :, :w].index_copy_(1, strip.places, x)
    padded = padded.roll(-shift, dims=2) if shift else padded
    windows = attention.attend(partition(padded, window), strip.kinds)  # [B * n, N, C]
    y = merge(windows, window, strip.height, padded.shape[2])
    y = y.roll(shift, dims=2) if shift else y
    projected: Tensor = attention.projection(y[:, :, :w].index_select(1, strip.places))
    return projected


class FastWindowAttention(WindowAttention):
    """Window attention with the position bias added by the product itself, on a GPU by torch's fused kernel."""

    def forward(self, x: Tensor) -> Tensor:
        if recorded():
            return super().forward(x)
        B, h, w, _ = x.shape
        rows, columns = windows_along(h, self.window), windows_along(w, self.window)
        kinds = window_kinds(rows, columns, x.device).repeat(B)  # [B * n]
        x = pad_to_windows(x, self.window)
        x = roll(x, -self.shift) if self.shift else x
        y = merge(self.attend(partition(x, self.window), kinds), self.window, h, w)
        y = roll(y, self.shift) if self.shift else y
        projected: Tensor = self.projection(crop(y, h, w))
        return projected

    def attend(self, windows: Tensor, kinds: Tensor) -> Tensor:
        """Attend within each window [B * n, N, C], before the projection; see `WindowAttention.attend`."""
        if recorded():
            return super().attend(windows, kinds)
        C = windows.shape[-1]
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, C // self.heads))  # [B * n, N, 3, heads, C / heads]
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [B * n, heads, N, C / heads]
        bias = self.bias().to(query.dtype)  # [1 or 4, heads, N, N]
        bias = bias.index_select(0, kinds) if self.shift else bias  # bias[kinds] has a slow gradient
        if query.is_cuda:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        else:
            mixed = biased_attention(query, key, value, bias)
        return mixed.transpose(1, 2).flatten(2)  # [B * n, heads, N, C / heads] -> [B * n, N, C]


def biased_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Compute softmax(query key^T / sqrt(d) + bias) value; for windows faster than torch's fused kernel on a CPU.

    Args:
        query: [n, heads, N, d].
        key: The same.
        value: The same.
        bias: [1 or n, heads, N, N].
    """
    n, heads, N, d = query.shape
    sums = bias.flatten(0, 1) if len(bias) > 1 else bias[0].repeat(n, 1, 1)  # [n * heads, N, N]
    out = None if torch.is_grad_enabled() else sums  # baddbmm_ would be no FLOPs to torch's counter
    sums = torch.baddbmm(sums, query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), alpha=d**-0.5, out=out)
    weights = sums.view(n, heads, N, N).softmax(dim=-1).to(value.dtype)
    return weights @ value
