"""Pairs of files to pairs of tensors: the one place where label values are renumbered to class indices.

photo.jpg  -> image [C, H, W] uint8
photo.png  -> label [H, W] uint8: 0..K-1, or 255 = ignored
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch.utils.data import Dataset
from torchvision import tv_tensors

from semask.data.check_level import CheckLevel
from semask.data.classes import IGNORE_INDEX, Classes, _brief
from semask.data.images import Reach, reach_of, read_image, read_mask, read_size
from semask.files.text import make_console, one_line, shown

MOST_VALUE = 2**24
"""Numbers in masks that can be renumbered: the table has an entry for each."""
OBJECT_255 = (
    "{name}: the masks hold only 0 and 255, and there are two classes: say whether 255 is class 1 "
    "(data.object_255 true; evaluate: --object_255 true) or ignored, so that class 1 never occurs (false)"
)


class Checked(NamedTuple):
    """What reading the files of a data set once has shown.

    Args:
        pixels: Number of pixels of every class over all masks, [K].
        masks: Masks that were read; 0 for level "none".
        empty: Masks in which every pixel is ignored.
        reaches: Images of more than 8 bits that were read, and how much of their range they use.
    """

    pixels: NDArray[np.int64]
    masks: int = 0
    empty: int = 0
    reaches: Mapping[Path, Reach] = {}


class _Seen(NamedTuple):
    """What one pair of files holds: pixels of every class, `_binary` of its mask, the range of the image."""

    pixels: NDArray[np.int64]
    binary: bool | None
    reach: Reach | None


class SegmentationDataset(Dataset[tuple[tv_tensors.Image, tv_tensors.Mask]]):
    """Images with a class index for every pixel.

    An item is (image [C, H, W] uint8, label [H, W] uint8 of class indices 0..K-1 or 255 = ignored). Images are turned
    as their EXIF orientation says, unless only the stored image has the size of the mask.

    Args:
        pairs: Path of the image and path of the mask, one pair a sample.
        classes: Names and colours of the K classes.
        name: Name of the data set, for messages and reports.
        renumber: Value in the mask files -> class index or 255. None: the files hold class indices. The value 255 is
            ignored unless the mapping says otherwise; any value not in the mapping is an error.
        colored_masks: Accept RGB masks too, in the colours of the palette; black is ignored unless it is a class.
        channels: Channels of the images: 1, 3 or 4.
        object_255: With two classes, whether the value 255 of a mask is class 1 (True) or ignored (False). None: it is
            ignored, but `check` refuses masks in which nothing but 0 and 255 occurs.
        unread: Files beside the images that are none, for a warning.

    Raises:
        ValueError: No pairs, fewer than two classes, a mapping to something that is no class, or colours that do not
            tell the classes apart.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        classes: Classes,
        *,
        name: str = "dataset",
        renumber: Mapping[int, int] | None = None,
        colored_masks: bool = False,
        channels: int = 3,
        object_255: bool | None = None,
        unread: Sequence[Path] = (),
    ) -> None:
        if not pairs:
            raise ValueError(f"{one_line(name)}: the data set has no images")
        if len(classes) == 1:
            raise ValueError(
                f"{one_line(name)}: one class alone leaves nothing to learn, every pixel is {_brief(classes.names[0])}"
                ': name two, background and object, e.g. ["background", "road"], and write 0 and 1 into the masks'
            )
        if object_255 is not None and len(classes) != 2:
            raise ValueError(
                f"data.object_255 is {str(object_255).lower()}, but {one_line(name)} has {len(classes)} classes: it is "
                "for masks of two, 0 and 255; leave it out"
            )
        if colored_masks and len(set(classes.palette)) < len(classes):
            raise ValueError(
                f"{one_line(name)}: two classes share a colour, so RGB masks cannot be read: give each its own"
            )
        self.pairs = tuple(pairs)
        self.classes = classes
        self.name = name
        self.channels = channels
        self.object_255 = object_255
        self.unread = tuple(unread)
        renumber = dict(enumerate(range(len(classes)))) if renumber is None else renumber
        self._table = _lookup_table({**renumber, IGNORE_INDEX: 1} if object_255 else renumber, len(classes))
        self._colors = _color_codes(classes) if colored_masks else None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """Read a sample.

        Raises:
            ValueError: A file cannot be read, the sizes differ, or the mask holds values that are no labels.
        """
        label = self.label(index)
        return self._fitting(index, label)[0], label

    def _fitting(self, index: int, label: tv_tensors.Mask) -> tuple[tv_tensors.Image, Reach | None]:
        """Read the image of a sample at the size of its label, and how much of their range its samples use."""
        image, reach = self._read(index, upright=True)
        if image.shape[-2:] != label.shape:
            stored, reach = self._read(index, upright=False)
            if stored.shape[-2:] != label.shape:
                raise self._size_error(index, tuple(label.shape), tuple(image.shape[-2:]))
            image = stored
        return image, reach

    def image(self, index: int, *, upright: bool = True) -> tv_tensors.Image:
        """Read only the image of a sample: [C, H, W] uint8; `upright` applies the EXIF orientation."""
        return self._read(index, upright=upright)[0]

    def _read(self, index: int, *, upright: bool) -> tuple[tv_tensors.Image, Reach | None]:
        image = read_image(self.pairs[index][0], channels=self.channels, upright=upright)
        pixels = torch.from_numpy(np.array(image, ndmin=3))
        # [1, H, W], or [H, W, C] -> [C, H, W]
        return tv_tensors.Image(pixels if self.channels == 1 else pixels.permute(2, 0, 1)), reach_of(image)

    def label(self, index: int) -> tv_tensors.Mask:
        """Read only the mask of a sample: [H, W] uint8 of class indices, 255 = ignored."""
        path = self.pairs[index][1]
        return self._label(read_mask(path), path)

    def _label(self, raw: NDArray[Any], path: Path) -> tv_tensors.Mask:
        indices = self._from_colors(raw, path) if raw.ndim == 3 else self._from_values(raw, path)
        return tv_tensors.Mask(torch.from_numpy(indices))

    @property
    def ignored_class(self) -> int | None:
        """The class whose own number in the masks is ignored instead, as by a wrong `ignore_index`; None if none is."""
        own = self._table[: len(self.classes)]
        ignored = np.flatnonzero(own == IGNORE_INDEX)
        alone = len(ignored) == 1 and (np.delete(own, ignored) == np.delete(np.arange(len(own)), ignored)).all()
        return int(ignored[0]) if alone else None

    @property
    def numbers_from_0(self) -> bool:
        """Whether the number 0 in the masks stands for class 0."""
        return int(self._table[0]) == 0

    @property
    def _undecided(self) -> bool:
        """Whether 255 could be meant as class 1."""
        return len(self.classes) == 2 and self.object_255 is None and self.numbers_from_0 and self._table[1] == 1

    def require_decided(self) -> None:
        """Refuse masks of two classes in which nothing but 0 and 255 occurs, unless `object_255` says what is meant.

        Reads masks only until one holds something else.

        Raises:
            ValueError: If it has to be said; or a mask can't be read.
        """
        white = False
        for _, mask in self.pairs if self._undecided else ():
            holds_255 = _binary(read_mask(mask))
            if holds_255 is None:
                return
            white = white or holds_255
        if white:
            raise ValueError(OBJECT_255.format(name=one_line(self.name)))

    def check(self, *, level: CheckLevel = "full", allow_empty_masks: bool = False, progress: bool = False) -> Checked:
        """Read the files once and report the first problem, so that nothing surprises a long run.

        Args:
            level: "full" decodes every image and mask; "labels" decodes the masks and looks at the head of the images;
                "none" reads nothing.
            allow_empty_masks: Accept masks in which every pixel is ignored.
            progress: Show a progress bar on the standard error stream.

        Returns:
            Pixels of every class, and what else was seen.

        Raises:
            ValueError: The first problem in the order of the files, and how many further files have one; or that the
                masks of two classes hold only 0 and 255, see `object_255`.
        """
        total = np.zeros(len(self.classes), dtype=np.int64)
        if level == "none":
            return Checked(total)
        problems: list[str] = []
        empty: list[Path] = []
        reaches: dict[Path, Reach] = {}
        binary: set[bool | None] = set()

        def examine(index: int) -> _Seen | str:
            try:
                return self._examine(index, level)
            except ValueError as error:
                return str(error)

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found: Iterable[_Seen | str] = pool.map(examine, range(len(self)))
            if progress:
                bar = make_console()
                found = track(found, f"Checking {shown(self.name)}", len(self), console=bar, transient=True)
            for (image, mask), result in zip(self.pairs, found, strict=True):
                if isinstance(result, str):
                    problems.append(result)
                    continue
                total += result.pixels
                binary.add(result.binary)
                if result.reach is not None:
                    reaches[image] = result.reach
                if not result.pixels.any():
                    empty.append(mask)
                    if not allow_empty_masks:
                        problems.append(
                            f"{one_line(mask)}: every pixel is ignored: remove the pair, or allow it with "
                            "allow_empty_masks"
                        )
        others = len(problems) - (0 if allow_empty_masks else len(empty))
        # Before empty masks are told of: one of 255 alone is none, if 255 is a class.
        if self._undecided and not others and True in binary and None not in binary:
            raise ValueError(OBJECT_255.format(name=one_line(self.name)))
        if problems:
            more = f" (and {len(problems) - 1} more of {len(self)} pairs have a problem)" if len(problems) > 1 else ""
            raise ValueError(problems[0] + more)
        return Checked(total, len(self), len(empty), reaches)

    def _examine(self, index: int, level: CheckLevel) -> _Seen:
        """Check one pair."""
        path, mask = self.pairs[index]
        raw = read_mask(mask)
        label = self._label(raw, mask)
        if level == "full":
            _, reach = self._fitting(index, label)
        else:
            reach = None
            # The stored size first: some formats keep the orientation behind the pixels.
            if label.shape != read_size(path, upright=False) and label.shape != read_size(path):
                raise self._size_error(index, tuple(label.shape), read_size(path))
        pixels = np.bincount(label.numpy().ravel(), minlength=IGNORE_INDEX + 1)[: len(self.classes)]
        return _Seen(pixels, _binary(raw) if self._undecided else None, reach)

    def _from_values(self, raw: NDArray[Any], path: Path) -> NDArray[np.uint8]:
        table = self._table
        if raw.dtype != np.uint8:
            raw = np.where((raw < 0) | (raw >= len(table)), len(table) - 1, raw)
        indices = table[raw]
        if (indices < 0).any():
            wrong = np.unique(read_mask(path)[indices < 0])
            accepted = _ranges(np.flatnonzero(table >= 0))
            raise ValueError(
                f"{one_line(path)}: {_some(wrong)} no label of {one_line(self.name)}: expected {accepted}; "
                "correct the mask or the list of classes"
            )
        label: NDArray[np.uint8] = indices.astype(np.uint8)
        return label

    def _from_colors(self, raw: NDArray[Any], path: Path) -> NDArray[np.uint8]:
        if self._colors is None:
            raise ValueError(
                f"{one_line(path)}: the mask is RGB, but {one_line(self.name)} gives no palette to read it with: "
                "save class indices in one channel, or give the palette"
            )
        codes, indices = self._colors
        code = raw.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)  # [H, W]
        place = np.searchsorted(codes, code).clip(max=len(codes) - 1)
        wrong = codes[place] != code
        if wrong.any():
            colors = [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in np.unique(code[wrong])]
            raise ValueError(
                f"{one_line(path)}: {_some(colors)} no colour in the palette of {one_line(self.name)}: correct one of "
                "the two"
            )
        label: NDArray[np.uint8] = indices[place]
        return label

    def _size_error(self, index: int, label: tuple[int, ...], image: tuple[int, ...]) -> ValueError:
        image_path, mask_path = self.pairs[index]
        return ValueError(
            f"{one_line(mask_path)}: the mask has {label[1]} x {label[0]} pixels, its image {one_line(image_path)} "
            f"{image[1]} x {image[0]}: both must have the same size"
        )


