"""Cutting a feature map into square windows and putting it together again, at any size of the map."""

import torch
import torch.nn.functional as F
from torch import Tensor


def windows_along(length: int, window: int) -> int:
    """Number of windows that cover `length` tokens; every operand is positive, as exporters need it."""
    return (length + window - 1) // window


def padding(length: int, multiple: int) -> int:
    """Tokens or pixels that `length` lacks to a multiple; as a product it stays simple when sizes are symbols."""
    return windows_along(length, multiple) * multiple - length


def pad_to_windows(x: Tensor, window: int) -> Tensor:
    """Pad a map [B, h, w, C] with zeros at the right and the bottom to multiples of `window`."""
    _, h, w, _ = x.shape
    return F.pad(x, (0, 0, 0, padding(w, window), 0, padding(h, window)))


def pad_image(x: Tensor, multiple: int) -> Tensor:
    """Pad an image [B, C, H, W] with zeros at the right and the bottom to multiples of a number of pixels."""
    H, W = x.shape[-2:]
    return F.pad(x, (0, padding(W, multiple), 0, padding(H, multiple)))


def roll(x: Tensor, tokens: int) -> Tensor:
    """Roll rows and columns of a map [B, h, w, C] by a number of tokens, towards the lower right.

    Of two slices each: `torch.roll` is an index with remainders, which takes `torch.compile` minutes to simplify.
    """
    for dim in (1, 2):
        kept = x.shape[dim] - tokens if tokens > 0 else -tokens
        x = torch.cat([x.narrow(dim, kept, x.shape[dim] - kept), x.narrow(dim, 0, kept)], dim)
    return x


def partition(x: Tensor, window: int) -> Tensor:
    """Cut a map [B, h, w, C] of whole windows: -> [B * n, window * window, C], image by image, row by row."""
    B, h, w, C = x.shape
    x = x.view(B, h // window, window, w // window, window, C)  # [B, rows, window, columns, window, C]
    return x.transpose(2, 3).reshape(-1, window * window, C)  # [B, rows, columns, window, window, C] -> windows


def merge(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Undo `partition`: [B * n, window * window, C] -> [B, h, w, C], the whole windows that cover height x width."""
    rows, columns, C = windows_along(height, window), windows_along(width, window), windows.shape[-1]
    x = windows.view(-1, rows, columns, window, window, C).transpose(2, 3)  # [B, rows, window, columns, window, C]
    return x.reshape(-1, rows * window, columns * window, C)


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """Undo `pad_to_windows`: the first rows and columns of a map [B, h, w, C] -> [B, height, width, C].

    A copy, since strides would tell `torch.compile` whether anything was cut off, and it would compile both cases.
    """
    return x[:, :height, :width].clone(memory_format=torch.contiguous_format)
