"""How far a long loop is: the loops of `data` and `synthetic` say it to whoever calls them, and print nothing."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Shows how far a loop is, for example `track` of `semask/commands/console.py`."""

    def __call__(self, items: Iterable[T], what: str, count: int) -> Iterable[T]:
        """Give the items on, one by one.

        Args:
            items: What the loop goes through.
            what: What is done, for a person.
            count: Number of items.
        """


def untracked(items: Iterable[T], what: str, count: int) -> Iterable[T]:
    """Show nothing."""
    return items
