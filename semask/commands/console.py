"""What commands print on the standard error stream."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.progress import track as bar

from semask.files.text import make_console, shown

T = TypeVar("T")


def warn(lines: Sequence[str | None]) -> None:
    """Print lines of warning, each once; None is left out."""
    console = make_console()
    for line in dict.fromkeys(lines):
        if line is not None:
            console.print(f"warning: {shown(line)}", style="yellow", highlight=False, soft_wrap=True)


def track(items: Iterable[T], what: str, count: int) -> Iterable[T]:
    """Show a bar that says how far a loop is, and take it away at the end.

    Args:
        items: What the loop goes through.
        what: What is done, for a person.
        count: Number of items.
    """
    return bar(items, shown(what), count, console=make_console(), transient=True)
