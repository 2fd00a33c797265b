"""Slices of a map, one after another: what lies between input and result is only as large as a slice."""

from collections.abc import Callable

from torch import Tensor

TOKENS = 4096
"""Tokens that are computed at once: few enough that what an MLP makes of them stays in a processor's cache."""


def by_slices(
    function: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, *, length: int, dim: int = 0
) -> tuple[Tensor, ...]:
    """Apply a function to slices of a dimension in turn.

    Args:
        function: Treats entries of the dimension by themselves, or groups of `length` of them; what it gives has the
            same entries there.
        x: Its argument.
        length: Entries at once.
        dim: The dimension.

    Returns:
        function(x).
    """
    n = x.shape[dim]
    results: list[Tensor] = []
    for start in range(0, n, length):
        size = min(length, n - start)
        parts = function(x.narrow(dim, start, size))
        results = results or [part.new_empty(*part.shape[:dim], n, *part.shape[dim + 1 :]) for part in parts]
        for result, part in zip(results, parts, strict=True):
            result.narrow(dim, start, size).copy_(part)
    return tuple(results)
