"""What a file of anybody says, taken only where it is what it should be, and made safe to put into a page."""

import html
import math
from collections.abc import Mapping
from typing import Any

from semask.files.text import one_line

MOST_ENTRIES = 300
"""Entries of a list that are shown: classes, images, settings."""
LONGEST = 200
"""Characters of a text that are shown."""
LARGEST = 1e15
NONE = "–"


def escaped(text: object, *, longest: int = LONGEST) -> str:
    r"""Make text from outside a part of a page: on one line, cut, without markup.

    >>> escaped("<b>\u202e'road'")
    '&lt;b&gt;?&#x27;road&#x27;'
    """
    plain = str(text)[: 4 * longest].encode("utf-8", "replace").decode()
    return html.escape(one_line(plain, longest=longest))


def number(value: Any) -> float | None:
    """A finite number, or None.

    >>> number(1), number("1"), number(float("nan")), number(10**400)
    (1.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not -LARGEST <= value <= LARGEST or not math.isfinite(value):
        return None
    return float(value)


def share(value: Any) -> float | None:
    """A number from 0 to 1, or None."""
    found = number(value)
    return found if found is not None and 0 <= found <= 1 else None


def part(values: Any, name: str) -> Mapping[str, Any]:
    """The object that an object has under a name; empty if there is none."""
    found = values.get(name) if isinstance(values, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def entries(values: Any, name: str) -> list[Mapping[str, Any]]:
    """The objects of a list that an object has under a name; empty if there is none."""
    found = values.get(name) if isinstance(values, Mapping) else None
    return [x for x in found[:MOST_ENTRIES] if isinstance(x, Mapping)] if isinstance(found, list | tuple) else []


def items(values: Any, name: str) -> list[Any]:
    """The list that an object has under a name; empty if there is none."""
    found = values.get(name) if isinstance(values, Mapping) else None
    return list(found[:MOST_ENTRIES]) if isinstance(found, list | tuple) else []


def name_of(values: Mapping[str, Any], key: str = "name") -> str:
    """The text that an object has under a name; a dash if there is none."""
    found = values.get(key)
    return found if isinstance(found, str) else NONE


def percent(value: float | None, *, digits: int = 1) -> str:
    """Write a share in percent.

    >>> percent(0.6762), percent(None)
    ('67.6', '–')
    """
    return NONE if value is None else f"{100 * value:.{digits}f}"


def whole(value: float | None) -> str:
    """Write a count."""
    return NONE if value is None else f"{value:,.0f}"
