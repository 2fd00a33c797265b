"""NAME.json: how many pixels, what share and how many square meters each class has."""

import json
from typing import Any

from semask.data.classes import Classes
from semask.files.atomic import write_whole
from semask.prediction.areas import Areas
from semask.prediction.output import Output
from semask.prediction.segmentation import Segmentation


def write(segmentation: Segmentation) -> None:
    """Write the numbers of each class."""
    areas = segmentation.areas
    content = {
        "image": segmentation.image.as_posix(),
        "height": segmentation.size[0],
        "width": segmentation.size[1],
        "crs": areas.crs,
        "area": areas.measured,
        "ignored_pixels": areas.ignored,
        "classes": rows(areas, segmentation.classes),
    }
    write_whole(segmentation.path(".json"), json.dumps(content, indent=1) + "\n")  # ASCII: a name may be no UTF-8


def rows(areas: Areas, classes: Classes) -> list[dict[str, Any]]:
    """What each class covers."""
    meters = areas.square_meters
    return [
        {
            "id": index,
            "name": name,
            "pixels": areas.pixels[index],
            "share": areas.share(index),
            "square_meters": None if meters is None else meters[index],
        }
        for index, name in enumerate(classes.names)
    ]


OUTPUT = Output(write, endings=(".json",))
