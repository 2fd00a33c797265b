"""NAME_overlay.jpg: the colors of the classes over the image, with a legend."""

import numpy as np

from semask.data.images import encoded
from semask.files.atomic import write_whole
from semask.prediction.output import Output
from semask.prediction.pictures import MOST_JPEG, overlay, with_legend
from semask.prediction.segmentation import Segmentation

OVERVIEW = 2048
"""Longest side in pixels of the overlay of an image in tiles."""


def factor_of(size: tuple[int, int], *, tiles: bool) -> int:
    """Whole factor by which an overlay is smaller than its image."""
    return -(-max(size) // (OVERVIEW if tiles else MOST_JPEG))


def write(segmentation: Segmentation) -> None:
    """Write the overlay, made smaller by a whole factor if the image is very large."""
    factor = factor_of(segmentation.size, tiles=segmentation.prediction is None)
    # Copies, since views would keep all rows.
    label = (
        segmentation.label()
        if factor == 1
        else np.stack([rows[0, ::factor].copy() for rows in segmentation.rows(factor)])
    )
    picture = overlay(segmentation.picture(factor), label, segmentation.classes)
    write_whole(segmentation.path("_overlay.jpg"), encoded(with_legend(picture, label, segmentation.classes), "JPEG"))


OUTPUT = Output(write, endings=("_overlay.jpg",))
