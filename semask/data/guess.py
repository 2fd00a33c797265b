"""The classes of masks that nobody named, by the values and colors in them: a proposal for `data.classes`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from semask.data.classes import IGNORE_INDEX, Color
from semask.data.survey import MaskKinds

BACKGROUND, OBJECT, IGNORE = "background", "object", "ignore"
MOST_CLASSES = 64
"""More different values or colors than these are not classes: they come from smoothing or compression."""
RARE = 2e-3
"""Share of the pixels below which a value or color in masks with many of them comes from smoothing."""


class Guess(NamedTuple):
    """A proposal for the classes.

    Args:
        classes: As `data.classes`.
        tolerance: As `data.tolerance`.
        reason: What in the masks shows it.
    """

    classes: dict[str, list[Any]]
    tolerance: int
    reason: str


def guess_classes(kinds: MaskKinds) -> Guess:
    """Propose classes for what the masks hold.

    Raises:
        ValueError: The masks hold values and colors, too many of them, or nothing to tell apart.
    """
    if kinds.values and kinds.colors:
        raise ValueError("some masks hold values, others colors: save all in one way, or give data.classes with both")
    return _of_colors(kinds.colors) if kinds.colors else _of_values(kinds.values)


def _of_values(values: Mapping[int, int]) -> Guess:
    classes = sorted(value for value in values if value != IGNORE_INDEX)
    if set(values) <= {0, IGNORE_INDEX} and IGNORE_INDEX in values:
        return Guess({BACKGROUND: [0], OBJECT: [IGNORE_INDEX]}, 0, "the masks hold 0 and 255 only")
    if len(classes) == 2 and classes[0] == 0:
        return Guess({BACKGROUND: [0], OBJECT: [classes[1]]}, 0, f"the masks hold 0 and {classes[1]}{_ignored(values)}")
    if len(classes) > MOST_CLASSES or _smoothed(values):
        return _smooth_values(values)
    if len(classes) < 2:
        said = ", ".join(str(value) for value in sorted(values)) or "nothing"
        raise ValueError(f"the masks hold {said}: there is nothing to tell apart")
    names = {BACKGROUND if value == 0 else f"class_{value}": [value] for value in classes}
    said = f"the masks hold {len(classes)} values, {classes[0]} to {classes[-1]}{_ignored(values)}"
    return Guess(names, 0, f"{said}; nothing names them: rename the classes here, the values stay")


def _ignored(values: Mapping[int, int]) -> str:
    return "; 255 is ignored" if IGNORE_INDEX in values else ""


def _smoothed(values: Mapping[int, int]) -> bool:
    """Whether nearly all pixels are 0 or 255 and the rest lies between, as edges that were smoothed do."""
    ends = values.get(0, 0) + values.get(IGNORE_INDEX, 0)
    between = len(values) - (0 in values) - (IGNORE_INDEX in values)
    return min(values.get(0, 0), values.get(IGNORE_INDEX, 0)) > 0 and between > 8 and ends > 0.8 * sum(values.values())


def _smooth_values(values: Mapping[int, int]) -> Guess:
    total = sum(values.values())
    kept = sorted(value for value, count in values.items() if count >= RARE * total)
    if len(kept) > MOST_CLASSES or len(kept) < 2:
        raise ValueError(
            f"the masks hold {len(values)} different values: these are pictures, or masks that were compressed or "
            "resized smoothly; save class values, or give data.classes and data.tolerance"
        )
    gap = _half_gap([(value,) for value in kept])
    if kept == [0, IGNORE_INDEX]:
        names: dict[str, list[Any]] = {BACKGROUND: [0], OBJECT: [IGNORE_INDEX]}
    else:
        names = {BACKGROUND if value == 0 else f"class_{value}": [value] for value in kept}
    rest = 1 - sum(values[value] for value in kept) / total
    return Guess(names, gap, f"{len(kept)} values are frequent; {100 * rest:.2g} % of the pixels lie between them")


def _of_colors(colors: Mapping[Color, int]) -> Guess:
    total = sum(colors.values())
    many = len(colors) > MOST_CLASSES
    kept = sorted(color for color, count in colors.items() if not many or count >= RARE * total)
    if len(kept) > MOST_CLASSES or len(kept) < 2:
        raise ValueError(
            f"the masks hold {len(colors)} different colors: these are pictures, or masks that were compressed or "
            "resized smoothly; save class values, or give data.classes and data.tolerance"
        )
    entries = {color: f"#{color[0]:02x}{color[1]:02x}{color[2]:02x}" for color in kept}
    if kept[0] == (0, 0, 0) and len(kept) == 2:
        names = {BACKGROUND: [entries[kept[0]]], OBJECT: [entries[kept[1]]]}
    else:
        names = {BACKGROUND if c == (0, 0, 0) else f"color_{code[1:]}": [code] for c, code in entries.items()}
    reason = f"the masks hold {len(kept)} colors; nothing names them: rename the classes here, the colors stay"
    if not many:
        return Guess(names, 0, reason)
    rest = 1 - sum(colors[color] for color in kept) / total
    said = f"{len(kept)} colors are frequent; {100 * rest:.2g} % of the pixels have others and take the nearest"
    return Guess(names, IGNORE_INDEX, said)


def _half_gap(kept: list[tuple[int, ...]]) -> int:
    """The tolerance with which every value between the kept ones has one that is near enough."""
    values = np.array([value for (value,) in kept])
    return int(max(np.diff(values).max(initial=0) // 2 + 1, values[0], IGNORE_INDEX - values[-1]))
