"""Terms next to the cross-entropy: focal (hard pixels), Dice and Lovasz (regions, every class alike).

Dice and Lovasz are those of segmentation_models_pytorch, which give the papers' values (tests/losses/test_region.py).
Its focal loss is not used: it compares each class with the rest through a sigmoid, while our decoders are read with a
softmax, and it is NaN for a label in which every pixel is ignored.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from semask.data.classes import IGNORE_INDEX


def focal_sum(scores: Tensor, label: Tensor, weights: Tensor | None, *, gamma: float) -> Tensor:
    """Sum the focal loss (Lin et al. 2017, arXiv 1708.02002, equation 5) over the pixels, with a softmax.

    Args:
        scores: Logits [B, K, H, W], float32.
        label: Class indices [B, H, W]; 255 is ignored.
        weights: Weight of each class [K], the paper's alpha; None weighs all alike.
        gamma: How strongly pixels that are right already are left out; 0 is cross-entropy.

    Returns:
        The sum over pixels of (1 - p)^gamma times the cross-entropy: a scalar.
    """
    losses = F.cross_entropy(scores, label, ignore_index=IGNORE_INDEX, reduction="none")  # -log p, [B, H, W]
    wrong = -torch.expm1(-losses)  # 1 - p, exact near 0 too
    wrong = wrong.clamp(min=torch.finfo(wrong.dtype).tiny ** 0.25)  # the slope of a root at 0 is infinite
    losses = wrong**gamma * losses
    return losses.sum() if weights is None else (losses * weights[label.where(label != IGNORE_INDEX, 0)]).sum()


def dice_loss(scores: Tensor, label: Tensor) -> Tensor:
    """Compute 1 - Dice coefficient, averaged over the classes in a label; 0 if every pixel is ignored.

    The sums of each class run over all images (Milletari et al. 2016, arXiv 1606.04797, without the squares).

    Args:
        scores: Logits [B, K, H, W], float32.
        label: Class indices [B, H, W]; 255 is ignored.
    """
    from segmentation_models_pytorch.losses import DiceLoss  # of the extra `decoders`

    present = torch.unique(label[label != IGNORE_INDEX])
    if not len(present):  # the library's mean over no class is NaN
        return 0 * scores.sum()
    # Without `classes` the mean is over all K, of which those that are absent count as solved: the loss of a batch
    # would shrink with the number of classes that it does not show.
    loss: Tensor = DiceLoss("multiclass", classes=present, ignore_index=IGNORE_INDEX)(scores, label)
    return loss


def lovasz_loss(scores: Tensor, label: Tensor) -> Tensor:
    """Compute the Lovasz-softmax loss (Berman et al. 2018, arXiv 1705.08790), averaged over the classes in a label.

    The pixels of all images are one set. 0 if every pixel is ignored.

    Args:
        scores: Logits [B, K, H, W], float32.
        label: Class indices [B, H, W]; 255 is ignored.
    """
    from segmentation_models_pytorch.losses import LovaszLoss  # of the extra `decoders`

    if not (label != IGNORE_INDEX).any():  # the library gives an empty tensor
        return 0 * scores.sum()
    loss: Tensor = LovaszLoss("multiclass", ignore_index=IGNORE_INDEX)(scores, label)
    return loss
