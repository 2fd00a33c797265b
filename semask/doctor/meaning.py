"""What the values and colors of masks stand for, as far as it is known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semask.data.classes import IGNORE_INDEX, Classes
from semask.data.dataset import SegmentationDataset
from semask.data.labels import LabelTable, palette_colors
from semask.doctor.class_lists import ClassList
from semask.doctor.facts import MaskFacts

_NOWHERE = Path("mask")


@dataclass
class Meaning:
    """Classes of a data set, and how its masks are read.

    Args:
        classes: Names and colors; None if they are not known.
        table: Value or color -> class index.
        undecided: Whether 255 could be meant as class 1 of two.
    """

    classes: Classes | None = None
    table: LabelTable | None = None
    undecided: bool = False

    @classmethod
    def of_dataset(cls, dataset: SegmentationDataset) -> "Meaning":
        """What a data set that was found says."""
        if not dataset.names_classes:
            return cls()
        undecided = len(dataset.classes) == 2 and dataset.object_255 is None and not dataset.selected
        return cls(dataset.classes, dataset.table, undecided and dataset.table.keeps(0) and dataset.table.keeps(1))

    @classmethod
    def of_list(cls, given: ClassList | None, object_255: bool | None = None) -> "Meaning":
        """What a list of classes says, corrected where it is wrong."""
        classes = given.classes() if given is not None else None
        if given is None or classes is None:
            return cls()
        values = {index: index for index in range(len(classes))} | {given.ignore_index: IGNORE_INDEX}
        if object_255 and len(classes) == 2:
            values[IGNORE_INDEX] = 1
        colors = palette_colors(classes, name="classes") if given.palette else None
        table = LabelTable(name="classes", num_classes=len(classes), values=values, colors=colors)
        return cls(classes, table, len(classes) == 2 and object_255 is None and table.keeps(0) and table.keeps(1))

    @property
    def reads_colors(self) -> bool:
        """Whether it is known what colors stand for."""
        return self.table is not None and self.table.colors is not None

    def class_of(self, value: int, *, colored: bool) -> int | None:
        """Class index or 255 of a value, or of a color 0xRRGGBB; None if it stands for nothing."""
        if self.table is None:
            return None
        raw = np.array([[[value >> 16, value >> 8 & 255, value & 255]]] if colored else [[value]])
        try:
            return int(self.table.indices(raw.astype(np.uint8 if colored else np.int64), _NOWHERE)[0, 0])
        except ValueError:
            return None

    def counts(self, facts: MaskFacts) -> tuple[dict[int, int], dict[int, int]]:
        """Pixels of each class or 255 in a mask; and those of values that stand for nothing."""
        known: dict[int, int] = {}
        unknown: dict[int, int] = {}
        if facts.colored and not self.reads_colors:
            return {}, dict(facts.values)
        for value, count in facts.values.items():
            index = self.class_of(value, colored=facts.colored)
            if index is None:
                unknown[value] = count
            else:
                known[index] = known.get(index, 0) + count
        return known, unknown


def spelled(value: int, *, colored: bool) -> str:
    """A value, or a color as #rrggbb."""
    return f"#{value:06x}" if colored else str(value)
