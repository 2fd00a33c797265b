"""The polygons of Cityscapes, drawn as its own scripts draw them, with Pillow: the masks of the download."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.data.annotations import read_json
from semask.data.shapes import IGNORED, DrawnLabel, PackedShapes, Shape, ring_of, size_of
from semask.files.schema import quoted
from semask.files.text import one_line, reason

LARGEST_FILE = 2**26
"""Bytes of a JSON file; the largest of Cityscapes has 1.5 MB."""
NOT_LEARNED = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "parking",
    "rail track", "guard rail", "bridge", "tunnel", "polegroup", "caravan", "trailer",
)  # fmt: skip
"""Labels next to the 19 classes of the benchmark: their pixels are ignored."""
_NOT_DRAWN = ("license plate",)
"""Labels without a number: what lies below them stays."""
_GROUP = "group"
"""Ending of labels for several objects that could not be told apart."""


@dataclass(frozen=True, slots=True)
class CityscapesLabel:
    """The label of an image, read from its JSON file and drawn.

    Args:
        path: File NAME_gtFine_polygons.json.
        image: Its image.
        names: Names of the classes.
    """

    path: Path
    image: Path
    names: tuple[str, ...]

    def read(self) -> NDArray[np.int32]:
        """Draw the label: [H, W] of class indices and `IGNORED`.

        Raises:
            ValueError: If the file is wrong.
        """
        values = read_json(self.path, most=LARGEST_FILE)
        try:
            if not isinstance(values, dict) or not isinstance(values.get("objects"), list):
                raise ValueError('expected "imgHeight", "imgWidth" and "objects", as in Cityscapes')
            size = size_of(values.get("imgHeight"), values.get("imgWidth"))
            shapes = [shape for value in values["objects"] if (shape := self._shape(value)) is not None]
            packed = PackedShapes.of(shapes)
        except ValueError as error:
            raise ValueError(f"{one_line(self.path)}: {reason(error)}") from error
        # Ignored objects cover classes here: they are drawn in the order of the file, and renumbered at the end.
        ignored = len(self.names)
        label = DrawnLabel(self.path, self.image, size, packed, background=ignored, edges=True).read()
        label[label == ignored] = IGNORED
        return label

    def _shape(self, value: Any) -> Shape | None:
        """An object; None if it is not drawn."""
        name = value.get("label") if isinstance(value, dict) else None
        if not isinstance(name, str):
            raise ValueError('an object has no "label" (a text)')
        if value.get("deleted"):
            return None
        known = (*self.names, *NOT_LEARNED, *_NOT_DRAWN)
        if name not in known:
            name = name.removesuffix(_GROUP)
        if name in _NOT_DRAWN:
            return None
        if name not in known:
            raise ValueError(f"{quoted(value['label'], longest=60)} is no label of Cityscapes: correct it")
        try:
            ring = ring_of(value.get("polygon"))
        except ValueError as error:
            raise ValueError(f"an object of {quoted(name, longest=60)}: {error}") from error
        index = self.names.index(name) if name in self.names else len(self.names)
        return Shape(index, [ring]) if ring is not None else None
