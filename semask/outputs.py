"""Named results that pass between the steps of the model."""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Features(NamedTuple):
    """What an encoder gives: one map a stage, and one semantic prior a stage that has a semantic layer."""

    maps: tuple[Tensor, ...]
    """Normalized features of each stage, [B, C_i, h_i, w_i]."""
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
    """Normalized features of each stage, [B, C_i, h_i, w_i]."""
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
    """Resize [B, C, h, w] bilinearly (corners not aligned) to `size` (height, width); one form for every size."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
