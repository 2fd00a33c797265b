"""The loss of which classes are in an image, for decoders that score it."""

import torch.nn.functional as F
from torch import Tensor


def presence_loss(scores: Tensor, label: Tensor) -> Tensor:
    """Binary cross-entropy of scores [B, K] of which classes are in the label [B, H, W] (255 = ignored): a scalar.

    The semantic encoding loss of Context Encoding (Zhang et al., arXiv 1803.08904), section 3.1.
    """
    K = scores.shape[1]
    counts = F.one_hot(label.masked_fill(label >= K, K).flatten(1), K + 1).sum(1)  # [B, H * W, K + 1] -> [B, K + 1]
    return F.binary_cross_entropy_with_logits(scores.float(), (counts[:, :K] > 0).float())
