"""What an evaluation counts besides the confusion matrix."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from semask.files.schema import Length, Range, from_plain, require_fields


@dataclass(frozen=True)
class Details:
    """What an evaluation counts besides the confusion matrix.

    Attributes:
        boundary_width: Width of the boundary regions of boundary IoU, as a share of the image's diagonal.
        sizes: Areas in pixels, in rising order, at which the next object size begins: medium and large.
        worst_images: How many of the worst images are listed.

    Raises:
        ValueError: If a setting is out of its range.
    """

    boundary_width: Annotated[float, Range(0, 0.5, above=True)] = 0.02
    sizes: Annotated[tuple[Annotated[int, Range(1, 2**40)], ...], Length(1, 10)] = (32**2, 96**2)
    worst_images: Annotated[int, Range(0, 1000)] = 10

    def __post_init__(self) -> None:
        require_fields(self, "details")
        if any(low >= high for low, high in pairwise(self.sizes)):
            raise ValueError(f"sizes is {list(self.sizes)}: give areas in rising order, e.g. [1024,9216]")


DetailsGiven = bool | Details | Mapping[str, Any]
"""What is asked for: whether at all, all settings, or some fields of `Details` in place of the defaults."""
DetailOptions = Annotated[dict[str, Any], Details]
"""Fields of `Details` as options of a command; those that are not given are not in it."""


def details_of(given: DetailsGiven) -> Details | None:
    """Settings to use; None for no details.

    Raises:
        ValueError: If a setting is unknown or out of its range.

    >>> details_of(False), details_of({"sizes": [100]}).sizes
    (None, (100,))
    """
    if isinstance(given, Details):
        return given
    if isinstance(given, bool):
        return Details() if given else None
    return Details(**from_plain(Details, dict(given), "details"))
