"""One labeled image as the doctor goes through them."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from semask.data.bands import Reading, Window
from semask.data.dataset import Label, SegmentationDataset, label_path
from semask.data.images import Picture, image_path
from semask.data.source import sample_names

PHOTOS = Reading()


class Sample(NamedTuple):
    """An image and its label.

    Args:
        split: "train" or "val"; "" where the folder has no splits.
        image: The image, or where it is.
        label: Its mask, or where its label is drawn from.
        name: What both are called, without ending.
        reading: How the samples of the file become channels.
        window: Part of the image; None for all of it.
    """

    split: str
    image: Picture
    label: Label
    name: str
    reading: Reading = PHOTOS
    window: Window | None = None

    @property
    def files(self) -> tuple[Picture, Label, Reading, Window | None]:
        """What `facts_of` looks at."""
        return self.image, self.label, self.reading, self.window

    def below(self, root: Path) -> tuple[str, str]:
        """Paths of image and label below a folder."""
        image, label = (_below(path, root) for path in (image_path(self.image), label_path(self.label)))
        return image, label


def samples_of(split: str, dataset: SegmentationDataset, root: Path, *, measured: bool = False) -> list[Sample]:
    """The samples of a split as training reads them.

    Args:
        split: Name of the split.
        dataset: Its samples.
        root: Folder of the data set.
        measured: Whether training measures the range of the samples first, so that they may be of any kind.
    """
    reading = dataset.reading
    if measured and reading.value_range is None:
        reading = replace(reading, value_range=((0.0, 1.0),) * reading.channels)
    names = sample_names(dataset, root)
    return [
        Sample(split, *pair, name, reading, window)
        for pair, name, window in zip(dataset.pairs, names, dataset.windows, strict=True)
    ]


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
