"""What the commands print: lines, warnings, bars and tables, all through one kind of console.

Rich is loaded when something is printed, so that a mistyped option costs nothing.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from semask.files.reporter import Reporter, time_left
from semask.files.text import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

T = TypeVar("T")


def make_console(*, stderr: bool = True, quiet: bool = False) -> "Console":
    """Make a console of rich that leaves :smile: as it is; text from outside goes through `shown`."""
    from rich.console import Console

    return Console(stderr=stderr, quiet=quiet, emoji=False, highlight=False)


def score_table(metrics: Mapping[str, Any], *, title: str) -> "Table":
    """A table of the scores of each class, and their means.

    Args:
        metrics: Scores as `semask.evaluation.report.describe` says them.
        title: Title, as rich is to print it.
    """
    from rich.table import Table

    from semask.metrics.confusion import percent

    intervals = metrics.get("intervals")
    table = Table(title=title)
    table.add_column("class")
    for column in ("IoU %", *(["95 %"] if intervals is not None else []), "accuracy %", "pixels"):
        table.add_column(column, justify="right", no_wrap=True)
    of_classes = [[interval_text(x)] for x in intervals["classes"]] if intervals is not None else None
    for index, row in enumerate(metrics["classes"]):
        between = of_classes[index] if of_classes is not None else []
        numbers = (percent(row["iou"]), *between, percent(row["accuracy"]), f"{row['pixels']:,}")
        table.add_row(shown(row["name"], longest=60), *numbers)
    table.add_section()
    between = [interval_text(intervals["miou"])] if intervals is not None else []
    table.add_row("mean", percent(metrics["miou"]), *between, percent(metrics["mean_accuracy"]), "")
    return table


def interval_text(interval: Mapping[str, Any]) -> str:
    """Write an interval of shares in percent; a dash if there is none."""
    if interval["low"] is None:
        return "-"
    return f"{100 * interval['low']:.1f} to {100 * interval['high']:.1f}"


def confusion_lines(metrics: Mapping[str, Any], count: int = 5) -> list[str]:
    """Lines that say what classes are taken for most often; none if nothing is."""
    from semask.metrics.confusion import percent

    pairs = [
        f"{percent(pair['share'])} % of {shown(pair['label'], longest=60)} as {shown(pair['prediction'], longest=60)}"
        for pair in metrics.get("confused", [])[:count]
    ]
    return [f"Most often wrong: {', '.join(pairs)}"] if pairs else []


def warn(lines: Sequence[str | None]) -> None:
    """Print lines of warning on the standard error stream, each once; None is left out."""
    ConsoleReporter().warn(lines)


def track(items: Iterable[T], what: str, count: int) -> Iterable[T]:
    """Show a bar that says how far a loop is, on the standard error stream, and take it away at the end.

    Args:
        items: What the loop goes through.
        what: What is done, for a person.
        count: Number of items.
    """
    return ConsoleReporter().track(items, what, count)


class ConsoleReporter(Reporter):
    """Prints on the standard error stream, with one bar for each loop that runs.

    Args:
        quiet: Print nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = make_console(quiet=quiet)
        self.bars: Progress | None = None

    def note(self, text: str) -> None:
        """Print a line."""
        self.console.print(shown(text), soft_wrap=True)

    def warn(self, lines: Sequence[str | None]) -> None:
        """Print lines of warning, each once; None is left out."""
        for line in dict.fromkeys(lines):
            if line is not None:
                self.console.print(f"warning: {shown(line)}", style="yellow", soft_wrap=True)

    def track(self, items: Iterable[T], what: str, count: int) -> Iterator[T]:
        """Show a bar while a loop runs; below those of the loops around it."""
        with self._live(transient=True) as bars:
            task = bars.add_task(shown(what), total=count, losses="")
            for item in items:
                yield item
                bars.advance(task)
            bars.remove_task(task)

    @contextlib.contextmanager
    def training(self, done: int, steps: int) -> Iterator[None]:
        """Show a bar with loss, learning rate, images/s and the time left with all evaluations; it stays."""
        with self._live(transient=False) as bars:
            self.steps = bars.add_task("training", total=steps, completed=done, losses="")
            yield

    def step(self, step: int, steps: int, losses: str | None = None, left: float | None = None) -> None:
        """Move the bar; what was logged is a line where there is no terminal to show a bar."""
        assert self.bars is not None
        self.bars.update(self.steps, completed=step, left=left)
        if losses is not None:
            self.bars.update(self.steps, losses=losses)
            if not self.console.is_terminal:
                self.console.print(f"step {step}/{steps}  {losses}{time_left(left)}", markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def _live(self, *, transient: bool) -> Iterator["Progress"]:
        """The bars on the screen; the outermost loop begins and ends them."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
        from rich.text import Text

        class TimeLeft(TimeRemainingColumn):
            """Time left as the loop says it, if it does: a training's has evaluations too."""

            def render(self, task: Task) -> Text:
                left = task.fields.get("left")
                return super().render(task) if left is None else Text(str(timedelta(seconds=round(left))))

        if self.bars is not None:
            yield self.bars
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}", markup=False),
            TimeLeft(),
        )
        hidden = self.console.quiet or (transient and not self.console.is_terminal)
        with Progress(*columns, console=self.console, transient=transient, disable=hidden) as bars:
            self.bars = bars
            try:
                yield bars
            finally:
                self.bars = None
