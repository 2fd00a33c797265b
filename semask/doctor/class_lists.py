"""The list of classes of a folder tree, read as far as it can be, with what is wrong with it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from semask.data.classes import IGNORE_INDEX, LONGEST_NAME, Classes, Color, default_palette
from semask.data.formats.folder import CLASSES_FILE, LARGEST_FILE, LARGEST_LABEL
from semask.doctor.findings import Collector
from semask.files.reading import parse_json, read_text, require_file
from semask.files.schema import quoted
from semask.files.text import reason


class ClassList(NamedTuple):
    """What a list of classes says.

    Args:
        names: Names, as they are.
        palette: One color a class; () if there are none, or they are wrong.
        ignore_index: Value in the masks that is ignored, in addition to 255.
        name: Name of the data set; "" if none is given.
    """

    names: tuple[str, ...]
    palette: tuple[Color, ...] = ()
    ignore_index: int = IGNORE_INDEX
    name: str = ""

    def classes(self) -> Classes | None:
        """The classes with names and colors that are distinct; None if there are fewer than two, or too many."""
        if not 2 <= len(self.names) <= IGNORE_INDEX:
            return None
        names: list[str] = []
        for name in self.names:
            candidates = [name, *(f"{name} {number}" for number in range(2, len(self.names) + 2))]
            names.append(next(candidate for candidate in candidates if candidate not in names))
        others = (color for color in default_palette(IGNORE_INDEX) if color not in self.palette)
        palette: list[Color] = []
        for index in range(len(names)):
            own = self.palette[index] if index < len(self.palette) else None
            palette.append(own if own is not None and own not in palette else next(others))
        return Classes(tuple(names), tuple(palette))


def read_class_list(root: Path, found: Collector) -> ClassList | None:
    """Read ROOT/classes.json, and note what is wrong with it; None if nothing can be made of it."""
    path = root / CLASSES_FILE
    if not path.exists():
        return None
    try:
        text = read_text(path, most=LARGEST_FILE)
    except ValueError as error:
        other = _other_encoding(path)
        found.add("classes-encoding" if other else "classes-unreadable", [CLASSES_FILE], reason(error))
        if other is None:
            return None
        text = other
    try:
        values = parse_json(text)
    except (ValueError, RecursionError) as error:
        found.add("classes-unreadable", [CLASSES_FILE], reason(error))
        return None
    if not isinstance(values, dict) or not isinstance(values.get("classes"), list):
        found.add("classes-wrong", [CLASSES_FILE], 'expected an object with the list "classes"')
        return None
    names = tuple(name.strip() for name in values["classes"] if _is_name(name))
    if len(names) < len(values["classes"]):
        wrong = next(name for name in values["classes"] if not _is_name(name))
        found.add("classes-wrong", [CLASSES_FILE], f"class name {quoted(wrong, longest=60)}")
        return None
    _check_names(values["classes"], found)
    palette = _palette(values.get("palette"), len(names), found)
    ignored = values.get("ignore_index")
    if ignored is not None and (type(ignored) is not int or not 0 <= ignored <= LARGEST_LABEL):
        found.add("classes-wrong", [CLASSES_FILE], f'"ignore_index" is {quoted(ignored, longest=40)}')
        ignored = None
    title = values.get("name")
    if title is not None and (not isinstance(title, str) or len(title) > LONGEST_NAME or not title.isprintable()):
        found.add("classes-wrong", [CLASSES_FILE], f'"name" is {quoted(title, longest=40)}')
        title = None
    return ClassList(names, palette, IGNORE_INDEX if ignored is None else ignored, title or "")


def _other_encoding(path: Path) -> str | None:
    """Text of a file that is no UTF-8, if it is JSON in another encoding."""
    try:
        with open(require_file(path), "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError):
        return None
    if len(content) > LARGEST_FILE:
        return None
    for encoding in ("utf-16", "utf-32", "cp1252"):
        try:
            text = content.decode(encoding)
            json.loads(text)
        except (ValueError, RecursionError):
            continue
        return text
    return None


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and len(name.strip()) > 0 and len(name) <= LONGEST_NAME and name.isprintable()


def _check_names(names: list[str], found: Collector) -> None:
    if len(names) == 1:
        found.add("single-class", [CLASSES_FILE], f"only {quoted(names[0], longest=60)}")
    elif not names:
        found.add("classes-wrong", [CLASSES_FILE], "the list is empty")
    elif len(names) > IGNORE_INDEX:
        found.add("too-many-classes", [CLASSES_FILE], f"{len(names)} classes")
    for name in sorted({name for name in names if names.count(name) > 1}):
        found.add("class-twice", [CLASSES_FILE], quoted(name, longest=60))
    note_alike(names, found)


def note_alike(names: Iterable[str], found: Collector) -> None:
    """Note names of classes that differ only in case or spaces."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(" ".join(name.split()).casefold(), name)
        if other != name:
            found.add("class-alike", [CLASSES_FILE], f"{quoted(other, longest=60)} and {quoted(name, longest=60)}")


def _palette(given: Any, count: int, found: Collector) -> tuple[Color, ...]:
    """The colors, if they are right."""
    if given is None or given == []:
        return ()
    if not isinstance(given, list) or not all(_is_color(color) for color in given):
        found.add("classes-wrong", [CLASSES_FILE], '"palette" is no list of [red, green, blue] of 0..255')
        return ()
    palette = tuple((int(red), int(green), int(blue)) for red, green, blue in given)
    if len(palette) != count:
        found.add("classes-wrong", [CLASSES_FILE], f"{len(palette)} colors for {count} classes")
        return ()
    for color in sorted(set(palette)):
        if palette.count(color) > 1:
            found.add(
                "color-twice", [CLASSES_FILE], f"{palette.count(color)} classes have {list(color)}", severity="error"
            )
    return palette


def _is_color(color: Any) -> bool:
    return isinstance(color, list) and len(color) == 3 and all(type(part) is int and 0 <= part <= 255 for part in color)
