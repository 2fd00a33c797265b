"""The classes of masks that nobody named, by the values and colors in them: a proposal for `data.classes`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semask.data.classes import IGNORE_INDEX, Color
from semask.data.survey import MaskKinds

BACKGROUND, OBJECT, IGNORE = "background", "object", "ignore"
MOST_CLASSES = 64
"""More different values or colors than these are not classes: they come from smoothing or compression."""
RARE = 1e-4
"""Share of the pixels below which a value or color in masks with many of them is no class."""
DERIVED = 0.3
"""What smoothing makes of colors is less frequent than this share of theirs."""
FEW = 0.05
"""What smoothed edges make between 0 and 255 is less frequent than this share of either."""
NEAR, OFF = 32, 8
"""Differences in a channel up to which a color is near another one, or on the line between two."""


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
    if _few_between(values):
        return _smooth_values(values)
    if set(values) == {0, IGNORE_INDEX}:
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
    """Whether most pixels are 0 or 255 and many other values lie between, as edges that were smoothed do."""
    ends = values.get(0, 0) + values.get(IGNORE_INDEX, 0)
    between = len(values) - (0 in values) - (IGNORE_INDEX in values)
    return min(values.get(0, 0), values.get(IGNORE_INDEX, 0)) > 0 and between > 8 and ends > 0.8 * sum(values.values())


def _few_between(values: Mapping[int, int]) -> bool:
    """Whether there are 0, 255, and few pixels of other values that are not numbers of classes from 1 on.

    Without this the few would be the classes, and 255, which is the object, would be ignored.
    """
    between = sorted(values.keys() - {0, IGNORE_INDEX})
    ends = min(values.get(0, 0), values.get(IGNORE_INDEX, 0))
    counted = between == list(range(1, len(between) + 1))
    return not counted and between[-1] < IGNORE_INDEX and sum(values[value] for value in between) < FEW * ends


def _smooth_values(values: Mapping[int, int]) -> Guess:
    kept = [color[0] for color in _own_colors({(value, value, value): count for value, count in values.items()})]
    _require_few(kept, len(values), "values")
    if kept == [0, IGNORE_INDEX]:
        names: dict[str, list[Any]] = {BACKGROUND: [0], OBJECT: [IGNORE_INDEX]}
    else:
        names = {BACKGROUND if value == 0 else f"class_{value}": [value] for value in kept}
    rest = 1 - sum(values[value] for value in kept) / sum(values.values())
    said = f"{len(kept)} values are frequent; {100 * rest:.2g} % of the pixels have others and take the nearest"
    return Guess(names, IGNORE_INDEX, said)


def _of_colors(colors: Mapping[Color, int]) -> Guess:
    if len(colors) < 2:
        raise ValueError(f"the masks hold one color, {next(iter(colors))}: there is nothing to tell apart")
    own = _own_colors(colors)
    # A few colors near others may be classes; many are what smoothing makes.
    many = len(colors) > MOST_CLASSES or len(colors) > 2 * len(own) + 4
    kept = own if many else sorted(colors)
    _require_few(kept, len(colors), "colors")
    entries = {color: f"#{color[0]:02x}{color[1]:02x}{color[2]:02x}" for color in kept}
    if kept[0] == (0, 0, 0) and len(kept) == 2:
        names = {BACKGROUND: [entries[kept[0]]], OBJECT: [entries[kept[1]]]}
    else:
        names = {BACKGROUND if c == (0, 0, 0) else f"color_{code[1:]}": [code] for c, code in entries.items()}
    reason = f"the masks hold {len(kept)} colors; nothing names them: rename the classes here, the colors stay"
    if not many:
        return Guess(names, 0, reason)
    rest = 1 - sum(colors[color] for color in kept) / sum(colors.values())
    said = f"{len(kept)} colors are frequent; {100 * rest:.2g} % of the pixels have others and take the nearest"
    return Guess(names, IGNORE_INDEX, said)


def _require_few(kept: Sequence[Any], found: int, what: str) -> None:
    if not 2 <= len(kept) <= MOST_CLASSES:
        raise ValueError(
            f"the masks hold {found} different {what}: these are pictures, or masks that were compressed or resized "
            "smoothly; save class values, or give data.classes and data.tolerance"
        )


def _own_colors(colors: Mapping[Color, int]) -> list[Color]:
    """The colors that are classes of their own, sorted: not those that smoothing or compression made of others.

    Those are near a more frequent color, or lie between two, and are far rarer than these.
    """
    total = sum(colors.values())
    kept: list[Color] = []
    for color, count in sorted(colors.items(), key=lambda entry: (-entry[1], entry[0])):
        if count < RARE * total or len(kept) > MOST_CLASSES:
            break
        known = np.array(kept, dtype=np.float64).reshape(-1, 3)
        counts = np.array([colors[other] for other in kept])
        common = known[counts * DERIVED >= count]
        if not _derived(np.array(color, dtype=np.float64), common):
            kept.append(color)
    return sorted(kept)


def _derived(color: NDArray[np.float64], common: NDArray[np.float64]) -> bool:
    """Whether a color is near one of some colors [n, 3], or between two of them."""
    if (np.abs(common - color).max(1, initial=0) <= NEAR).any():
        return True
    start, end = common[:, None], common[None]  # every two: [n, n, 3]
    along = end - start
    length = (along**2).sum(-1)
    part = ((color - start) * along).sum(-1) / np.maximum(length, 1)
    off = np.abs(start + part[..., None] * along - color).max(-1)
    return bool(((off <= OFF) & (part > 0) & (part < 1)).any())
