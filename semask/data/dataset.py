"""Pairs of files to pairs of tensors.

photo.jpg  -> image [C, H, W] uint8, or float32 in [0, 1] where the range of the samples is known
photo.png  -> label [H, W] uint8: 0..K-1, or 255 = ignored

torch and torchvision are imported when the first sample is read: finding and checking files does without them.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from semask.data.bands import Reading, Window
from semask.data.checking import OBJECT_255, Checked, CheckedPair, summarize
from semask.data.classes import IGNORE_INDEX, Classes, Color
from semask.data.images import Picture, Reach, image_path, read_mask
from semask.data.labels import LabelTable, only_0_and_255, palette_colors
from semask.data.progress import Track, untracked
from semask.data.reading import ImageData, read_picture, read_picture_size
from semask.data.selection import Selection, select
from semask.files.schema import quoted
from semask.files.text import one_line

if TYPE_CHECKING:
    from torchvision import tv_tensors

CheckLevel = Literal["full", "labels", "none"]


class LabelSource(Protocol):
    """A label that is not the file of a mask, for example polygons that are drawn when they are read."""

    @property
    def path(self) -> Path:
        """The file that holds it, for messages."""

    def read(self) -> NDArray[Any]:
        """Make the mask: [H, W] of whole numbers, as `read_mask` gives it.

        Raises:
            ValueError: If the file is wrong.
        """


Label = Path | LabelSource
"""Where the label of an image is."""


class SegmentationDataset:
    """Images with a class index for every pixel.

    An item is (image [C, H, W], label [H, W] uint8 of class indices 0..K-1 or 255 = ignored). Images are uint8, or
    float32 in [0, 1] if their `reading` has a range of values. They are turned as their EXIF orientation says, unless
    only the stored image has the size of the mask.

    Args:
        pairs: Path or source of the image, and path or source of its mask, one pair a sample.
        classes: Names and colors of the K classes; None if the files do not tell: `selecting` names them.
        name: Name of the data set, for messages and reports.
        renumber: Value in the mask files -> class index or 255. None: the files hold class indices. The value 255 is
            ignored unless the mapping says otherwise; any value not in the mapping is an error.
        colored_masks: Accept RGB masks too, in the colors of the palette; black is ignored unless it is a class.
        ignored_colors: Other colors of RGB masks that are ignored.
        channels: Channels of the images.
        object_255: With two classes, whether the value 255 of a mask is class 1 (True) or ignored (False). None: it is
            ignored, but `check` refuses masks in which nothing but 0 and 255 occurs.
        unread: Other files in the folders of the images, which are not read, for a warning.
        unlabeled: Images that are left out because they have no mask, for a warning.
        selection: Which labels of the files make which class, see `selecting`.
        windows: Part of the image that each sample is, None for all of it; empty: all are whole images.
        reading: How the samples of the files become channels; None: as photos of that number of channels.
        ignore_nodata: Whether pixels without data are ignored, whatever their label.
        notes: What else was found and is not used, one line each, for a warning.

    Raises:
        ValueError: No pairs, fewer than two classes, a mapping to something that is not a class, or colors that do not
            tell the classes apart.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Picture, Label]],
        classes: Classes | None,
        *,
        name: str = "dataset",
        renumber: Mapping[int, int] | None = None,
        colored_masks: bool = False,
        ignored_colors: Sequence[Color] = (),
        channels: int = 3,
        object_255: bool | None = None,
        unread: Sequence[Path] = (),
        unlabeled: Sequence[Path] = (),
        selection: Selection | None = None,
        windows: Sequence[Window | None] = (),
        reading: Reading | None = None,
        ignore_nodata: bool = True,
        notes: Sequence[str] = (),
    ) -> None:
        if not pairs:
            raise ValueError(f"{one_line(name)}: the data set has no images")
        self._arguments: dict[str, Any] = {
            "pairs": pairs,
            "classes": classes,
            "name": name,
            "renumber": renumber,
            "colored_masks": colored_masks,
            "ignored_colors": ignored_colors,
            "channels": channels,
            "object_255": object_255,
            "unread": unread,
            "unlabeled": unlabeled,
            "selection": selection,
            "ignore_nodata": ignore_nodata,
            "notes": notes,
        }
        self.pairs = tuple(pairs)
        self.name = name
        self.windows = tuple(windows) or (None,) * len(pairs)
        self.reading = reading or Reading(channels=channels)
        self.ignore_nodata = ignore_nodata
        self.object_255 = object_255
        self.unread = tuple(unread)
        self.unlabeled = tuple(unlabeled)
        self.notes = tuple(notes)
        self.selected = selection is not None
        colors = palette_colors(classes, name=name) if colored_masks and classes is not None else None
        if colors is not None:
            colors = dict.fromkeys(ignored_colors, IGNORE_INDEX) | colors
        self._classes, self._labels = self._meaning(classes, renumber, colors, selection)

    def _meaning(
        self,
        own: Classes | None,
        renumber: Mapping[int, int] | None,
        colors: Mapping[Color, int] | None,
        selection: Selection | None,
    ) -> tuple[Classes | None, LabelTable]:
        """The classes, and what the numbers and colors of the files stand for."""
        values = renumber if renumber is not None else dict(enumerate(range(len(own) if own is not None else 0)))
        if selection is not None:
            if self.object_255 is not None:
                raise ValueError("data.object_255 and data.classes are both given: list 255 in data.classes instead")
            chosen = select(selection, own, values, colors, name=self.name)
            own, values, colors, rest = chosen.classes, chosen.values, chosen.colors, chosen.rest
        else:
            rest = None
        if own is not None and len(own) == 1:
            only = quoted(own.names[0], longest=60)
            raise ValueError(
                f"{one_line(self.name)}: one class alone leaves nothing to learn, every pixel is {only}: name two, "
                'background and object, e.g. ["background", "road"], and write 0 and 1 into the masks'
            )
        count = len(own) if own is not None else 0
        if self.object_255 is not None and count != 2:
            raise ValueError(
                f"data.object_255 is {str(self.object_255).lower()}, but {one_line(self.name)} has {count} classes: it "
                "is for masks of two, 0 and 255; leave it out"
            )
        if self.object_255:
            values = {**values, IGNORE_INDEX: 1}
        tolerance = selection.tolerance if selection is not None else 0
        table = LabelTable(
            name=self.name, num_classes=count, values=values, colors=colors, rest=rest, tolerance=tolerance
        )
        return own, table

    @property
    def classes(self) -> Classes:
        """Names and colors of the K classes.

        Raises:
            ValueError: If the files do not name them and nobody else did.
        """
        if self._classes is None:
            raise ValueError(
                f"{one_line(self.name)}: its files do not name the classes: give data.classes, e.g. "
                "{background: [0], object: [255]}, or let `semask train FOLDER` find them"
            )
        return self._classes

    @property
    def table(self) -> LabelTable:
        """What the numbers and colors of the masks stand for."""
        return self._labels

    @property
    def names_classes(self) -> bool:
        """Whether the classes are known."""
        return self._classes is not None

    def selecting(self, selection: Selection) -> "SegmentationDataset":
        """The same files with classes that are made of what the files hold; see `Data.classes`.

        Raises:
            ValueError: If a class of the files is left out, or something is listed that they do not have.
        """
        return self._with(selection=selection)

    def labeled_by(self, pairs: Sequence[tuple[Picture, Label]]) -> "SegmentationDataset":
        """The same images, in their order, with other labels."""
        return self._with(pairs=pairs)

    def subset(self, indices: Sequence[int]) -> "SegmentationDataset":
        """Only some of the samples, in the given order."""
        chosen = [self.pairs[index] for index in indices]
        return self._with(pairs=chosen, windows=[self.windows[index] for index in indices])

    def reading_as(self, reading: Reading, *, ignore_nodata: bool = True) -> "SegmentationDataset":
        """The same files, with images read in another way."""
        return self._with(reading=reading, ignore_nodata=ignore_nodata)

    def _with(self, **changes: Any) -> "SegmentationDataset":
        now = {**self._arguments, "reading": self.reading, "windows": self.windows}
        return SegmentationDataset(**{**now, **changes})

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.pairs)

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self.reading.channels

    def __getitem__(self, index: int) -> "tuple[tv_tensors.Image, tv_tensors.Mask]":
        """Read a sample.

        Raises:
            ValueError: A file cannot be read, the sizes differ, or the mask holds values that are not classes.
        """
        label = self.label(index)
        picture = self._fitting(index, (label.shape[-2], label.shape[-1]))
        holes = self._ignored(picture)
        if holes is not None:
            import torch

            label[torch.from_numpy(holes)] = IGNORE_INDEX
        return _to_image(picture.pixels), label

    def image(self, index: int, *, upright: bool = True) -> "tv_tensors.Image":
        """Read only the image of a sample: [C, H, W]; `upright` applies the EXIF orientation."""
        return _to_image(self._read(index, upright=upright).pixels)

    def reach(self, index: int) -> Reach | None:
        """How much of their range the samples of an image use of which the upper 8 bits are taken; else None."""
        return self._read(index, upright=True).reach

    def label(self, index: int) -> "tv_tensors.Mask":
        """Read only the mask of a sample: [H, W] uint8 of class indices, 255 = ignored."""
        import torch
        from torchvision import tv_tensors

        return tv_tensors.Mask(torch.from_numpy(self.label_array(index)))

    def label_array(self, index: int) -> NDArray[np.uint8]:
        """Read only the mask of a sample, without torch: [H, W] of class indices, 255 = ignored."""
        source = self.pairs[index][1]
        return self._labels.indices(raw_label(source), label_path(source))

    @property
    def ignored_class(self) -> int | None:
        """The class whose own number in the masks is ignored instead, as by a wrong `ignore_index`; None if none is."""
        return self._labels.ignored_class

    @property
    def numbers_from_0(self) -> bool:
        """Whether the number 0 in the masks stands for class 0."""
        return self._labels.keeps(0)

    @property
    def _undecided(self) -> bool:
        """Whether 255 could be meant as class 1."""
        if self.selected or self.object_255 is not None or len(self.classes) != 2:
            return False
        return self._labels.keeps(0) and self._labels.keeps(1)

    def require_decided(self) -> None:
        """Refuse masks of two classes in which nothing but 0 and 255 occurs, unless `object_255` says what is meant.

        Reads masks only until one holds something else.

        Raises:
            ValueError: If it has to be said; or a mask cannot be read.
        """
        white = False
        for _, mask in self.pairs if self._undecided else ():
            holds_255 = only_0_and_255(raw_label(mask))
            if holds_255 is None:
                return
            white = white or holds_255
        if white:
            raise ValueError(OBJECT_255.format(name=one_line(self.name)))

    def check(
        self, *, level: CheckLevel = "full", allow_empty_masks: bool = False, track: Track = untracked
    ) -> Checked:
        """Read the files once and report the first problem, so that nothing surprises a long run.

        Args:
            level: "full" decodes every image and mask; "labels" decodes the masks and reads the header of the images;
                "none" reads nothing.
            allow_empty_masks: Accept masks in which every pixel is ignored.
            track: Shows how far it is.

        Returns:
            Pixels of every class, and what else was seen.

        Raises:
            ValueError: The first problem in the order of the files, and how many further files have one; or that the
                masks of two classes hold only 0 and 255, see `object_255`.
        """
        if level == "none":
            return Checked(np.zeros(len(self.classes), dtype=np.int64))

        def examine(index: int) -> CheckedPair | str:
            try:
                return self._examine(index, level)
            except ValueError as error:
                return str(error)

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found = pool.map(examine, range(len(self)))
            return summarize(
                [(image_path(image), label_path(source)) for image, source in self.pairs],
                track(found, f"Checking {self.name}", len(self)),
                name=self.name,
                num_classes=len(self.classes),
                undecided=self._undecided,
                allow_empty_masks=allow_empty_masks or any(self.windows),  # a chip without labels is nothing unusual
            )

    def _examine(self, index: int, level: CheckLevel) -> CheckedPair:
        """Check one pair."""
        path, mask = self.pairs[index]
        raw = raw_label(mask)
        label, adjusted = self._labels.read(raw, label_path(mask))  # [H, W]
        reach = None
        if level == "full":
            picture = self._fitting(index, label.shape)
            reach, holes = picture.reach, self._ignored(picture)
            if holes is not None:
                label = np.where(holes, np.uint8(IGNORE_INDEX), label)
        elif self.windows[index] is None:
            # The stored size first: some formats keep the orientation behind the pixels.
            sizes = (read_picture_size(path, self.reading, upright=upright) for upright in (False, True))
            if all(label.shape != size for size in sizes):
                raise self._size_error(index, label.shape, read_picture_size(path, self.reading))
        pixels = np.bincount(label.ravel(), minlength=IGNORE_INDEX + 1)[: len(self.classes)]
        return CheckedPair(pixels, only_0_and_255(raw) if self._undecided else None, reach, adjusted)

    def _fitting(self, index: int, size: tuple[int, ...]) -> ImageData:
        """Read the image of a sample at the size of its label."""
        picture = self._read(index, upright=True)
        if picture.pixels.shape[:2] != size:
            stored = self._read(index, upright=False)
            if stored.pixels.shape[:2] != size:
                raise self._size_error(index, size, picture.pixels.shape[:2])
            return stored
        return picture

    def _read(self, index: int, *, upright: bool) -> ImageData:
        """Read the image of a sample: [H, W, C]."""
        return read_picture(self.pairs[index][0], self.reading, upright=upright, window=self.windows[index])

    def _ignored(self, picture: ImageData) -> NDArray[np.bool_] | None:
        """Which pixels [H, W] are ignored because the image has no data there."""
        return picture.holes if self.ignore_nodata else None

    def _size_error(self, index: int, label: tuple[int, ...], image: tuple[int, ...]) -> ValueError:
        picture, source = self.pairs[index]
        return ValueError(
            f"{one_line(label_path(source))}: the mask has {label[1]} x {label[0]} pixels, its image "
            f"{one_line(image_path(picture))} {image[1]} x {image[0]}: both must have the same size"
        )


def raw_label(source: Label) -> NDArray[Any]:
    """Read a mask as its file has it: [H, W] of numbers, or [H, W, 3] of colors; ValueError if it can't be read."""
    return read_mask(source) if isinstance(source, Path) else source.read()


def label_path(source: Label) -> Path:
    """The file that holds a label, for messages."""
    return source if isinstance(source, Path) else source.path


def _to_image(pixels: NDArray[Any]) -> "tv_tensors.Image":
    """Array [H, W, C] -> image [C, H, W]."""
    import torch
    from torchvision import tv_tensors

    one_channel = pixels.shape[-1] == 1  # its rows lie in memory as those of any image [1, H, W]
    return tv_tensors.Image(torch.from_numpy(pixels[None, ..., 0] if one_channel else pixels.transpose(2, 0, 1)))
