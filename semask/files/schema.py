"""What settings may be: types and ranges, checked in one place whoever gives them - Python, the command line, a file.

A setting is a field of a dataclass, and its annotation says all: `Annotated[int, Range(1, 255)] | None`. A number
without a range is never accepted, so nothing that a file says is unbounded.
"""

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from semask.files.text import one_line

LONGEST_TEXT = 1024
"""Characters of a setting that is a text: a name or a path."""
LONGEST_LIST = 1024
"""Entries of a setting that is a list."""


class Range(NamedTuple):
    """Numbers that a setting may be; NaN and infinity never are.

    >>> 1 in Range(0, 1), 0 in Range(0, 1, above=True), float("nan") in Range(0, 1)
    (True, False, False)
    """

    low: float
    high: float
    above: bool = False
    """Whether `low` itself is excluded."""
    below: bool = False
    """Whether `high` itself is excluded."""

    def __contains__(self, value: object) -> bool:
        """Whether a number lies in the range."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        over = value > self.low if self.above else value >= self.low
        return over and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        """Say the range in words."""
        last = f"below {_short(self.high)}" if self.below else f"{'up ' * self.above}to {_short(self.high)}"
        return f"above {self.low:g} and {last}" if self.above else f"from {self.low:g} {last}"

    def __repr__(self) -> str:
        """Say the range as the help of the command line does."""
        return f"{'(' if self.above else '['}{self.low:g}, {_short(self.high)}{')' if self.below else ']'}"


class Length(NamedTuple):
    """How many entries a setting that is a list may have."""

    least: int
    most: int

    def __str__(self) -> str:
        """Say the length in words."""
        return f"({self.least} to {self.most} of them)"


class OneOf(NamedTuple):
    """Texts that a setting may be."""

    choices: tuple[str, ...]

    def __str__(self) -> str:
        """Say the choices in words."""
        return f"one of {', '.join(self.choices)}"

    def __repr__(self) -> str:
        """Say the choices as the help of the command line does."""
        return str(self)


Probability = Annotated[float, Range(0, 1)]
Side = Annotated[int, Range(1, 2**16)]
"""Height or width in pixels."""
Sides = tuple[Side, Side]
Weight = Annotated[float, Range(0, 1e6)]
"""Weight of a term of a loss."""


def require(value: Any, hint: Any, name: str) -> None:
    """Refuse a value that an annotation does not admit.

    Args:
        value: The value; a list is as good as a tuple.
        hint: Annotation: bool, int, float, str, Literal, unions of these, tuple[...], dict[str, Any], with numbers
            `Annotated` with a `Range`.
        name: What the message calls the setting.

    Raises:
        ValueError: If it is of another type, out of range, too long, or no number.
    """
    if not admits(value, hint):
        raise ValueError(f"{name} is {quoted(value)}: give {expected(hint)}")


def require_fields(settings: Any, group: str) -> None:
    """Check every field of a dataclass against its annotation; its `__post_init__` calls this.

    Args:
        settings: Instance of a dataclass.
        group: Section of a recipe that it is, for messages.

    Raises:
        ValueError: The first field that is wrong.
    """
    kind: Any = type(settings)
    for name, hint in field_hints(kind).items():
        require(getattr(settings, name), hint, f"{group}.{name}" if group else name)


def from_plain(kind: Callable[..., Any], values: Any, group: str) -> dict[str, Any]:
    """Check settings that come from a file, and make arguments of them.

    Args:
        kind: Dataclass that has the settings.
        values: What the file says: an object with some of its fields.
        group: What messages call the object.

    Returns:
        The values, lists made tuples; for the constructor, which may know more.

    Raises:
        ValueError: If it is no such object, a name is unknown, or a value is not admitted.
    """
    require_known(values, field_hints(kind), group)
    return {name: _tuples(value) for name, value in values.items()}


def require_known(values: Any, hints: Mapping[str, Any], group: str) -> None:
    """Refuse what is no object, or has a name or a value that a table of annotations does not admit.

    Raises:
        ValueError: The first entry that is wrong.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{group} is {quoted(values)}: give an object with settings")
    for name, value in values.items():
        if name not in hints:
            known = ", ".join(hints) or "none"
            raise ValueError(f"{group} has no setting {quoted(name)}: its own are {known}")
        require(value, hints[name], f"{group}.{name}")


@functools.cache
def field_hints(kind: Any) -> dict[str, Any]:
    """Annotations of the fields of a dataclass, with their ranges."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def admits(value: Any, hint: Any) -> bool:
    """Whether an annotation admits a value; see `require`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        kind, *bounds = arguments
        if kind in (int, float):
            right = isinstance(value, int) if kind is int else isinstance(value, int | float)
            return right and all(value in x for x in bounds if isinstance(x, Range))
        if any(isinstance(x, OneOf) and value not in x.choices for x in bounds):
            return False
        return admits(value, kind) and all(x.least <= len(value) <= x.most for x in bounds if isinstance(x, Length))
    if origin in (Union, types.UnionType):
        return any(admits(value, x) for x in arguments)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) > LONGEST_LIST:
            return False
        if arguments[-1] is Ellipsis:
            return all(admits(x, arguments[0]) for x in value)
        return len(value) == len(arguments) and all(map(admits, value, arguments))
    if origin is dict:
        return isinstance(value, Mapping) and len(value) <= LONGEST_LIST and all(map(_plain, value, value.values()))
    if hint is str:
        return isinstance(value, str) and len(value) <= LONGEST_TEXT and "\0" not in value
    if hint in (None, type(None)):
        return value is None
    return hint is bool and isinstance(value, bool)  # a bare int or float has no bounds


def expected(hint: Any) -> str:
    """Say in words what an annotation admits."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        if isinstance(arguments[1], OneOf):
            return str(arguments[1])
        kind = {int: "a whole number", float: "a number"}.get(arguments[0]) or expected(arguments[0])
        return " ".join([kind, *(str(x) for x in arguments[1:] if isinstance(x, Range | Length | str))])
    if origin in (Union, types.UnionType):
        return " or ".join(expected(x) for x in arguments)
    if origin is Literal:
        return f"one of {', '.join(arguments)}"
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a list of {expected(arguments[0]).removeprefix('a ').replace('number', 'numbers', 1)}"
        return f"[{', '.join(expected(x) for x in arguments)}]"
    words = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", type(None): "null"}
    return words.get(hint, "an object with names and values")


def quoted(value: Any, *, longest: int = 80) -> str:
    """Write a value from outside as Python does, on one line and cut.

    >>> quoted("a" * 500)[:8], quoted(10**5000)
    ("'aaaaaaa", 'a number of 5,001 digits')
    """
    try:
        return one_line(repr(value), longest=longest)
    except ValueError:  # Python writes no number of more than 4,300 digits
        digits = int(math.log10(2) * value.bit_length()) + 1 if isinstance(value, int) else 4300
        return f"a number of {digits:,} digits"


def _plain(name: Any, value: Any) -> bool:
    """Whether an entry of an object is a name with plain values; who takes it knows their ranges."""
    if isinstance(value, list | tuple):
        return len(value) <= LONGEST_LIST and all(_plain(name, x) for x in value)
    known = value is None or admits(value, bool | str) or value in Range(-1e12, 1e12)
    return isinstance(name, str) and known


def _short(number: float) -> str:
    return f"{number:,.0f}" if float(number).is_integer() and abs(number) < 1e7 else f"{number:g}"


def _tuples(value: Any) -> Any:
    return tuple(_tuples(x) for x in value) if isinstance(value, list | tuple) else value
