"""The numbers or colors of a mask file to class indices: the one place where label values are renumbered."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.data.classes import IGNORE_INDEX, Classes, Color
from semask.files.text import one_line

LARGEST_VALUE = 2**24
"""Numbers in masks that can be renumbered are below this: the table has an entry for each."""


class LabelTable:
    """What the numbers, and if wanted the colors, of the masks of a data set stand for.

    Args:
        name: Name of the data set, for messages.
        num_classes: Number of classes K.
        values: Number in the mask files -> class index or 255. 255 is ignored unless it is one of them.
        colors: Color in RGB masks -> class index or 255; black is ignored unless it is one of them. None: RGB masks are
            an error.
        rest: Class index, or 255, of numbers and colors that are not listed; None: they are an error.
        tolerance: Greatest difference of a channel to a listed number or color, which then stands for it: for masks
            that were smoothed or compressed.

    Raises:
        ValueError: Something stands for what is not a class.
    """

    def __init__(
        self,
        *,
        name: str,
        num_classes: int,
        values: Mapping[int, int],
        colors: Mapping[Color, int] | None = None,
        rest: int | None = None,
        tolerance: int = 0,
    ) -> None:
        self.name, self.num_classes = name, num_classes
        self.values, self.colors, self.rest, self.tolerance = values, colors, rest, tolerance
        self._table = _lookup_table(values, num_classes, rest, tolerance)
        self._exact = _lookup_table(values, num_classes, rest, 0)
        self._own = self._table[:num_classes]
        self._codes = _color_codes(colors) if colors is not None else None

    def indices(self, raw: NDArray[Any], path: object) -> NDArray[np.uint8]:
        """Renumber a mask as `read_mask` gives it: [H, W], or [H, W, 3] for colors -> [H, W] of class indices and 255.

        Args:
            raw: Content of the file.
            path: The file, or what else names itself as text, for messages.

        Raises:
            ValueError: It holds values or colors that stand for nothing.
        """
        return self.read(raw, path)[0]

    def read(self, raw: NDArray[Any], path: object) -> tuple[NDArray[np.uint8], int]:
        """Renumber a mask as `indices` does; also returns how many pixels were within the tolerance only."""
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

    def _from_values(self, raw: NDArray[Any], path: object) -> tuple[NDArray[np.uint8], int]:
        table, values = self._table, raw
        if raw.dtype != np.uint8:
            values = np.where((raw < 0) | (raw >= len(table)), len(table) - 1, raw)
        indices = table[values]  # [H, W]
        if (indices < 0).any():
            wrong = np.unique(raw[indices < 0])
            accepted = _ranges(np.flatnonzero(self._exact >= 0))
            raise ValueError(
                f'{one_line(path)}: {_not_of(wrong, "a class", "classes")} of "{one_line(self.name)}": expected '
                f"{accepted}; correct the mask or the list of classes"
            )
        label: NDArray[np.uint8] = indices.astype(np.uint8)
        return label, int((self._exact[values] < 0).sum()) if self.tolerance else 0

    def _from_colors(self, raw: NDArray[Any], path: object) -> tuple[NDArray[np.uint8], int]:
        if self._codes is None:
            raise ValueError(
                f'{one_line(path)}: the mask is RGB, but "{one_line(self.name)}" gives no palette to read it with: '
                "save class indices in one channel, or give the palette"
            )
        codes, indices = self._codes
        code = raw.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)  # [H, W]
        place = np.searchsorted(codes, code).clip(max=len(codes) - 1)
        wrong = codes[place] != code
        label: NDArray[np.uint8] = indices[place]
        adjusted = 0
        if wrong.any():
            found, inverse = np.unique(code[wrong], return_inverse=True)
            nearest, distance = _nearest(found, codes)
            strange = distance > self.tolerance
            if self.rest is not None:
                label[wrong] = np.where(strange, self.rest, indices[nearest])[inverse]
            elif strange.any():
                colors = [_rgb(c) for c in found[strange]]
                raise ValueError(
                    f"{one_line(path)}: {_not_of(colors, 'a color', 'colors')} of the palette of "
                    f'"{one_line(self.name)}": correct the mask or the palette'
                )
            else:
                label[wrong] = indices[nearest][inverse]
            adjusted = int((~strange)[inverse].sum())
        return label, adjusted


def palette_colors(classes: Classes, *, name: str) -> dict[Color, int]:
    """What the colors of RGB masks stand for when they are those of a palette.

    Raises:
        ValueError: Two classes share a color.
    """
    if len(set(classes.palette)) < len(classes):
        raise ValueError(f"{one_line(name)}: two classes share a color, so RGB masks cannot be read: give each its own")
    return {color: index for index, color in enumerate(classes.palette)}


def only_0_and_255(raw: NDArray[Any]) -> bool | None:
    """Whether 255 occurs in a mask that has no other number but 0; None if it has others, or colors."""
    white = raw == IGNORE_INDEX
    return bool(white.any()) if raw.ndim == 2 and (white | (raw == 0)).all() else None


def _lookup_table(values: Mapping[int, int], num_classes: int, rest: int | None, tolerance: int) -> NDArray[np.int16]:
    """Value in the file -> class index, 255, or -1 = error; the last entry stands for all greater values."""
    for value, index in values.items():
        if not 0 <= value < LARGEST_VALUE or not (0 <= index < num_classes or index == IGNORE_INDEX):
            accepted = f"0..{LARGEST_VALUE - 1} -> 0..{num_classes - 1} or {IGNORE_INDEX}"
            raise ValueError(f"renumber {value} -> {index}: expected {accepted}")
    known = {IGNORE_INDEX: IGNORE_INDEX, **values}
    table = np.full(max(known) + 2 + tolerance, -1 if rest is None else rest, dtype=np.int16)
    if tolerance:
        distance = np.full(len(table), tolerance + 1)
        for value in sorted(known, key=lambda value: -value):  # the smaller of two that are equally near comes last
            first = max(0, value - tolerance)
            near = np.arange(first, value + tolerance + 1)
            nearer = np.abs(near - value) <= distance[near]
            table[near[nearer]], distance[near[nearer]] = known[value], np.abs(near - value)[nearer]
    for value, index in known.items():
        table[value] = index
    return table


def _color_codes(colors: Mapping[Color, int]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Colors as sorted 24-bit numbers, and the class index of each."""
    index = {0: IGNORE_INDEX} | {(r << 16) + (g << 8) + b: i for (r, g, b), i in colors.items()}
    codes = sorted(index)
    return np.array(codes, dtype=np.int32), np.array([index[code] for code in codes], dtype=np.uint8)


def _rgb(code: int) -> Color:
    return (int(code) >> 16, int(code) >> 8 & 255, int(code) & 255)


def _nearest(codes: NDArray[np.int32], known: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """For each color the place of the nearest known one, and their greatest difference in a channel."""
    shifts = np.array([16, 8, 0])
    ours, theirs = codes[:, None] >> shifts & 255, known[:, None] >> shifts & 255  # [n, 3], [k, 3]
    places, distances = [], []
    for part in np.array_split(ours, len(ours) // 4096 + 1):  # a smoothed mask has a hundred thousand colors
        distance = np.abs(part[:, None].astype(np.int64) - theirs).max(-1)
        places.append(distance.argmin(1))
        distances.append(distance.min(1))
    return np.concatenate(places), np.concatenate(distances)


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
