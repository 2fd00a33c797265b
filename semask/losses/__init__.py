"""⑤ Logits, prior logits and the label to a scalar."""

from semask.losses.label import LabelCounts, count_label
from semask.losses.mask import MaskLoss
from semask.losses.pixel import Losses, PixelLoss

__all__ = ["LabelCounts", "Losses", "MaskLoss", "PixelLoss", "count_label"]
