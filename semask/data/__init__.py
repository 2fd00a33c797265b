"""Files to tensors: images [B, C, H, W] and labels [B, H, W] of class indices, 255 = ignored."""

from semask.data.ade20k import ade20k
from semask.data.cityscapes import cityscapes
from semask.data.coco_stuff import coco_stuff
from semask.data.dataset import IGNORE_INDEX, Classes, Data, SegmentationDataset, default_palette
from semask.data.folder import folder, read_classes, write_classes
from semask.data.images import IMAGE_SUFFIXES, read_image, read_mask
from semask.data.loader import Batch, evaluation_loader, training_loader
from semask.data.street import draw_scene
from semask.data.synthetic import write_synthetic
from semask.data.transforms import Augmentation, Normalization, training_transform

__all__ = [
    "IGNORE_INDEX",
    "IMAGE_SUFFIXES",
    "Augmentation",
    "Batch",
    "Classes",
    "Data",
    "Normalization",
    "SegmentationDataset",
    "ade20k",
    "cityscapes",
    "coco_stuff",
    "default_palette",
    "draw_scene",
    "evaluation_loader",
    "folder",
    "read_classes",
    "read_image",
    "read_mask",
    "training_loader",
    "training_transform",
    "write_classes",
    "write_synthetic",
]
