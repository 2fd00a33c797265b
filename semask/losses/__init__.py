"""⑤ Logits, prior logits and the label to a scalar."""

from semask.losses.pixel import Losses, PixelLoss

__all__ = ["Losses", "PixelLoss"]
