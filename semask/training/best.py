"""Which evaluation is the best, and for how long none was better."""

import math
from collections.abc import Sequence

from semask.data.classes import Classes
from semask.evaluation.evaluate import Evaluation
from semask.files.schema import quoted
from semask.settings.training import CLASS


class Best:
    """The best score of a run so far.

    Args:
        by: Setting `training.best_by`: miou, mean_accuracy, overall_accuracy, or iou:NAME.
        classes: Classes of the data.
        patience: Evaluations without a better score after which the run ends; None for none.

    Attributes:
        score: The best score; -1 before the first evaluation.
        stale: Evaluations since then.

    Raises:
        ValueError: If there is no such class.
    """

    def __init__(self, by: str, classes: Classes, *, patience: int | None = None) -> None:
        self.by, self.patience = by, patience
        self.score, self.stale = -1.0, 0
        self.index = class_index(by.removeprefix(CLASS), classes.names) if by.startswith(CLASS) else None

    @property
    def name(self) -> str:
        """What the score is called in a sentence."""
        named = {"miou": "mIoU", "mean_accuracy": "mean accuracy", "overall_accuracy": "overall accuracy"}
        return named.get(self.by) or f"IoU of {self.by.removeprefix(CLASS)}"

    def of(self, result: Evaluation) -> float:
        """Score of an evaluation that decides; a class that neither occurs nor is predicted counts as 0."""
        score = getattr(result.scores, self.by) if self.index is None else result.scores.iou[self.index]
        return 0.0 if math.isnan(score) else float(score)

    def update(self, result: Evaluation) -> bool:
        """Take an evaluation into account; whether it is the best so far."""
        score = self.of(result)
        better = score > self.score
        self.score, self.stale = (score, 0) if better else (self.score, self.stale + 1)
        return better

    def gives_up(self) -> str | None:
        """Say why there is no hope of a better score; None while there is."""
        if self.patience is None or self.stale < self.patience:
            return None
        return f"no better {self.name} in {self.stale} evaluation{'s' * (self.stale > 1)}"


def class_index(name: str, names: Sequence[str]) -> int:
    """Index of a class.

    Raises:
        ValueError: If there is none of this name.
    """
    if name not in names:
        known = ", ".join(quoted(known, longest=40) for known in names[:20])
        raise ValueError(f"training.best_by is {quoted(CLASS + name)}, but no class has this name: there are {known}")
    return list(names).index(name)
