"""One labeled image as the doctor goes through them."""

from pathlib import Path
from typing import NamedTuple

from semask.data.dataset import Label, label_path


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


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
