"""Cutting a feature map into square windows and putting it together again."""

import torch.nn.functional as F
from torch import Tensor


def pad_to_windows(x: Tensor, window: int) -> Tensor:
    """Pad with zeros at the right and the bottom to whole windows.

    Args:
        x: Features [B, h, w, C].
        window: Side of a window in cells.

    Returns:
        Features [B, h', w', C], where h' and w' are the next multiples of `window`.
    """
    _, h, w, _ = x.shape
    bottom, right = -h % window, -w % window
    return F.pad(x, (0, 0, 0, right, 0, bottom)) if bottom or right else x


def partition(x: Tensor, window: int) -> Tensor:
    """Cut a map that consists of whole windows.

    Args:
        x: Features [B, h, w, C]; h and w are multiples of `window`.
        window: Side of a window in cells.

    Returns:
        Windows [B * n, window * window, C]: the n windows of the first image, row by row, then of the next one.
    """
    B, h, w, C = x.shape
    x = x.view(B, h // window, window, w // window, window, C)
    return x.transpose(2, 3).reshape(-1, window * window, C)  # [B, h/s, w/s, s, s, C] -> [B * n, s * s, C]


def merge(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Undo `partition` and crop what padding added.

    Args:
        windows: [B * n, window * window, C], n windows that cover at least height x width cells.
        window: Side of a window in cells.
        height: Rows to keep.
        width: Columns to keep.

    Returns:
        Features [B, height, width, C].
    """
    rows, columns, C = -(-height // window), -(-width // window), windows.shape[-1]
    x = windows.view(-1, rows, columns, window, window, C).transpose(2, 3)  # [B, h/s, s, w/s, s, C]
    return x.reshape(-1, rows * window, columns * window, C)[:, :height, :width]
