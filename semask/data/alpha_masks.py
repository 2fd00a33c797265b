"""Masks in the alpha channel of a file, as programs that cut objects out of photos save them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.data.dataset import Label, SegmentationDataset
from semask.data.images import ALPHA, Picture, image_path, load_mask
from semask.data.labels import color_codes
from semask.data.stored import StoredMask
from semask.files.text import one_line

MOST_COLORS = 64
"""More colors than these are a photo, not a mask."""
LOOKED_AT = 8
"""Masks that are decoded to see where their labels are."""


@dataclass(frozen=True)
class AlphaMask:
    """A mask of which only the alpha channel counts: a `LabelSource`.

    Args:
        file: The file, or the cell of a table.
    """

    file: Picture

    @property
    def path(self) -> Path:
        """The file, for messages."""
        return image_path(self.file)

    def read(self) -> NDArray[Any]:
        """Read the alpha channel: [H, W] uint8, 0 where it is transparent.

        Raises:
            ValueError: If the file can't be read, or has no alpha channel.
        """
        image = load_mask(self.file)
        if image.mode not in ALPHA:
            raise ValueError(
                f"{one_line(self.path)}: data.mask_channel is alpha, but the mask has no alpha channel (mode "
                f"{image.mode}): save all masks with one, or leave the setting out"
            )
        return np.array(image.getchannel("A"))


def from_alpha(dataset: SegmentationDataset) -> SegmentationDataset:
    """The same files, with labels that are the alpha channels of their masks.

    Raises:
        ValueError: If the labels are no files of masks.
    """
    pairs: list[tuple[Picture, Label]] = []
    for image, label in dataset.pairs:
        if not isinstance(label, Path | StoredMask):
            raise ValueError(f"data.mask_channel is for masks that are images, not for {one_line(label.path)}")
        pairs.append((image, AlphaMask(label)))
    return dataset.labeled_by(pairs)


def alpha_if_found(datasets: Sequence[SegmentationDataset]) -> tuple[list[SegmentationDataset], str | None]:
    """Data sets as they are, or read from their alpha channels if the labels seem to be there, and why.

    Raises:
        ValueError: As `found_in_alpha`.
    """
    why = found_in_alpha([label for dataset in datasets for _, label in dataset.pairs])
    return (list(datasets) if why is None else [from_alpha(dataset) for dataset in datasets]), why


def found_in_alpha(labels: Sequence[Label]) -> str | None:
    """Why the labels seem to be in the alpha channel: it differs, and the colors are one, or those of a photo.

    Args:
        labels: The masks, of which a few are looked at.

    Raises:
        ValueError: One of these can't be read.
    """
    seen = None
    for label in labels[:LOOKED_AT]:
        image = load_mask(label) if isinstance(label, Path | StoredMask) else None
        if image is None or image.mode not in ALPHA:
            return None
        transparent = np.array(image.getchannel("A"))
        if transparent.min() == transparent.max():  # an image without the object says nothing
            continue
        colors = len(np.unique(color_codes(np.array(image.convert("RGB")))))
        if 1 < colors <= MOST_COLORS:
            return None
        seen = seen or f"the masks differ in their alpha channel, and have {'one color' if colors == 1 else 'photos'}"
    return seen
