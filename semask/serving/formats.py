"""The forms in which a label map is answered: what `semask predict` writes, for one image without a place on earth."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from semask.extras import require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from semask.data.classes import Classes

    Label = NDArray[np.uint8]
    Make = Callable[[Label, Classes, dict[str, Any]], bytes]


def png(label: "Label", classes: "Classes", about: dict[str, Any]) -> bytes:
    """Make the mask, as outputs/mask.py does."""
    from semask.data.images import encoded
    from semask.prediction.pictures import index_mask

    return encoded(index_mask(label, classes), "PNG")


def npy(label: "Label", classes: "Classes", about: dict[str, Any]) -> bytes:
    """Make a file of NumPy, uint8 [H, W]."""
    import numpy as np

    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(label), allow_pickle=False)
    return buffer.getvalue()


def shares(label: "Label", classes: "Classes", about: dict[str, Any]) -> bytes:
    """Make a table of the classes, as outputs/json.py does."""
    from semask.prediction.areas import measure
    from semask.prediction.outputs.json import rows

    size = (label.shape[0], label.shape[1])
    areas = measure(
        lambda step: (label[first : first + step] for first in range(0, size[0], step)), size, len(classes), None
    )
    found = rows(areas, classes)
    for row, color in zip(found, classes.palette, strict=True):
        del row["square_meters"]
        row["color"] = list(color)
    return dumped({**about, "height": size[0], "width": size[1], "ignored_pixels": areas.ignored, "classes": found})


def rle(label: "Label", classes: "Classes", about: dict[str, Any]) -> bytes:
    """Make COCO annotations with run lengths, as outputs/coco.py does."""
    from semask.prediction.outputs.coco import annotations

    return dumped(
        {
            "categories": [{"id": number + 1, "name": name} for number, name in enumerate(classes.names)],
            "images": [{"id": 1, "file_name": "", "height": label.shape[0], "width": label.shape[1]}],
            "annotations": [
                {"id": number, "image_id": 1, **annotation}
                for number, annotation in enumerate(annotations(label), start=1)
            ],
        }
    )


def polygons(label: "Label", classes: "Classes", about: dict[str, Any]) -> bytes:
    """Make the regions with their holes, in the form of GeoJSON and in pixels from the upper left corner."""
    from semask.data.classes import IGNORE_INDEX
    from semask.prediction.polygons import regions

    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": region.rings},
            "properties": {"class": classes.names[region.value], "id": region.value},
        }
        for region in regions(label)
        if region.value != IGNORE_INDEX
    ]
    size = {"height": label.shape[0], "width": label.shape[1]}
    return dumped({"type": "FeatureCollection", **size, "features": features})


def labelme(label: "Label", classes: "Classes", about: dict[str, Any]) -> bytes:
    """Make the file of labelme, as outputs/labelme.py does, without the path of the image."""
    from semask.prediction.outputs.labelme import content

    return dumped(content(label, classes, ""))


def label_studio(label: "Label", classes: "Classes", about: dict[str, Any]) -> bytes:
    """Make a prediction of Label Studio, as outputs/label_studio.py does.

    `about` has its tags, its name of the model, and whether the labeling config has a label for pixels without a class.
    """
    from semask.data.annotations import IGNORED_LABEL
    from semask.prediction.outputs.label_studio import prediction

    tags = {name: about[name] for name in ("from_name", "to_name", "model_version")}
    found = prediction(label, classes, **tags)
    if not about["ignored"]:
        found["result"] = [x for x in found["result"] if x["value"]["brushlabels"] != [IGNORED_LABEL]]
    return dumped(found)


def dumped(value: dict[str, Any]) -> bytes:
    """Write JSON in ASCII."""
    return json.dumps(value).encode()


@dataclass(frozen=True)
class Form:
    """A form of answers.

    Attributes:
        media: Media type, as the header Accept names it.
        make: Makes it of a label map, the classes, and what else is said of the request.
        says: What it is, for the page.
        packages: What has to be installed.
    """

    media: str
    make: "Make"
    says: str
    packages: tuple[str, ...] = ()

    @property
    def installed(self) -> bool:
        """Whether what it needs is installed."""
        try:
            for package in self.packages:
                require(package)
        except ValueError:
            return False
        return True


FORMS = {
    "json": Form("application/json", shares, "pixels and share of each class, size, time"),
    "png": Form("image/png", png, "class index of each pixel, with the colors of the classes as palette"),
    "npy": Form("application/x-npy", npy, "class index of each pixel, uint8 [H, W], for numpy.load"),
    "rle": Form(
        "application/vnd.semask.coco+json", rle, "COCO annotations, a region each, as run lengths (RLE)",
        ("pycocotools", "rasterio"),
    ),
    "polygons": Form(
        "application/vnd.semask.polygons+json", polygons,
        "regions with their holes, a FeatureCollection in pixels from the upper left corner", ("rasterio",),
    ),
    "labelme": Form("application/vnd.labelme+json", labelme, "the file of the labeling tool labelme", ("rasterio",)),
}  # fmt: skip
"""Name, as `?format=` gives it -> form; the first is for those who take anything."""
LABEL_STUDIO = "label-studio"
"""Name of the form that only Label Studio gets."""


def make_of(name: str) -> "Make":
    """What makes a form of answers."""
    return label_studio if name == LABEL_STUDIO else FORMS[name].make
