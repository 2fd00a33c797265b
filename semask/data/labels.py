"""The numbers or colors of a mask file to class indices: the one place where label values are renumbered."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.data.classes import IGNORE_INDEX, Classes
from semask.files.text import one_line

LARGEST_VALUE = 2**24
"""Numbers in masks that can be renumbered are below this: the table has an entry for each."""


class LabelTable:
    """What the numbers, and if wanted the colors, of the masks of a data set stand for.

    Args:
        classes: Names and colors of the K classes.
        name: Name of the data set, for messages.
        renumber: Value in the mask files -> class index or 255. Any other value but 255 is an error.
        colored: Accept RGB masks too, in the colors of the palette; black is ignored unless it is a class.

    Raises:
        ValueError: The mapping names something that is not a class, or two classes share a color that is needed.
    """

    def __init__(self, classes: Classes, *, name: str, renumber: Mapping[int, int], colored: bool) -> None:
        if colored and len(set(classes.palette)) < len(classes):
            raise ValueError(
                f"{one_line(name)}: two classes share a color, so RGB masks cannot be read: give each its own"
            )
        self.name = name
        self._table = _lookup_table(renumber, len(classes))
        self._own = self._table[: len(classes)]
        self._colors = _color_codes(classes) if colored else None

    def indices(self, raw: NDArray[Any], path: object) -> NDArray[np.uint8]:
        """Renumber a mask as `read_mask` gives it: [H, W], or [H, W, 3] for colors -> [H, W] of class indices and 255.

        Args:
            raw: Content of the file.
            path: The file, or what else names itself as text, for messages.

        Raises:
            ValueError: It holds values or colors that stand for nothing.
        """
        return self._from_colors(raw, path) if raw.ndim == 3 else self._from_values(raw, path)

    @property
    def ignored_class(self) -> int | None:
        """The class whose own number in the masks is ignored instead, as by a wrong `ignore_index`; None if none is."""
        ignored = np.flatnonzero(self._own == IGNORE_INDEX)
        others = np.arange(len(self._own))
        alone = len(ignored) == 1 and (np.delete(self._own, ignored) == np.delete(others, ignored)).all()
        return int(ignored[0]) if alone else None

    def keeps(self, value: int) -> bool:
        """Whether a number in the masks is the class index already."""
        return int(self._table[value]) == value

    def _from_values(self, raw: NDArray[Any], path: object) -> NDArray[np.uint8]:
        table = self._table
        found = raw if raw.dtype == np.uint8 else np.where((raw < 0) | (raw >= len(table)), len(table) - 1, raw)
        indices = table[found]  # [H, W]
        if (indices < 0).any():
            wrong = np.unique(raw[indices < 0])
            accepted = _ranges(np.flatnonzero(table >= 0))
            raise ValueError(
                f'{one_line(path)}: {_not_of(wrong, "a class", "classes")} of "{one_line(self.name)}": expected '
                f"{accepted}; correct the mask or the list of classes"
            )
        label: NDArray[np.uint8] = indices.astype(np.uint8)
        return label

    def _from_colors(self, raw: NDArray[Any], path: object) -> NDArray[np.uint8]:
        if self._colors is None:
            raise ValueError(
                f'{one_line(path)}: the mask is RGB, but "{one_line(self.name)}" gives no palette to read it with: '
                "save class indices in one channel, or give the palette"
            )
        codes, indices = self._colors
        code = raw.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)  # [H, W]
        place = np.searchsorted(codes, code).clip(max=len(codes) - 1)
        wrong = codes[place] != code
        if wrong.any():
            colors = [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in np.unique(code[wrong])]
            raise ValueError(
                f'{one_line(path)}: {_not_of(colors, "a color", "colors")} of the palette of "{one_line(self.name)}": '
                "correct the mask or the palette"
            )
        label: NDArray[np.uint8] = indices[place]
        return label


def only_0_and_255(raw: NDArray[Any]) -> bool | None:
    """Whether 255 occurs in a mask that has no other number but 0; None if it has others, or colors."""
    white = raw == IGNORE_INDEX
    return bool(white.any()) if raw.ndim == 2 and (white | (raw == 0)).all() else None


def _lookup_table(renumber: Mapping[int, int], num_classes: int) -> NDArray[np.int16]:
    """Value in the file -> class index, 255, or -1 = error; the last entry is -1 and stands for all greater values."""
    for value, index in renumber.items():
        if not 0 <= value < LARGEST_VALUE or not (0 <= index < num_classes or index == IGNORE_INDEX):
            accepted = f"0..{LARGEST_VALUE - 1} -> 0..{num_classes - 1} or {IGNORE_INDEX}"
            raise ValueError(f"renumber {value} -> {index}: expected {accepted}")
    table = np.full(max(IGNORE_INDEX, *renumber) + 2, -1, dtype=np.int16)
    table[IGNORE_INDEX] = IGNORE_INDEX
    for value, index in renumber.items():
        table[value] = index
    return table


def _color_codes(classes: Classes) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Colors as sorted 24-bit numbers, and the class index of each."""
    index = {0: IGNORE_INDEX} | {(r << 16) + (g << 8) + b: i for i, (r, g, b) in enumerate(classes.palette)}
    codes = sorted(index)
    return np.array(codes, dtype=np.int32), np.array([index[code] for code in codes], dtype=np.uint8)


def _not_of(values: Sequence[Any] | NDArray[Any], one: str, several: str) -> str:
    """Say of some values that they are wrong: up to 5 of them are named."""
    named = ", ".join(str(value) for value in values[:5])
    if len(values) == 1:
        return f"{named} is not {one}"
    more = "" if len(values) <= 5 else f" and {len(values) - 5} more values"
    return f"{named}{more} are not {several}"


def _ranges(values: NDArray[Any]) -> str:
    """Sorted numbers as text: [0, 1, 2, 255] -> "0..2, 255"."""
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
