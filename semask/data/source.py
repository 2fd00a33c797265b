"""Where the images and masks of a run are: the section `data` of a recipe."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from semask.data import catalog
from semask.data.dataset import CheckLevel, SegmentationDataset
from semask.data.format import Split
from semask.files.schema import Range, require_fields

OPTIONS = ("channels", "image_dir", "label_dir", "object_255")
"""Settings that only some formats have."""


@dataclass(frozen=True)
class Data:
    """Where the images and masks of a run are, and how carefully they are read.

    Args:
        root: Folder of the data set.
        format: Layout of the folder. "folder" is any set of images/SPLIT and annotations/SPLIT with a classes.json.
        train_split: Split to train on; by default the format's own (train, training or train2014).
        val_split: Split to evaluate on; by default the format's own (val, validation or test2014).
        check: What to read before the first step: "full" every image and mask, "labels" every mask and the header of
            every image, "none" nothing.
        allow_empty_masks: Accept masks in which every pixel is ignored.
        workers: Processes that load samples, for each training process; 0 loads in the process itself.
        channels: Channels that images are read with: 1 (gray), 3 (RGB) or 4 (RGBA); other than 3 only for the format
            "folder".
        image_dir: Folder of the images below root; only for the format "folder".
        label_dir: Folder of the masks below root; only for the format "folder".
        object_255: For two classes in the format "folder": whether the value 255 of a mask is class 1 (true) or ignored
            (false). Null: it is ignored, but masks in which only 0 and 255 occur are refused.
    """

    root: str
    format: catalog.FormatName = "folder"
    train_split: str | None = None
    val_split: str | None = None
    check: CheckLevel = "full"
    allow_empty_masks: bool = False
    workers: Annotated[int, Range(0, 256)] = 2
    channels: Annotated[int, Range(1, 4)] = 3
    image_dir: str = "images"
    label_dir: str = "annotations"
    object_255: bool | None = None

    def __post_init__(self) -> None:
        """Validate."""
        require_fields(self, "data")
        if self.channels not in (1, 3, 4):
            raise ValueError(f"data.channels is {self.channels}: give 1, 3 or 4")
        for name in self._given():
            if name not in catalog.find(self.format).options:
                having = " and ".join(x for x in catalog.names() if name in catalog.find(x).options)
                raise ValueError(f"data.{name} is for the format {having}, not for {self.format}: leave it out")

    def dataset(self, split: Split) -> SegmentationDataset:
        """Find the files of the training or the validation split.

        Raises:
            ValueError: The folder is not laid out as the format says, or images and masks do not pair up.
        """
        format = catalog.find(self.format)
        name = (self.train_split if split == "train" else self.val_split) or format.splits[split]
        return format.find(Path(self.root).expanduser(), name, **self._given())

    def _given(self) -> dict[str, Any]:
        """Those of `OPTIONS` that are not left at their defaults."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        values = {name: getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in values.items() if value != defaults[name]}