def _lookup_table(renumber: Mapping[int, int], num_classes: int) -> NDArray[np.int16]:
    """Value in the file -> class index, 255, or -1 = error; the last entry is -1 and stands for all greater values."""
    for value, index in renumber.items():
        if not 0 <= value < MOST_VALUE or not (0 <= index < num_classes or index == IGNORE_INDEX):
            raise ValueError(
                f"renumber {value} -> {index}: expected 0..{MOST_VALUE - 1} -> 0..{num_classes - 1} or {IGNORE_INDEX}"
            )
    table = np.full(max(IGNORE_INDEX, *renumber) + 2, -1, dtype=np.int16)
    table[IGNORE_INDEX] = IGNORE_INDEX
    for value, index in renumber.items():
        table[value] = index
    return table


def _color_codes(classes: Classes) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Colours as sorted 24-bit numbers, and the class index of each."""
    index = {0: IGNORE_INDEX} | {(r << 16) + (g << 8) + b: i for i, (r, g, b) in enumerate(classes.palette)}
    codes = sorted(index)
    return np.array(codes, dtype=np.int32), np.array([index[code] for code in codes], dtype=np.uint8)


def _binary(raw: NDArray[Any]) -> bool | None:
    """Whether 255 occurs in a mask that has no other number but 0; None if it has others, or colours."""
    white = raw == IGNORE_INDEX
    return bool(white.any()) if raw.ndim == 2 and (white | (raw == 0)).all() else None


def _some(values: Sequence[Any] | NDArray[Any]) -> str:
    shown = ", ".join(str(value) for value in values[:5])
    if len(values) == 1:
        return f"{shown} is"
    return f"{shown} are" if len(values) <= 5 else f"{shown} and {len(values) - 5} more values are"


def _ranges(values: NDArray[Any]) -> str:
    """Sorted numbers as text: [0, 1, 2, 255] -> "0..2, 255"."""
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
