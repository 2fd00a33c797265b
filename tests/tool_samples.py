"""Samples that tools' own packages wrote (data/formats/samples/write.py), and comparing labels with their masks."""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.dataset import SegmentationDataset

SAMPLES = Path(__file__).parent / "data" / "formats" / "samples"


def sample(tool: str, to: Path) -> Path:
    """A copy of a sample, without the mask that it is compared with."""
    root = shutil.copytree(SAMPLES / tool, to / tool)
    (root / "mask.png").unlink(missing_ok=True)
    (root / "brush.png").unlink(missing_ok=True)
    return root


def mask_of(tool: str) -> NDArray[np.uint8]:
    """The mask that the tool makes."""
    return np.array(Image.open(SAMPLES / tool / "mask.png"))


def labels(dataset: SegmentationDataset, index: int = 0) -> NDArray[np.uint8]:
    """A label of a data set: [H, W]."""
    return dataset.label(index).numpy()


def outline(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels that touch one of another class, in all directions."""
    padded = np.pad(mask, 1, mode="edge")
    height, width = mask.shape
    near = [padded[y : y + height, x : x + width] != mask for y in range(3) for x in range(3)]
    return np.any(near, axis=0)
