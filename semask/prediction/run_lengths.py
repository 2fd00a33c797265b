"""Runs of equal values in a map, from which labeling tools make their masks."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Runs(NamedTuple):
    """Where a value is in a flat map."""

    starts: NDArray[np.int64]
    """First place of each run, in order: [N]."""
    ends: NDArray[np.int64]
    """Place behind each run: [N]."""


def runs_of(flat: NDArray[Any], count: int, *, width: int | None = None) -> Iterator[Runs]:
    """Give the runs of each of the values 1 .. count, in one pass over the map.

    Args:
        flat: Values of 0 on, of the map row by row or column by column: [N].
        count: The largest value.
        width: Places after which a run is cut, the width of a map row by row; None: it is not.
    """
    begins = np.diff(flat, prepend=-1) != 0
    if width is not None:
        begins[::width] = True
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], flat.size)
    order = np.argsort(flat[starts], kind="stable")
    limits = np.searchsorted(flat[starts][order], np.arange(1, count + 2))
    for first, last in itertools.pairwise(limits):
        yield Runs(starts[order[first:last]], ends[order[first:last]])
