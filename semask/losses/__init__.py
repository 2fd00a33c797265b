"""⑤ Logits, prior logits and the label to a scalar."""

from semask.losses.mask import MaskLoss
from semask.losses.pixel import Losses, PixelLoss

__all__ = ["Losses", "MaskLoss", "PixelLoss"]
