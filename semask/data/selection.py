"""Which labels of the files make which class: merged, dropped, renamed and reordered as a recipe says."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from semask.data.classes import IGNORE_INDEX, Classes, Color, default_palette
from semask.files.schema import quoted
from semask.files.text import one_line

IGNORE = "ignore"
"""Name in `data.classes` for what is not learned."""
REST = "*"
"""Entry in `data.classes` for everything that is not listed."""
COLOR = re.compile(r"#[0-9a-fA-F]{6}")


class Selection(NamedTuple):
    """What a recipe says of the classes.

    Args:
        classes: Name of a class -> what the files have for it: values of masks, colors such as "#80ff00", names of
            their own classes, or "*" for all that is not listed; the name "ignore" takes what is not learned.
        tolerance: Greatest difference of a channel between a value or color of a mask and a listed one, which it then
            stands for.
    """

    classes: Mapping[str, Any]
    tolerance: int = 0


class Selected(NamedTuple):
    """Classes as they were selected.

    Args:
        classes: Names and colors.
        values: Number in the masks -> class index or 255.
        colors: Color in RGB masks -> class index or 255; None: there are none.
        rest: Class index, or 255, of what is not listed; None: it is an error.
    """

    classes: Classes
    values: dict[int, int]
    colors: dict[Color, int] | None
    rest: int | None


def select(
    selection: Selection,
    own: Classes | None,
    values: Mapping[int, int],
    colors: Mapping[Color, int] | None,
    *,
    name: str,
) -> Selected:
    """Make classes of those that the files have.

    Args:
        selection: What makes which class.
        own: Classes of the files; None if they do not name any.
        values: Number in the masks -> index of the files' own class, or 255.
        colors: Color in RGB masks -> index of the files' own class, or 255; None: there are none.
        name: Name of the data set, for messages.

    Raises:
        ValueError: If a class of the files is left out, something is listed twice, or is not there.
    """
    try:
        return _select(selection, own, values, colors)
    except ValueError as error:
        raise ValueError(f"data.classes for {one_line(name)}: {error}") from error


def _select(
    selection: Selection, own: Classes | None, values: Mapping[int, int], colors: Mapping[Color, int] | None
) -> Selected:
    names = [key for key in selection.classes if key != IGNORE]
    new_values: dict[int, int] = {}
    new_colors: dict[Color, int] = {}
    rest: int | None = None
    palette: dict[int, Color] = {}
    for key, listed in selection.classes.items():
        index = IGNORE_INDEX if key == IGNORE else names.index(key)
        for entry in _entries(key, listed):
            if entry == REST:
                if rest is not None:
                    raise ValueError(f'"{REST}" is listed twice')
                rest = index
                continue
            its_values, its_colors = _meant(entry, own, values, colors)
            for found, table in ((its_values, new_values), (its_colors, new_colors)):
                _add(found, table, index, entry)
            color = its_colors[0] if its_colors else _own_color(entry, own)
            if color is not None and index != IGNORE_INDEX:
                palette.setdefault(index, color)
    _require_complete(own, values, colors, new_values, new_colors, rest)
    # What the files themselves ignore stays ignored, unless it is listed.
    new_values = {v: IGNORE_INDEX for v, i in values.items() if i == IGNORE_INDEX} | new_values
    new_colors = {c: IGNORE_INDEX for c, i in (colors or {}).items() if i == IGNORE_INDEX} | new_colors
    if rest is not None:  # black and 255 would be ignored, even if they are a class of the files
        new_values = dict.fromkeys(values, rest) | new_values
        new_colors = dict.fromkeys(colors or {}, rest) | new_colors
    colored = colors is not None or bool(new_colors)
    return Selected(
        Classes(tuple(names), _palette(len(names), palette)), new_values, new_colors if colored else None, rest
    )


def _entries(key: str, listed: Any) -> list[Any]:
    """What is listed for a class, checked by type."""
    entries = list(listed) if isinstance(listed, list | tuple) else [listed]
    for entry in entries:
        whole = type(entry) is int and entry >= 0
        if not whole and not (isinstance(entry, str) and entry):
            raise ValueError(
                f"{quoted(key, longest=60)} lists {quoted(entry, longest=60)}: give values of the masks (0, 1, ...), "
                'colors ("#ff8000"), names of classes, or "*"'
            )
    if not entries and key != IGNORE:
        raise ValueError(f"{quoted(key, longest=60)} lists nothing: give what the masks have for it, or leave it out")
    return entries


def _meant(
    entry: int | str, own: Classes | None, values: Mapping[int, int], colors: Mapping[Color, int] | None
) -> tuple[list[int], list[Color]]:
    """Numbers and colors in the masks that an entry stands for."""
    if isinstance(entry, int):
        return [entry], []
    if own is not None and entry in own.names:  # a class may be called #ff0000
        index = own.names.index(entry)
        its_colors = [color for color, i in (colors or {}).items() if i == index]
        return [value for value, i in values.items() if i == index], its_colors
    if COLOR.fullmatch(entry):
        red, green, blue = (int(entry[i : i + 2], 16) for i in (1, 3, 5))
        return [], [(red, green, blue)]
    known = "its files do not name classes: give values or colors"
    if own is not None:
        more = f" and {len(own) - 20} more" if len(own) > 20 else ""
        known = f"it has {', '.join(one_line(name, longest=60) for name in own.names[:20])}{more}"
    raise ValueError(f"{quoted(entry, longest=60)} is none of its classes, {known}")


def _add(found: list[Any], table: dict[Any, int], index: int, entry: int | str) -> None:
    for key in found:
        if key in table:
            raise ValueError(f"{quoted(entry, longest=60)} is listed twice: each may be part of one class only")
        table[key] = index


def _own_color(entry: int | str, own: Classes | None) -> Color | None:
    return own.palette[own.names.index(entry)] if own is not None and entry in own.names else None


def _require_complete(
    own: Classes | None,
    values: Mapping[int, int],
    colors: Mapping[Color, int] | None,
    new_values: Mapping[int, int],
    new_colors: Mapping[Color, int],
    rest: int | None,
) -> None:
    """Refuse to leave out a class of the files: its pixels would be an error later.

    Raises:
        ValueError: Which one.
    """
    if own is None or rest is not None:
        return
    left = [
        own.names[index]
        for index in range(len(own))
        if not any(i == index and v in new_values for v, i in values.items())
        and not any(i == index and c in new_colors for c, i in (colors or {}).items())
    ]
    if left:
        more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        raise ValueError(
            f"its class {quoted(left[0], longest=60)}{more} is not listed: add it to a class, or to "
            f"{IGNORE}; {IGNORE}: ['{REST}'] takes all that is not listed"
        )


def _palette(count: int, given: Mapping[int, Color]) -> tuple[Color, ...]:
    """Colors for all classes: the given ones, each once, and others for the rest."""
    colors = {
        index: color for index, color in given.items() if list(given.values()).index(color) == list(given).index(index)
    }
    others = iter(color for color in default_palette(count + len(colors)) if color not in colors.values())
    return tuple(colors[index] if index in colors else next(others) for index in range(count))
