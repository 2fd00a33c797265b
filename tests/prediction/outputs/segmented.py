"""Label maps to write, without a model."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from semask.data.classes import Classes
from semask.prediction.prediction import Prediction
from semask.prediction.raster import Place
from semask.prediction.segmentation import Segmentation

NAMES = ("road", "tree & <b>", '=HYPERLINK("x")', "Straße'; DROP TABLE classes;--")
CLASSES = Classes(NAMES)


def rows_of(whole, step):
    return (whole[first : first + step] for first in range(0, len(whole), step))


def noise(height=40, width=50, seed=0) -> np.ndarray:
    """Regions of one pixel, holes in holes, and regions at all borders; a stripe is ignored."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, (height, width)).astype(np.uint8)
    label[5:30, 5:35] = 1
    label[8:25, 8:30] = 2
    label[12, 12] = 255
    label[15:20, 15:20] = rng.integers(0, 2, (5, 5))
    label[:, 40:43] = 255
    return label


def smooth(height=120, width=140) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (6, 7)).astype(np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)) // 64


MAPS = {
    "noise": noise(),
    "smooth": smooth(),
    "one pixel": np.zeros((1, 1), np.uint8),
    "one row": np.array([[0, 1, 1, 255, 0, 2]], np.uint8),
    "one class": np.full((7, 9), 3, np.uint8),
    "ignored": np.full((3, 4), 255, np.uint8),
    "corners": (np.indices((6, 6)).sum(0) % 2).astype(np.uint8),  # pixels that touch at corners only
}


def place(crs="EPSG:32633", *, size=0.5, west=400_000.0, north=5_000_000.0) -> Place:
    from rasterio.crs import CRS
    from rasterio.transform import from_origin

    return Place(None if crs is None else CRS.from_user_input(crs), from_origin(west, north, size, size / 2))


def segmentation(folder: Path, label: np.ndarray, *, at: Place | None = None, tiles: bool = False, **settings):
    """What outputs are written from, in memory or as of an image in tiles."""
    image = Image.fromarray(np.zeros((*label.shape, 3), np.uint8))
    values = {
        "image": folder / "photo.png",
        "stem": folder / "out" / "photo",
        "classes": CLASSES,
        "size": label.shape,
        "rows": partial(rows_of, label),
        "picture": lambda factor: image,
        "scratch": folder,
        "place": at,
        "prediction": None if tiles else Prediction(label, None, (), CLASSES),
    }
    return Segmentation(**values | settings)
