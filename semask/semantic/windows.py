"""Cutting a feature map into square windows and putting it together again."""

import torch
import torch.nn.functional as F
from torch import Tensor

from semask.acceleration.kernels import exported, recorded


def windows_along(length: int, window: int) -> int:
    """Count the windows that cover `length` cells; every operand is positive, as exporters need it."""
    return (length + window - 1) // window


def pad_to_windows(x: Tensor, window: int) -> Tensor:
    """Pad with zeros at the right and the bottom to whole windows.

    Args:
        x: Features [B, h, w, C].
        window: Side of a window in cells.

    Returns:
        Features [B, h', w', C], where h' and w' are the next multiples of `window`.
    """
    return pad(x, window, (1, 2))


def pad_image(x: Tensor, multiple: int) -> Tensor:
    """Pad [B, C, H, W] with zeros at the right and the bottom to multiples of a number of pixels."""
    return pad(x, multiple, (2, 3))


def pad(x: Tensor, multiple: int, dims: tuple[int, int]) -> Tensor:
    """Pad two neighbouring dimensions of x at their ends.

    The new sizes are products, which stay simple as symbols: with remainders `torch.export` takes minutes.
    """
    h, w = x.shape[dims[0]], x.shape[dims[1]]
    bottom, right = windows_along(h, multiple) * multiple - h, windows_along(w, multiple) * multiple - w
    if not recorded() and not (bottom or right):
        return x
    return F.pad(x, (0, 0) * (x.dim() - 1 - dims[1]) + (0, right, 0, bottom))


def roll(x: Tensor, cells: int) -> Tensor:
    """Roll the rows and the columns of a map [B, h, w, C] by a number of cells, towards the lower right."""
    if not recorded():
        return x.roll((cells, cells), dims=(1, 2))
    for dim in (1, 2):  # two slices: torch's own roll is an index with remainders, on which torch.compile founders
        last = x.shape[dim] - cells if cells > 0 else -cells
        x = torch.cat([x.narrow(dim, last, x.shape[dim] - last), x.narrow(dim, 0, last)], dim)
    return x


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
    rows, columns, C = windows_along(height, window), windows_along(width, window), windows.shape[-1]
    x = windows.view(-1, rows, columns, window, window, C).transpose(2, 3)  # [B, h/s, s, w/s, s, C]
    return crop(x.reshape(-1, rows * window, columns * window, C), height, width)


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """Keep the first rows and columns of [B, h, w, C]."""
    if not torch.compiler.is_compiling() or exported():
        return x[:, :height, :width]
    # The strides of a slice tell whether anything was cut off: torch.compile would make a program for either case.
    rows, columns = (torch.arange(length, device=x.device) for length in (height, width))
    return x.index_select(1, rows).index_select(2, columns)
