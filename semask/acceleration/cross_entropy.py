"""Cross-entropy of resized scores strip by strip, with its gradient: a training step never holds all scores."""

from dataclasses import fields
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from semask.acceleration.guards import recorded
from semask.acceleration.strips import at_once, resize_rows, source_rows
from semask.data.classes import IGNORE_INDEX
from semask.losses.pixel import PixelLoss

L = TypeVar("L")
FEW_CLASSES = 16
"""Fewer do not fill a vector of 16 floats (AVX512): softmax is faster over pixels side by side than over classes."""


class FastPixelLoss(PixelLoss):
    """The loss of per-pixel decoders by strips; it has first derivatives only."""

    def cross_entropy_sum(self, logits: Tensor, label: Tensor, size: tuple[int, int], weights: Tensor | None) -> Tensor:
        """Sum the cross-entropy over all pixels; see `PixelLoss.cross_entropy_sum`."""
        if recorded():
            return super().cross_entropy_sum(logits, label, size, weights)
        total: Tensor = CrossEntropySum.apply(logits, label, size, weights)
        return total


def accelerate_loss(loss: L) -> L | FastPixelLoss:
    """Give the faster form of a `PixelLoss`; every other loss as it is."""
    if not isinstance(loss, PixelLoss) or type(loss) is not PixelLoss:
        return loss
    settings = {field.name: getattr(loss, field.name) for field in fields(PixelLoss)}
    return FastPixelLoss(**settings)


def log_softmax(scores: Tensor) -> Tensor:
    """Compute log softmax over the classes of scores [B, K, h, w]: in the layout that is fast for so many classes."""
    if scores.shape[1] < FEW_CLASSES:
        return scores.log_softmax(dim=1)
    return scores.permute(0, 2, 3, 1).log_softmax(dim=-1).permute(0, 3, 1, 2)


class CrossEntropySum(torch.autograd.Function):
    """Cross-entropy of scores resized to an image's size, summed over its pixels, strip by strip.

    All scores at the image's size would be the largest tensors of a training step, several times over. Each strip's
    grad_logits is taken at once and kept at the size of the scores.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor, size: tuple[int, int], weights: Tensor | None) -> Tensor:
        """Compute the sum for logits [B, K, h, w], label [B, H, W] and the image's (padded) size."""
        B, K, h, _ = logits.shape
        valid = label != IGNORE_INDEX
        index = label.where(valid, 0)
        share = valid.to(logits.dtype) if weights is None else valid * weights[index]  # [B, H, W]
        learns = ctx.needs_input_grad[0]
        grad_logits = torch.zeros_like(logits) if learns else None
        total = logits.new_zeros(())
        step = at_once(logits, K * size[1])
        for image in range(B):
            for first in range(0, label.shape[1], step):
                rows = range(first, min(first + step, label.shape[1]))
                needed = source_rows(rows, h, size[0])
                source = slice(needed.start, needed.stop)
                pixels = (image, slice(rows.start, rows.stop))
                with torch.set_grad_enabled(learns):
                    part = logits[image : image + 1, :, source].detach()
                    part = part.requires_grad_() if learns else part
                    scores = resize_rows(part, size, rows, source=(needed.start, h))[..., : label.shape[2]]
                log_p = log_softmax(scores.detach())
                at_label = index[pixels][None, None]
                total -= (log_p.gather(1, at_label)[0, 0] * share[pixels]).sum()
                if grad_logits is not None:
                    grad_scores = log_p.exp_()  # of the cross-entropy: probability, less 1 for the label's class
                    grad_scores.scatter_add_(1, at_label, -torch.ones_like(grad_scores[:, :1]))
                    grad_scores *= share[pixels]
                    grad_scores = grad_scores.contiguous(memory_format=torch.channels_last)  # 3 x faster to resize
                    grad_logits[image : image + 1, :, source] += torch.autograd.grad(scores, part, grad_scores)[0]
        ctx.save_for_backward(grad_logits)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        """Scale the gradient that the forward pass left."""
        (grad_logits,) = ctx.saved_tensors
        return grad_logits * grad_output, None, None, None
