"""Exact scores: one integer confusion matrix, and divisions on the last line only."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from semask.data.classes import IGNORE_INDEX


class ConfusionMatrix:
    """Counts how often pixels of each class were predicted as each class.

    Args:
        num_classes: Classes K of the labels; predictions may not go beyond them.
        device: Where the counts are kept.

    >>> matrix = ConfusionMatrix(2)
    >>> matrix.update(prediction=torch.tensor([0, 0, 1, 1]), label=torch.tensor([0, 1, 1, 255]))
    >>> matrix.counts
    tensor([[1, 0],
            [1, 1]])
    """

    def __init__(self, num_classes: int, *, device: torch.device | str = "cpu") -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
        """[K, K] int64: row = label, column = prediction."""

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add pixels.

        Args:
            prediction: Class indices of any shape.
            label: Class indices of the same shape; pixels of 255 are ignored.

        Raises:
            ValueError: If the shapes differ or an index is no class.
        """
        self.add(count(prediction, label, self.num_classes))

    def add(self, counts: Tensor) -> None:
        """Add what `count` counted, [K, K]."""
        self.counts += counts.to(self.counts.device)

    def confused(self, count: int = 10) -> list["Confusion"]:
        """Find what classes are taken for most often, by the share of their pixels.

        Args:
            count: Length of the list, at most.

        >>> matrix = ConfusionMatrix(2)
        >>> matrix.update(prediction=torch.tensor([0, 0, 1, 1]), label=torch.tensor([0, 1, 1, 255]))
        >>> matrix.confused()
        [Confusion(label=1, prediction=0, pixels=1, share=0.5)]
        """
        counts = self.counts.cpu()
        wrong = counts - counts.diag().diag()
        shares = (wrong.double() / counts.sum(1, keepdim=True).clamp(min=1)).flatten()
        K = self.num_classes
        order = shares.argsort(descending=True, stable=True)[:count].tolist()
        pairs = [(i // K, i % K) for i in order if shares[i] > 0]
        return [Confusion(a, b, int(wrong[a, b]), shares[a * K + b].item()) for a, b in pairs]

    def scores(self) -> "Scores":
        """Divide: see `Scores`."""
        hits, labels, predictions = self.counts.diag(), self.counts.sum(1), self.counts.sum(0)
        union = labels + predictions - hits
        iou, accuracy = hits.double() / union, hits.double() / labels  # 0 / 0 = NaN: the class does not occur
        return Scores(
            miou=iou.nanmean().item(),
            mean_accuracy=accuracy.nanmean().item(),
            overall_accuracy=(hits.sum().double() / labels.sum()).item(),
            iou=iou.tolist(),
            accuracy=accuracy.tolist(),
            pixels=labels.tolist(),
        )


def count(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Count how often pixels of each class were predicted as each class.

    Args:
        prediction: Class indices of any shape.
        label: Class indices of the same shape; pixels of 255 are ignored.
        num_classes: Classes K.

    Returns:
        Pixels [K, K] int64: row = label, column = prediction.

    Raises:
        ValueError: If the shapes differ or an index is no class.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"prediction is {list(prediction.shape)} and label {list(label.shape)}: give equal shapes")
    valid = label != IGNORE_INDEX
    K, label, prediction = num_classes, label[valid].long(), prediction[valid].long()
    if len(label) and (min(label.min(), prediction.min()) < 0 or max(label.max(), prediction.max()) >= K):
        raise ValueError(f"label or prediction has class indices outside 0..{K - 1}")
    return torch.bincount(label * K + prediction, minlength=K * K).view(K, K)


class Confusion(NamedTuple):
    """A class that is taken for another one."""

    label: int
    prediction: int
    pixels: int
    """Pixels of the class `label` that were predicted as `prediction`."""
    share: float
    """The same as a share of all pixels of the class `label`, in [0, 1]."""


@dataclass(frozen=True)
class Scores:
    """Scores in [0, 1]; NaN where a class occurs neither in labels nor in predictions.

    Attributes:
        miou: Mean of the classes' IoU, without NaN.
        mean_accuracy: Mean of the classes' accuracy, without NaN.
        overall_accuracy: Share of the pixels that are right.
        iou: Intersection over union of each class, [K].
        accuracy: Share of each class' pixels that are right, [K].
        pixels: Labeled pixels of each class, [K].
    """

    miou: float
    mean_accuracy: float
    overall_accuracy: float
    iou: list[float]
    accuracy: list[float]
    pixels: list[int]


def percent(share: float | None) -> str:
    """Write a share as a percentage; a dash for None or NaN."""
    return "-" if share is None or math.isnan(share) else f"{100 * share:.2f}"
