"""Pictures of a few validation images over time: always the same ones."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from semask.data.dataset import SegmentationDataset
from semask.prediction.pictures import colorize, side_by_side, to_picture
from semask.prediction.predictor import Predictor


class Sample(NamedTuple):
    """A validation image with all that the model makes of it, side by side."""

    place: int
    picture: Image.Image


def sample_places(images: int, count: int) -> list[int]:
    """Which images are drawn: spread evenly over the split, the same ones at every evaluation.

    >>> sample_places(100, 4), sample_places(2, 4), sample_places(100, 1)
    ([0, 33, 66, 99], [0, 1], [0])
    """
    return [int(i) for i in np.linspace(0, images - 1, min(count, images), dtype=int)]


def draw_samples(predictor: Predictor, dataset: SegmentationDataset, count: int) -> Iterator[Sample]:
    """Draw image, label, prediction and priors of a few validation images."""
    for index in sample_places(len(dataset), count):
        image, label = dataset[index]
        prediction = predictor(image, confidence=False, priors=True)
        maps = [label.numpy(), prediction.label, *prediction.priors]
        photo = to_picture(image.permute(1, 2, 0).numpy())
        yield Sample(index, side_by_side([photo, *(colorize(x, dataset.classes) for x in maps)]))
