"""labelme/NAME.json: polygons for the labeling tool labelme, to be corrected and trained on.

labelme's polygons have no holes. Here each region is drawn with its outline alone, large ones first: what fills a hole
is smaller and lies above. Regions without a class are drawn too, with labelme's own name for them.
"""

import json
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.data.annotations import IGNORED_LABEL
from semask.data.classes import IGNORE_INDEX, Classes
from semask.files.atomic import write_whole
from semask.prediction.output import Output
from semask.prediction.polygons import regions
from semask.prediction.segmentation import Segmentation

FOLDER = "labelme"
VERSION = "5.5.0"
"""Version of labelme whose files these are like."""


def write(segmentation: Segmentation) -> None:
    """Write the polygons of an image."""
    target = segmentation.stem.parent / FOLDER / f"{segmentation.stem.name}.json"
    image = _path_from(target.parent, segmentation)
    write_whole(target, json.dumps(content(segmentation.label(), segmentation.classes, image, segmentation.simplify)))


def content(
    label: NDArray[np.uint8], classes: Classes, image: str | None = None, simplify: float = 0.0
) -> dict[str, Any]:
    """Make the file of an image.

    Args:
        label: Its label map [H, W].
        classes: Names of the classes.
        image: Path of the image, from the folder of the file.
        simplify: Pixels by which borders may be simplified.
    """
    names = dict(enumerate(classes.names)) | {IGNORE_INDEX: IGNORED_LABEL}
    found = sorted(regions(label, simplify), key=lambda x: -x.outline_area)
    return {
        "version": VERSION,
        "flags": {},
        "shapes": [
            {
                "label": names[region.value],
                "points": region.rings[0][:-1],
                "group_id": None,
                "description": "",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
            for region in found
        ],
        "imagePath": image,
        "imageData": None,
        "imageHeight": label.shape[0],
        "imageWidth": label.shape[1],
    }


def _path_from(folder: os.PathLike[str], segmentation: Segmentation) -> str:
    """Path of the image from a folder; the absolute one if it lies on another drive."""
    image = segmentation.image.resolve()
    try:
        return os.path.relpath(image, os.path.realpath(folder)).replace(os.sep, "/")
    except ValueError:
        return image.as_posix()


OUTPUT = Output(
    write,
    packages=("rasterio",),
    whole="labelme holds an image as a whole: leave out labelme or --tile",
)
