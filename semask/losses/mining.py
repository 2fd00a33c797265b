"""Hard example mining: which pixels of a batch a loss looks at."""

import torch
from torch import Tensor


def hard_pixels(
    losses: Tensor, scores: Tensor, label: Tensor, valid: Tensor, *, kept: int, threshold: float | None
) -> Tensor:
    """Choose the pixels that count, bool [B, H, W].

    Args:
        losses: Loss of each pixel [B, H, W].
        scores: Class scores [B, K, H, W].
        label: Class indices [B, H, W].
        valid: Pixels that are not ignored, bool [B, H, W].
        kept: Pixels with the largest loss to choose, for each image on average.
        threshold: Also choose every pixel whose label got less than this probability.
    """
    hard = torch.zeros_like(valid)
    hardness = losses.masked_fill(~valid, -torch.inf).flatten()  # [B * H * W]
    if threshold is not None:
        probability = scores.softmax(1).gather(1, label.where(valid, 0)[:, None]).squeeze(1)  # [B, H, W]
        hardness = -probability.masked_fill(~valid, torch.inf).flatten()
        hard |= valid & (probability < threshold)
    hard.view(-1)[hardness.topk(min(kept * len(label), int(valid.sum()))).indices] = True
    return hard
