"""What the losses ask of a label, and what they count in it."""

from typing import NamedTuple

import torch
from torch import Tensor

from semask.data.classes import IGNORE_INDEX


class LabelCounts(NamedTuple):
    """How much there is in labels: what sums over them are divided by to make means.

    Counts of several batches can be added up. A loss takes those of the whole step, divided by its number of passes
    and processes: then the mean over passes and processes is the sum over all of the step, divided by all of the step.
    """

    pixels: Tensor
    """Pixels of each class, [K]."""
    images: Tensor
    """Images that hold 0, 1, ... K different classes, [K + 1]."""

    def weight(self, classes: int, weights: Tensor | None = None) -> Tensor:
        """Pixels of the first `classes` classes, each with its class's weight of `weights` [classes]: a scalar."""
        pixels = self.pixels[:classes]
        return pixels.sum() if weights is None else (pixels * weights).sum()

    def masks(self, most: int | None = None) -> Tensor:
        """Masks of all images, one for each class that an image holds, of each image at most `most`: a scalar."""
        masks = torch.arange(len(self.images), device=self.images.device)
        return (self.images * (masks if most is None else masks.clamp(max=most))).sum()


def count_label(label: Tensor, num_classes: int) -> LabelCounts:
    """Count pixels and classes of a label [B, H, W]; 255 is ignored.

    Raises:
        ValueError: If the label does not fit the classes.

    >>> label = torch.tensor([[[0, 2], [2, 255]], [[2, 2], [2, 2]]])
    >>> count_label(label, 3)
    LabelCounts(pixels=tensor([1, 0, 6]), images=tensor([0, 1, 1, 0]))
    """
    check_label(label, num_classes)
    B, K = len(label), num_classes
    bins = label.masked_fill(label == IGNORE_INDEX, K).flatten(1)
    bins = bins + (K + 1) * torch.arange(B, device=label.device)[:, None]  # each image has its own
    pixels = torch.bincount(bins.flatten(), minlength=B * (K + 1)).view(B, K + 1)[:, :K]
    return LabelCounts(pixels.sum(0), torch.bincount((pixels > 0).sum(1), minlength=K + 1))


def check_label(
    label: Tensor, num_classes: int, *, batch: int | None = None, size: tuple[int, int] | None = None
) -> None:
    """Refuse a label that is not class indices.

    Args:
        label: Class indices [B, H, W], int64; 255 is ignored.
        num_classes: Classes K.
        batch: Images B that were predicted.
        size: Height and width of these images, padding included: the most that the label may have.

    Raises:
        ValueError: If the label has another type or shape, or an index that is no class.
    """
    if label.dtype != torch.int64:
        raise ValueError(f"the label is {label.dtype}: give class indices as torch.int64, e.g. label.long()")
    B = label.shape[0] if batch is None else batch
    if label.dim() != 3 or label.shape[0] != B:
        expected = "[B, H, W]" if batch is None else f"[{batch}, H, W]"
        raise ValueError(f"the label is of shape {list(label.shape)}: give one class index a pixel, {expected}")
    if size is not None and (label.shape[1] > size[0] or label.shape[2] > size[1]):
        raise ValueError(
            f"the label is of {label.shape[1]} x {label.shape[2]} pixels, but the images are of {size[0]} x {size[1]}: "
            "give label and images of one size"
        )
    if torch.compiler.is_compiling() or label.numel() == 0:  # a compiler has no values to look at
        return
    lowest, highest = torch.stack(label.where(label != IGNORE_INDEX, 0).aminmax()).tolist()
    if lowest < 0 or highest >= num_classes:
        wrong = torch.unique(label[((label < 0) | (label >= num_classes)) & (label != IGNORE_INDEX)]).tolist()
        found = ", ".join(map(str, wrong[:8])) + (", ..." if len(wrong) > 8 else "")
        raise ValueError(
            f"the label holds {found}, but the model has {num_classes} classes: give 0 to {num_classes - 1}, and "
            f"{IGNORE_INDEX} for pixels that do not count"
        )
