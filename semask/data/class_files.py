"""Files next to images and masks that name the classes: classes.json, class_dict.csv, classes.txt."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from semask.data.classes import IGNORE_INDEX, Classes, Color
from semask.data.formats.folder import CLASSES_FILE, LARGEST_FILE, read_classes
from semask.files.reading import read_text
from semask.files.text import one_line

TABLES = ("class_dict.csv", "classes.csv", "labels.csv")
LISTS = ("classes.txt", "labels.txt", "class_names.txt")
NUMBERED = re.compile(r"(\d{1,5})\s*[:;,=\s]\s*(\S.*)")
VALUES = ("id", "index", "value", "label_id", "class_id")
NAMES = ("name", "class", "label", "class_name")
CHANNELS = (("r", "g", "b"), ("red", "green", "blue"))


class ClassFile(NamedTuple):
    """What a file says of the classes.

    Args:
        path: The file.
        classes: Names and colors.
        values: Number in the masks -> class index or 255.
        has_palette: The file gives the colors; otherwise they are generated.
        name: Name of the data set; "" if the file does not say.
    """

    path: Path
    classes: Classes
    values: dict[int, int]
    has_palette: bool
    name: str = ""


def find_class_file(root: Path) -> ClassFile | None:
    """Read the file that names the classes of a folder; None if there is none.

    Raises:
        ValueError: If there is one, and it can't be read.
    """
    for name in (CLASSES_FILE, *TABLES, *LISTS):
        path = root / name
        if path.is_file():
            try:
                return _read(path)
            except (csv.Error, ValueError) as error:
                said = str(error)
                raise ValueError(said if said.startswith(one_line(path)) else f"{one_line(path)}: {said}") from error
    return None


def _read(path: Path) -> ClassFile:
    if path.name == CLASSES_FILE:
        described = read_classes(path)
        values = {index: index for index in range(len(described.classes))} | {described.ignore_index: IGNORE_INDEX}
        return ClassFile(path, described.classes, values, described.has_palette, described.name)
    text = read_text(path, most=LARGEST_FILE)
    return _table(path, text) if path.name in TABLES else _list(path, text)


def _table(path: Path, text: str) -> ClassFile:
    """A CSV file with a column of names, and perhaps of values and colors."""
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    columns = {column.strip().lower(): column for column in rows.fieldnames or [] if column}
    name = next((columns[x] for x in NAMES if x in columns), None)
    value = next((columns[x] for x in VALUES if x in columns), None)
    channels = next(([columns[x] for x in three] for three in CHANNELS if set(three) <= columns.keys()), None)
    if name is None:
        raise ValueError(f"its first line has to name the columns, one of them {' or '.join(NAMES[:2])}")
    found = [row for row in rows if (row[name] or "").strip()]
    names = [row[name].strip() for row in found]
    colors = [_color([row[x] for x in channels]) for row in found] if channels is not None else []
    numbers = [_number(row[value]) for row in found] if value is not None else list(range(len(names)))
    return _class_file(path, names, numbers, colors)


def _list(path: Path, text: str) -> ClassFile:
    """A text with a name on each line, perhaps after its number."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    numbered = [NUMBERED.fullmatch(line) for line in lines]
    if lines and all(numbered):
        return _class_file(path, [m[2] for m in numbered if m], [int(m[1]) for m in numbered if m], [])
    return _class_file(path, lines, list(range(len(lines))), [])


def _class_file(path: Path, names: Sequence[str], numbers: Sequence[int], colors: Sequence[Color]) -> ClassFile:
    if not names:
        raise ValueError("names no class")
    if len(set(numbers)) < len(numbers):
        raise ValueError("gives two classes the same number")
    return ClassFile(
        path,
        Classes(tuple(names), tuple(colors)),
        {number: index for index, number in enumerate(numbers)},
        bool(colors),
    )


def _number(text: str | None) -> int:
    if not (text or "").strip().isdecimal() or len(str(text)) > 8:
        raise ValueError(f"has the number {one_line(repr(text), longest=40)}: give a value of the masks")
    return int(str(text))


def _color(parts: Sequence[str | None]) -> Color:
    red, green, blue = (_number(part) for part in parts)
    return red, green, blue
