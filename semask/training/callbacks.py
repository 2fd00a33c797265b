"""What code of your own is told during a training, and how it ends one."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from semask.evaluation.evaluate import Evaluation
from semask.model import SeMask


class StopTraining(Exception):
    """Raised by a callback: the run is evaluated, saved and ended; its text says why."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: Optimizer steps done.
        steps: Optimizer steps of the whole run.
        lr: Learning rate of this step; 0 before the first.
        losses: The losses of this step on this process: loss, main, prior; empty before the first.
        evaluation: The last evaluation; None before the first.
        seconds_left: Seconds that the rest with its evaluations takes; None before it can be told.
        model: The model, or its moving average where there is one: to be looked at, not to be changed.
        out: Folder of the run.
    """

    step: int
    steps: int
    lr: float
    losses: Mapping[str, float]
    evaluation: Evaluation | None
    seconds_left: float | None
    model: SeMask
    out: Path


class Callback:
    """Base of what `semask.train(..., callbacks=[...])` calls, on the first process; each method does nothing.

    Raise `StopTraining` in any of them to end the run. Any other exception ends it too: the state is saved, the
    exception goes on to who called `train`, and `resume` goes on after this step.

    >>> class StopEarly(Callback):
    ...     def on_step(self, run: Progress) -> None:
    ...         if run.losses["loss"] < 0.1:
    ...             raise StopTraining("the loss is low enough")
    """

    def on_start(self, run: Progress) -> None:
        """Before the first step of this session."""

    def on_step(self, run: Progress) -> None:
        """After a step, and the evaluation that comes after it."""

    def on_evaluation(self, run: Progress) -> None:
        """After an evaluation; `run.evaluation` is its result."""

    def on_end(self, run: Progress) -> None:
        """After the last step, evaluation and save."""
