"""Some rows of a resized map at a time: what is as large as the image is never held whole."""

import torch
from torch import Tensor

from semask.outputs import resize

STRIP_VALUES = {"cpu": 2**21, "cuda": 2**26}
"""Class scores at an image's size that are held at once: what caches hold (8 MiB), or what keeps a GPU busy."""


def resize_rows(x: Tensor, size: tuple[int, int], rows: range, *, source: tuple[int, int] | None = None) -> Tensor:
    """Compute some rows of `resize(x, size)`.

    Args:
        x: [B, C, h, w], or a slice of its rows.
        size: Height and width that the whole map would get.
        rows: Rows of the result to compute.
        source: When `x` is a slice: its first row, and the rows of the whole map.

    Returns:
        [B, C, len(rows), size[1]].
    """
    first, height = source or (0, x.shape[-2])
    x = x.contiguous(memory_format=torch.channels_last)  # resizing is several times faster
    if height == size[0]:
        part = x[:, :, rows.start - first : rows.stop - first]
    else:
        upper, lower, share = neighbors(rows, height, size[0])
        weight = share.to(x.dtype).to(x.device)[:, None, None]
        x = x.permute(0, 2, 3, 1)
        above, below = (x.index_select(1, (at - first).to(x.device)) for at in (upper, lower))
        part = torch.lerp(above, below, weight)
        part = part.permute(0, 3, 1, 2)
    return part if part.shape[-1] == size[1] else resize(part, (len(rows), size[1]))


def at_once(x: Tensor, values: int) -> int:
    """How many rows (or pixels) of so many values each to compute with at once, on the device of x; at least 1."""
    return max(STRIP_VALUES.get(x.device.type, STRIP_VALUES["cuda"]) // values, 1)


def neighbors(rows: range, source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """Give for rows of a resized map the two rows that each is mixed from, and the share of the second, [len(rows)].

    They are on the CPU: shares are float64, which not every device has.
    """
    at = torch.tensor([source_row(row, source, target) for row in rows], dtype=torch.float64)
    first = at.long()
    return first, (first + 1).clamp(max=source - 1), at - first


def source_row(row: int, source: int, target: int) -> float:
    """Row of a map of `source` rows that row `row` of its resized map of `target` rows is taken from, not below 0."""
    return max((row + 0.5) * source / target - 0.5, 0.0)


def source_rows(rows: range, source: int, target: int) -> range:
    """Rows of a map of `source` rows that some rows of its resized map of `target` rows are computed from."""
    first, last = source_row(rows[0], source, target), source_row(rows[-1], source, target)
    return range(int(first), min(int(last) + 2, source))
