"""Pictures of single images: image, label, prediction, and where the two differ."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.classes import IGNORE_INDEX, Classes
from semask.data.dataset import SegmentationDataset
from semask.data.images import encoded
from semask.files.atomic import write_whole
from semask.prediction.pictures import colorize, side_by_side, to_picture
from semask.prediction.predictor import Predictor
from semask.prediction.score_maps import label_map

SIDE = 800
"""Greatest side in pixels of each of the pictures that stand next to each other."""
RIGHT, WRONG, IGNORED = (225, 225, 225), (200, 0, 0), (0, 0, 0)
"""Colors of pixels."""
_MOST_OF_NAME = 80


def error_picture(label: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> Image.Image:
    """Paint where a prediction [H, W] is wrong: red, what is right in gray, what is ignored in black."""
    meaning = np.where(label == IGNORE_INDEX, 2, label != prediction)
    return Image.fromarray(np.array([RIGHT, WRONG, IGNORED], np.uint8)[meaning])


def picture_row(
    image: NDArray[np.uint8 | np.float32],
    label: NDArray[np.uint8],
    predictions: Sequence[NDArray[np.uint8]],
    classes: Classes,
) -> Image.Image:
    """Put an image [H, W, C], its label [H, W] and predictions, each with its errors, next to each other."""
    maps = [colorize(label, classes)]
    for prediction in predictions:
        maps += [colorize(prediction, classes), error_picture(label, prediction)]
    factor = min(1.0, SIDE / max(label.shape))
    size = (max(1, round(label.shape[1] * factor)), max(1, round(label.shape[0] * factor)))
    shown = [to_picture(image).resize(size), *(one.resize(size, Image.Resampling.NEAREST) for one in maps)]
    return side_by_side(shown)


def write_pictures(
    folder: str | Path,
    predictors: Sequence[Predictor],
    dataset: SegmentationDataset,
    names: Sequence[str],
    indices: Sequence[int],
) -> list[Path]:
    """Predict some images again, and write a picture of each: NUMBER_NAME.jpg, in the given order.

    Args:
        folder: Where to.
        predictors: Models, and how images are put through them.
        dataset: Images with labels.
        names: Names of all of them.
        indices: Which to write.

    Raises:
        ValueError: If one can't be read or written.
    """
    written = []
    for number, index in enumerate(indices, start=1):
        image, label = dataset[index]
        size = (label.shape[-2], label.shape[-1])
        predictions = [label_map(x.views(image)[0], size)[0].cpu().numpy() for x in predictors]
        drawn = picture_row(image.permute(1, 2, 0).numpy(), label.numpy(), predictions, dataset.classes)
        safe = re.sub(r"[^\w.@#-]", "_", names[index].rpartition("/")[2])[:_MOST_OF_NAME]
        path = Path(folder) / f"{number:02}_{safe}.jpg"
        write_whole(path, encoded(drawn, "JPEG", quality=90))
        written.append(path)
    return written
