"""The classes of a data set: names, colors, and the index that is ignored."""

import csv
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.data.catalog import TableName
from semask.files.schema import quoted, require

IGNORE_INDEX = 255
"""Label of the pixels that neither losses nor metrics count."""

_FORMATS = Path(__file__).parent / "formats"

LONGEST_NAME = 200
"""Characters of the name of a class."""


Color = tuple[int, int, int]


@dataclass(frozen=True)
class Classes:
    """The classes of a data set: their names and colors, in the order of the class indices.

    Args:
        names: One unique name a class; at most 255, because 255 is the ignored label.
        palette: One (red, green, blue) of 0..255 a class; () generates one with `default_palette`.

    Raises:
        ValueError: Names are missing or repeated, or the palette does not fit them.

    >>> classes = Classes(("road", "sky"), ((128, 64, 128), (70, 130, 180)))
    >>> len(classes), classes.names[1]
    (2, 'sky')
    """

    names: tuple[str, ...]
    palette: tuple[Color, ...] = ()

    def __post_init__(self) -> None:
        """Validate, and fill in the palette."""
        if not 1 <= len(self.names) <= IGNORE_INDEX:
            raise ValueError(f"{len(self.names)} classes given, expected 1 to {IGNORE_INDEX}")
        for name in self.names:
            said = f"class name {quoted(name, longest=60)}"
            if not isinstance(name, str) or not name.strip():
                raise ValueError(f"{said}: expected a text that is not empty")
            if len(name) > LONGEST_NAME:
                raise ValueError(f"{said} has {len(name)} characters: give at most {LONGEST_NAME}")
            if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
                raise ValueError(f"{said}: expected one line without control characters")
            if self.names.count(name) > 1:
                raise ValueError(f"{said} is given twice: every class needs its own name")
        if not self.palette:
            object.__setattr__(self, "palette", default_palette(len(self.names)))
        if len(self.palette) != len(self.names):
            raise ValueError(f"{len(self.palette)} colors for {len(self.names)} classes: give one color a class")
        for color in self.palette:
            if len(color) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in color):
                said = quoted(color, longest=60)
                raise ValueError(f"color {said}: expected red, green and blue as integers of 0..255")

    def __len__(self) -> int:
        """Return the number of classes K."""
        return len(self.names)

    @classmethod
    def from_csv(cls, path: str | Path) -> "Classes":
        """Read a table with the columns index, name, r, g, b, in the order of the index."""
        rows = _read_table(path)
        names = tuple(row["name"] for row in rows)
        return cls(names, tuple((int(row["r"]), int(row["g"]), int(row["b"])) for row in rows))

    @classmethod
    def of(cls, format: str) -> "Classes":
        """Give the classes of a public data set by the name of its format, for example "ade20k".

        Raises:
            ValueError: No format of that name has classes of its own.
        """
        require(format, TableName, "format")
        return cls.from_csv(_FORMATS / f"{format}.csv")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Classes":
        """Read what `as_dict` wrote: "classes", a list of names, and if given "palette", a list of colors.

        Raises:
            ValueError: The names are missing, or names or colors are not what the constructor accepts.
        """
        names, palette = values.get("classes"), values.get("palette")
        palette = () if palette is None else palette
        if not isinstance(names, list | tuple):
            raise ValueError('"classes" is missing: expected a list with the name of every class')
        if not isinstance(palette, list | tuple) or not all(isinstance(color, list | tuple) for color in palette):
            raise ValueError('"palette" is wrong: expected a list of [red, green, blue], one a class')
        return cls(tuple(names), tuple((*color,) for color in palette))

    def as_dict(self) -> dict[str, Any]:
        """Return names and colors as lists that JSON can hold."""
        return {"classes": list(self.names), "palette": [list(color) for color in self.palette]}


def read_ids(path: str | Path) -> dict[int, int]:
    """Read the column `id` of a table of classes: value in the files -> class index."""
    return {int(row["id"]): int(row["index"]) for row in _read_table(path)}


def _read_table(path: str | Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["index"]))
    if [int(row["index"]) for row in rows] != list(range(len(rows))):
        raise ValueError(f"{path}: the column index must count 0, 1, 2, ...")
    return rows


def default_palette(count: int) -> tuple[Color, ...]:
    """Generate colors that are far apart for the eye; the first n are the same whatever the count.

    Each next color is the one farthest (in CIELAB) from black, white and all colors before it.

    Args:
        count: Number of colors, 0..255.
    """
    colors = np.indices((8, 8, 8)).reshape(3, -1).T * 36
    lab = _lab(colors)
    distance = np.minimum(*(np.linalg.norm(lab - _lab(np.full(3, gray)), axis=-1) for gray in (0, 255)))
    palette: list[Color] = []
    for _ in range(count):
        best = int(distance.argmax())
        palette.append((int(colors[best, 0]), int(colors[best, 1]), int(colors[best, 2])))
        distance = np.minimum(distance, np.linalg.norm(lab - lab[best], axis=-1))
    return tuple(palette)


def _lab(rgb: NDArray[Any]) -> NDArray[np.float64]:
    """SRGB [..., 3] of 0..255 -> CIELAB [..., 3], D65."""
    linear = np.where(rgb / 255 <= 0.04045, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0178, 0.1095, 0.8727]])  # / white
    x, y, z = np.moveaxis(np.cbrt(linear @ to_xyz.T), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
