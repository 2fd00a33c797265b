"""label_studio/tasks.json and config.xml: predictions of all images, to be imported into Label Studio and corrected.

Each class of an image is one brush (RLE), exact to the pixel. One a region would be exact too, but Label Studio keeps
a layer of the size of the image for each brush: hundreds of them make a browser slow. Large ones come first, so that
what is painted over them counts. Pixels without a class are a brush of the label `__ignore__`, which our readers know.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from semask import __version__
from semask.data.classes import IGNORE_INDEX, Classes
from semask.data.packed_masks import BrushMask
from semask.files.atomic import write_whole, written_whole
from semask.prediction.output import Output, Written
from semask.prediction.parts import Parts, common_folder, name_from
from semask.prediction.run_lengths import runs_of
from semask.prediction.segmentation import Segmentation
from semask.prediction.tool_labels import colors_of, names_of

PARTS = Parts("label_studio")
IMAGE, BRUSH = "image", "label"
"""Names of the tags in the labeling config, and of the image in the data of a task."""
LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves files of its own machine."""


def write(segmentation: Segmentation) -> None:
    """Write the prediction of one image."""
    confidence = None if segmentation.confidence is None else next(segmentation.confidence(segmentation.size[0]))
    found = prediction(segmentation.label(), segmentation.classes, confidence)
    PARTS.write(segmentation.stem, [json.dumps(found, separators=(",", ":"))])


def prediction(
    label: NDArray[np.uint8],
    classes: Classes,
    confidence: NDArray[np.uint8] | None = None,
    *,
    from_name: str = BRUSH,
    to_name: str = IMAGE,
    model_version: str = f"semask {__version__}",
) -> dict[str, Any]:
    """Make a prediction of Label Studio: of a task to import, or what an ML backend answers.

    Args:
        label: The label map, [H, W].
        classes: Names of its classes.
        confidence: Probability of the chosen class, 0..255, [H, W]; its mean is the score. None: there is no score.
        from_name: Name of the tag BrushLabels in the labeling config.
        to_name: Name of the tag Image.
        model_version: What Label Studio calls the model.

    Raises:
        ValueError: If the image has 2^30 pixels or more.
    """
    scores = {} if confidence is None else {"score": mean_score(confidence[label != IGNORE_INDEX])}
    found = list(results(label, classes, confidence, from_name=from_name, to_name=to_name))
    return {"model_version": model_version, **scores, "result": found}


def results(
    label: NDArray[np.uint8],
    classes: Classes,
    confidence: NDArray[np.uint8] | None = None,
    *,
    from_name: str = BRUSH,
    to_name: str = IMAGE,
) -> Iterator[dict[str, Any]]:
    """Give the regions of a prediction of Label Studio, one a class, the largest first; see `prediction`."""
    names = names_of(classes)
    counts = np.bincount(label.ravel(), minlength=256)
    runs = dict(enumerate(runs_of(label.ravel().astype(np.int16) + 1, 256)))
    for value in sorted(np.flatnonzero(counts).tolist(), key=lambda value: -counts[value]):
        packed = BrushMask.pack(*runs[value], (label.shape[0], label.shape[1]))
        scores = {} if confidence is None else {"score": mean_score(confidence[label == value])}
        yield {
            "id": f"class-{value}",
            "type": "brushlabels",
            "from_name": from_name,
            "to_name": to_name,
            "original_width": label.shape[1],
            "original_height": label.shape[0],
            "image_rotation": 0,
            **scores,
            "value": {"format": "rle", "rle": list(packed.packed), "brushlabels": [names[value]]},
        }


def mean_score(confidence: NDArray[np.uint8]) -> float:
    """Mean of probabilities of 0..255 as 0..1; 0 of none."""
    return round(float(confidence.mean()) / 255, 4) if confidence.size else 0.0


def config_of(classes: Classes) -> str:
    """Make the labeling config: an image and a brush for each class, in its color."""
    root = ElementTree.Element("View")
    ElementTree.SubElement(root, "Image", name=IMAGE, value=f"${IMAGE}", zoom="true", zoomControl="true")
    brushes = ElementTree.SubElement(root, "BrushLabels", name=BRUSH, toName=IMAGE)
    for name, color in colors_of(classes).items():
        ElementTree.SubElement(brushes, "Label", value=name, background=color)
    ElementTree.indent(root, " ")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def address_of(folder: str, written: Written) -> str:
    """Where Label Studio finds an image: below the folder that holds the folder of all images."""
    name = f"{Path(folder).name}/{name_from(folder, written)}".lstrip("/")
    return LOCAL_FILES + quote(os.fsencode(name))


def join(out: Path, images: Sequence[Written], classes: Classes) -> None:
    """Write the tasks of all images and the labeling config, and remove what they were made of.

    Raises:
        ValueError: If the part of an image is not there, or a file can't be written.
    """
    folder = common_folder(images)
    write_whole(out / PARTS.folder / "config.xml", config_of(classes))
    target = out / PARTS.folder / "tasks.json"
    with written_whole(target) as temporary, open(temporary, "w", encoding="ascii") as file:
        file.write("[")
        for number, written in enumerate(images):
            data = json.dumps({IMAGE: address_of(folder, written)})
            file.write(("\n" if number == 0 else ",\n") + f'{{"data": {data}, "predictions": [')
            file.write(next(PARTS.lines(written)) + "]}")
        file.write("]\n")
    PARTS.remove(images)


OUTPUT = Output(write, join=join, whole="label_studio holds an image as a whole: leave out label_studio or --tile")
