"""A segmented image as its outputs see it: the label map from top to bottom, whether it is in memory or in parts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.classes import Classes
from semask.prediction.areas import Areas, measure
from semask.prediction.prediction import Prediction

if TYPE_CHECKING:
    from semask.prediction.raster import Place

Rows = Callable[[int], Iterator[NDArray[np.uint8]]]
"""Gives a map from top to bottom, so many rows at a time, [rows, W]; the last may have fewer."""


@dataclass(frozen=True)
class Segmentation:
    """What outputs are written from.

    Attributes:
        image: Path of the image.
        stem: Path of the outputs without ending.
        classes: Names and colors of the classes.
        size: Height H and width W.
        rows: The label map.
        picture: Gives every n-th pixel of every n-th row of the image as RGB.
        scratch: Folder for what is needed while an output is written.
        kinds: Names of all outputs that are written.
        prediction: The label map and what goes with it, in memory; None for an image in tiles.
        confidence: Probability of the chosen classes, 0..255; None if it was not asked for.
        probability: Gives the probability of a class in some rows, [rows, W]; None if it was not asked for.
        place: Where a TIFF lies on earth; None for other files.
        simplify: Pixels by which the borders of polygons may be simplified.
        strip: Rows whose polygons are made at once; None for all.
    """

    image: Path
    stem: Path
    classes: Classes
    size: tuple[int, int]
    rows: Rows
    picture: Callable[[int], Image.Image]
    scratch: Path
    kinds: tuple[str, ...] = ("mask",)
    prediction: Prediction | None = None
    confidence: Rows | None = None
    probability: Callable[[int, range], NDArray[np.float16]] | None = None
    place: "Place | None" = None
    simplify: float = 0.0
    strip: int | None = None

    @property
    def georeferenced(self) -> bool:
        """Whether it is known where on earth the image lies."""
        return self.place is not None and self.place.crs is not None

    @cached_property
    def areas(self) -> Areas:
        """Pixels and square meters of each class."""
        return measure(self.rows, self.size, len(self.classes), self.place)

    def path(self, ending: str) -> Path:
        """Path of an output."""
        return self.stem.with_name(f"{self.stem.name}{ending}")

    def label(self) -> NDArray[np.uint8]:
        """The whole label map [H, W]."""
        return next(self.rows(self.size[0]))
