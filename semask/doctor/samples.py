"""One labeled image as the doctor goes through them."""

from pathlib import Path
from typing import NamedTuple

from semask.data.dataset import Label, SegmentationDataset, label_path
from semask.data.images import image_path
from semask.data.source import sample_names
from semask.files.text import one_line


class Sample(NamedTuple):
    """An image and its label.

    Args:
        split: "train" or "val"; "" where the folder has no splits.
        image: The image.
        label: Its mask, or where its label is drawn from.
        name: What both are called, without ending.
    """

    split: str
    image: Path
    label: Label
    name: str

    def below(self, root: Path) -> tuple[str, str]:
        """Paths of image and label below a folder."""
        image, label = (_below(path, root) for path in (self.image, label_path(self.label)))
        return image, label


def samples_of(split: str, dataset: SegmentationDataset, root: Path) -> list[Sample]:
    """The samples of a split.

    Raises:
        ValueError: If its images are no files of their own: cells of a table, or parts of larger images.
    """
    if any(dataset.windows) or not all(isinstance(image, Path) for image, _ in dataset.pairs):
        raise ValueError(
            f"{one_line(dataset.name)}: its images are cells of a table or parts of larger ones, and the doctor looks "
            "at files: training checks them before its first step"
        )
    names = sample_names(dataset, root)
    pairs = zip(dataset.pairs, names, strict=True)
    return [Sample(split, image_path(image), label, name) for (image, label), name in pairs]


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
