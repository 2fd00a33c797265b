"""NAME.json: how many pixels, what share and how many square meters each class has."""

import json

from semask.files.atomic import write_whole
from semask.prediction.output import Output
from semask.prediction.segmentation import Segmentation


def write(segmentation: Segmentation) -> None:
    """Write the numbers of each class."""
    areas = segmentation.areas
    meters = areas.square_meters
    content = {
        "image": segmentation.image.as_posix(),
        "height": segmentation.size[0],
        "width": segmentation.size[1],
        "crs": areas.crs,
        "area": areas.measured,
        "ignored_pixels": areas.ignored,
        "classes": [
            {
                "id": index,
                "name": name,
                "pixels": areas.pixels[index],
                "share": areas.share(index),
                "square_meters": None if meters is None else meters[index],
            }
            for index, name in enumerate(segmentation.classes.names)
        ],
    }
    write_whole(segmentation.path(".json"), json.dumps(content, indent=1) + "\n")  # ASCII: a name may be no UTF-8


OUTPUT = Output(write, endings=(".json",))
