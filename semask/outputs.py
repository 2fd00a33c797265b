"""Named results that pass between the steps of the model."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from semask.acceleration.kernels import recorded

STRIP_VALUES = {"cpu": 2**21, "cuda": 2**26}
"""Class scores at an image's size that are held at once: what caches hold (8 MiB), or what keeps a GPU busy."""


class Features(NamedTuple):
    """What an encoder gives: one map a stage, and one semantic prior a stage that has a semantic layer."""

    maps: tuple[Tensor, ...]
    """Normalised features of each stage, [B, C_i, h_i, w_i]."""
    priors: tuple[Tensor, ...]
    """Semantic priors (logits), [B, K, h_i, w_i]; empty for a plain backbone."""


class PixelOutput(NamedTuple):
    """What a per-pixel decoder gives."""

    logits: Tensor
    """Class scores [B, K, h, w], usually at a quarter of the image's size."""
    auxiliary: tuple[Tensor, ...] = ()
    """Class scores [B, K, h, w] of further heads, each of any size: in training, for the loss."""
    presence: Tensor | None = None
    """Scores of which classes are in the image, [B, K]: in training, from decoders that ask for it."""

    def probabilities(self, size: tuple[int, int]) -> Tensor:
        """Class probabilities [B, K, H, W] at `size` (height, width): the softmax of the resized logits."""
        return resize(self.logits, size).softmax(dim=1)


class MaskOutput(NamedTuple):
    """What a mask decoder gives: Q masks, each with scores of its class."""

    classes: Tensor
    """Class scores of each mask, [B, Q, K + 1]; the last is "no object"."""
    masks: Tensor
    """Mask scores (logits) [B, Q, h, w], at a quarter of the padded image's size."""
    auxiliary: tuple[tuple[Tensor, Tensor], ...]
    """Classes and masks after the earlier decoder layers, first to last, for the loss."""


class SeMaskOutput(NamedTuple):
    """Everything that one pass of `SeMask` computes."""

    features: tuple[Tensor, ...]
    """Normalised features of each stage, [B, C_i, h_i, w_i]."""
    priors: tuple[Tensor, ...]
    """Semantic prior of each stage (logits), [B, K, h_i, w_i]."""
    prediction: PixelOutput | MaskOutput
    """What the decoder made of the features."""
    prior_logits: Tensor | None
    """Sum of the upsampled priors, [B, K, h, w]: in training, or when asked for."""
    padded: tuple[int, int] | None = None
    """Height and width of the image with its padding at the right and the bottom; None: there is none."""

    @property
    def logits(self) -> Tensor:
        """Class scores [B, K, h, w] of a per-pixel decoder."""
        if isinstance(self.prediction, MaskOutput):
            raise ValueError("a mask decoder gives masks and their classes: see `prediction`, or use `Predictor`")
        return self.prediction.logits


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize [B, C, h, w] bilinearly (corners not aligned) to `size` (height, width)."""
    if not recorded() and tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


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
        upper, lower, share = neighbours(rows, height, size[0])
        weight = share.to(x.dtype).to(x.device)[:, None, None]
        x = x.permute(0, 2, 3, 1)
        above, below = (x.index_select(1, (at - first).to(x.device)) for at in (upper, lower))
        part = torch.lerp(above, below, weight)
        part = part.permute(0, 3, 1, 2)
    return resize(part, (len(rows), size[1]))


def at_once(x: Tensor, values: int) -> int:
    """How many rows (or pixels) of so many values each to compute with at once, on the device of x; at least 1."""
    return max(STRIP_VALUES.get(x.device.type, STRIP_VALUES["cuda"]) // values, 1)


def neighbours(rows: range, source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
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
