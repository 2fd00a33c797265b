"""The files of YOLO: its data.yaml, and the text files with one object a line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from semask.data.images import read_size
from semask.data.shapes import DrawnLabel, Overlap, PackedShapes, Shape, ring_of
from semask.files.reading import read_text
from semask.files.text import one_line, reason

MOST_YAML = 2**20
"""Bytes of a data.yaml."""
MOST_CLASSES = 254
"""Classes next to the background."""
_SPLITS = ("train", "val", "valid", "validation", "test")
_FARTHEST = (-1.0, 2.0)
"""Fractions of the width or height that a point may have: beyond that they are pixels."""


class Description(NamedTuple):
    """What a data.yaml says.

    Args:
        names: Names of the classes.
        places: Split -> folders or lists of its images, as written.
    """

    names: list[str]
    places: dict[str, list[str]]


def read_description(path: Path) -> Description:
    """Read a data.yaml.

    Raises:
        ValueError: If it can't be read, or does not name the classes.
    """
    text = read_text(path, most=MOST_YAML)
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):  # a few lines would become gigabytes
                raise ValueError("it has an alias (*name): write the value out")
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{one_line(path)}: not a readable data.yaml: {reason(error)}") from error
    try:
        if not isinstance(values, dict):
            raise ValueError('expected "names", "train" and "val"')
        names = _names(values.get("names"))
        places = {key: _places(key, values[key]) for key in _SPLITS if values.get(key)}
    except ValueError as error:
        raise ValueError(f"{one_line(path)}: {error}") from error
    return Description(names, places)


def read_names(path: Path) -> list[str]:
    """Read a classes.txt: one name a line.

    Raises:
        ValueError: If it can't be read, or has too many lines.
    """
    names = [line.strip() for line in read_text(path, most=MOST_YAML).splitlines() if line.strip()]
    if not 1 <= len(names) <= MOST_CLASSES:
        raise ValueError(f"{one_line(path)}: {len(names)} names of classes, expected 1 to {MOST_CLASSES}")
    return names


def _names(values: Any) -> list[str]:
    """Names in the order of their numbers: a list, or number -> name."""
    if isinstance(values, dict):
        if sorted(map(str, values)) != sorted(map(str, range(len(values)))):
            raise ValueError('"names" does not count 0, 1, 2, ...: give each class its number')
        by_number = {int(key): name for key, name in values.items()}
        values = [by_number[number] for number in range(len(by_number))]
    if not isinstance(values, list) or not 1 <= len(values) <= MOST_CLASSES:
        raise ValueError(f'"names" is missing or wrong: expected 1 to {MOST_CLASSES} names of classes')
    if not all(isinstance(name, str | int | float) for name in values):
        raise ValueError('"names" has something that is no name')
    return [str(name) for name in values]  # YAML makes a number or a yes of some names


def _places(key: str, value: Any) -> list[str]:
    places = value if isinstance(value, list) else [value]
    if len(places) > 1000 or not all(isinstance(place, str) and len(place) < 4096 for place in places):
        raise ValueError(f'"{key}" is wrong: expected a folder, or a list of folders')
    return places


@dataclass(frozen=True, slots=True)
class YoloLabel:
    """The label of an image, read from its text file and drawn.

    Args:
        image: The image; the fractions are those of its size as it is shown (EXIF orientation applied).
        text: The text file; None: no object.
        numbers: Number in the text file -> class index.
        overlap: Which object is drawn last.
    """

    image: Path
    text: Path | None
    numbers: tuple[int, ...]
    overlap: Overlap

    @property
    def path(self) -> Path:
        """The text file, for messages; the image if it has none."""
        return self.text or self.image

    def read(self) -> NDArray[np.int32]:
        """Draw the label: [H, W] of class indices.

        Raises:
            ValueError: If the text file is wrong, or the image can't be read.
        """
        size = read_size(self.image)
        shapes = read_objects(self.text, self.numbers, size) if self.text is not None else []
        return DrawnLabel(self.path, self.image, size, PackedShapes.of(shapes), overlap=self.overlap).read()


def read_objects(path: Path, numbers: Sequence[int], size: tuple[int, int]) -> list[Shape]:
    """Read the objects in a text file.

    Args:
        path: The file.
        numbers: Number in the file -> class index.
        size: Height and width of the image.

    Raises:
        ValueError: If a line is no object with an outline.
    """
    shapes = []
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        if not text.strip():
            continue
        try:
            shapes.append(_object(text.split(), numbers, size))
        except ValueError as error:
            raise ValueError(f"{one_line(path)}: line {line}: {error}") from error
    return shapes


def _object(words: Sequence[str], numbers: Sequence[int], size: tuple[int, int]) -> Shape:
    if len(words) == 5:
        raise ValueError(
            "is a box (5 numbers), which does not say which pixels belong to the object: use the labels of a "
            "segmentation data set, class x1 y1 x2 y2 x3 y3 ..."
        )
    try:
        number, values = float(words[0]), np.array([float(word) for word in words[1:]])
    except ValueError:
        raise ValueError("has something that is no number: expected class x1 y1 x2 y2 x3 y3 ...") from None
    if not number.is_integer() or not 0 <= number < len(numbers):
        raise ValueError(f"has the class {one_line(words[0], longest=20)}, expected 0 to {len(numbers) - 1}")
    if values.size % 2 or values.size < 6:
        raise ValueError(f"has {len(words)} numbers: expected the class and x and y of at least 3 points")
    if not ((values >= _FARTHEST[0]) & (values <= _FARTHEST[1])).all():  # NaN is not
        raise ValueError("has a coordinate that is no fraction of the width or height (0 to 1): divide pixels by them")
    ring = ring_of(values.reshape(-1, 2) * np.array(size[::-1]))
    return Shape(numbers[int(number)], [ring] if ring is not None else [])
