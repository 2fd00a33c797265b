"""What a long job says while it works, and how far it is: to whoever started it, in whatever way that is shown."""

import sys
import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TypeVar

from semask.files.text import one_line

T = TypeVar("T")


class Reporter:
    """Says nothing but warnings, which become Python's. Commands have one that prints (commands/console.py)."""

    def note(self, text: str) -> None:
        """Say a line."""

    def warn(self, lines: Sequence[str | None]) -> None:
        """Say lines of warning, each once; None is left out."""
        for line in dict.fromkeys(lines):
            if line is not None:
                warnings.warn(line, stacklevel=3)

    def track(self, items: Iterable[T], what: str, count: int) -> Iterable[T]:
        """Give `count` items on one by one, and show how far the loop is; `what` is done, for a person."""
        return items

    def training(self, done: int, steps: int) -> AbstractContextManager[None]:
        """Begin to show the steps of a training, `done` of which are done, and end with the context."""
        return nullcontext()

    def step(self, step: int, steps: int, losses: str | None = None, left: float | None = None) -> None:
        """Show that a step of a training is done.

        Args:
            step: Steps done.
            steps: Steps of the whole training.
            losses: What was logged of it, if anything.
            left: Seconds that the rest takes, with its evaluations; None if that is not known.
        """


class LineReporter(Reporter):
    """Prints notes and what is logged of a training as plain lines on the standard error stream."""

    def note(self, text: str) -> None:
        """Print a line."""
        print(one_line(text, longest=1000), file=sys.stderr)

    def step(self, step: int, steps: int, losses: str | None = None, left: float | None = None) -> None:
        """Print what was logged of a step."""
        if losses is not None:
            print(f"step {step}/{steps}  {losses}{time_left(left)}", file=sys.stderr)


def time_left(seconds: float | None) -> str:
    """Say how long the rest takes, to end a line with.

    >>> time_left(3725.4)
    '  1:02:05 left'
    """
    return "" if seconds is None else f"  {timedelta(seconds=round(seconds))} left"


class Silent(Reporter):
    """Says nothing at all: for all processes but the first."""

    def warn(self, lines: Sequence[str | None]) -> None:
        """Say nothing."""
