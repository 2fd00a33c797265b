"""Where the images and masks of a run are: the section `data` of a recipe."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from semask.data.check_level import CheckLevel
from semask.files.schema import Range, require_fields

if TYPE_CHECKING:
    from semask.data.dataset import SegmentationDataset


@dataclass(frozen=True)
class Data:
    """Where the images and masks of a run lie, and how carefully they are read.

    Args:
        root: Folder of the data set.
        format: Layout of the folder. "folder" is any set of images/SPLIT and annotations/SPLIT with a classes.json.
        train_split: Split to train on; by default the format's own (train, training or train2014).
        val_split: Split to evaluate on; by default the format's own (val, validation or test2014).
        check: What to read before the first step: "full" every image and mask, "labels" every mask and the head of
            every image, "none" nothing.
        allow_empty_masks: Accept masks in which every pixel is ignored.
        workers: Processes that load samples, for each training process; 0 loads in the process itself.
        channels: Bands that images are read with: 1 (grey), 3 (RGB) or 4 (RGBA); other than 3 only for the format
            "folder".
        image_dir: Folder of the images below root; only for the format "folder".
        label_dir: Folder of the masks below root; only for the format "folder".
        object_255: For two classes in the format "folder": whether the value 255 of a mask is class 1 (true) or ignored
            (false). Null: it is ignored, but masks in which only 0 and 255 occur are refused.
    """

    root: str
    format: Literal["folder", "ade20k", "cityscapes", "coco_stuff"] = "folder"
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
        """Refuse numbers that cannot be meant."""
        require_fields(self, "data")
        if self.channels not in (1, 3, 4) or (self.channels != 3 and self.format != "folder"):
            raise ValueError(f"data.channels is {self.channels}: give 3, or for the format folder 1, 3 or 4")
        if self.object_255 is not None and self.format != "folder":
            raise ValueError(f"data.object_255 is for the format folder, not for {self.format}: leave it out")

    def dataset(self, split: Literal["train", "val"]) -> "SegmentationDataset":
        """Find the files of the training or the validation split.

        Raises:
            ValueError: The folder is not laid out as the format says, or images and masks do not pair up.
        """
        # These modules build on this one.
        from semask.data.formats.ade20k import ade20k
        from semask.data.formats.cityscapes import cityscapes
        from semask.data.formats.coco_stuff import coco_stuff
        from semask.data.formats.folder import folder

        root = Path(self.root).expanduser()
        name = self.train_split if split == "train" else self.val_split
        if self.format == "ade20k":
            return ade20k(root, name or {"train": "training", "val": "validation"}[split])
        if self.format == "cityscapes":
            return cityscapes(root, name or split)
        if self.format == "coco_stuff":
            return coco_stuff(root, name or {"train": "train2014", "val": "test2014"}[split])
        return folder(
            root,
            name or split,
            image_dir=self.image_dir,
            label_dir=self.label_dir,
            channels=self.channels,
            object_255=self.object_255,
        )
