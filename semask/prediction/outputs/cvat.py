"""cvat/annotations.xml and labels.json: the regions of all images for CVAT, as "CVAT for images 1.1" with masks.

Each region is a mask (RLE), exact to the pixel: in CVAT a wrong one gets another label with two clicks. Pixels without
a class are masks of the label `__ignore__`, which our readers know.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from semask.data.classes import Classes
from semask.files.atomic import write_whole, written_whole
from semask.files.text import for_xml
from semask.prediction.output import Output, Written
from semask.prediction.parts import Parts, common_folder, name_from
from semask.prediction.polygons import Region, numbered, regions
from semask.prediction.run_lengths import Runs, runs_of
from semask.prediction.segmentation import Segmentation
from semask.prediction.tool_labels import colors_of, names_of

PARTS = Parts("cvat")
HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n'


def write(segmentation: Segmentation) -> None:
    """Write the masks of one image, a line each after one with its size."""
    size = {"width": segmentation.size[1], "height": segmentation.size[0]}
    found = masks(segmentation.label(), segmentation.classes)
    PARTS.write(segmentation.stem, map(json.dumps, [{key: str(value) for key, value in size.items()}, *found]))


def masks(label: NDArray[np.uint8], classes: Classes) -> Iterator[dict[str, str]]:
    """Give the attributes of the masks of a label map [H, W], one a region."""
    names, found, width = names_of(classes), regions(label), label.shape[1]
    runs = runs_of(numbered(found, label.shape).ravel(), len(found), width=width)
    for region, row_runs in zip(found, runs, strict=True):
        left, top, right, bottom = map(int, region.box)
        yield {
            "label": names[region.value],
            "source": "auto",
            "occluded": "0",
            "rle": ", ".join(map(str, run_lengths(region, row_runs, width))),
            "left": str(left),
            "top": str(top),
            "width": str(right - left),
            "height": str(bottom - top),
            "z_order": "0",
        }


def run_lengths(region: Region, runs: Runs, width: int) -> list[int]:
    """Give the run lengths of a region in its box, row by row: outside, inside, outside, ...

    Args:
        region: The region.
        runs: Where it is in the map, row by row; none goes on in the next row.
        width: Columns of the map.
    """
    left, top, right, bottom = map(int, region.box)
    columns = right - left
    rows = runs.starts // width
    offset = (rows - top) * columns - (rows * width + left)
    starts, ends = runs.starts + offset, runs.ends + offset
    joined = starts[1:] == ends[:-1]  # rows that are full in the box
    edges = np.stack([starts[np.append(True, ~joined)], ends[np.append(~joined, True)]], axis=1).ravel()
    lengths: list[int] = np.diff(edges, prepend=0, append=columns * (bottom - top)).tolist()
    return lengths if lengths[-1] else lengths[:-1]


def meta_of(classes: Classes, count: int) -> ElementTree.Element:
    """Make what is said of the task: the number of images, and the labels."""
    meta = ElementTree.Element("meta")
    task = ElementTree.SubElement(meta, "task")
    for key, text in (("name", "semask"), ("size", str(count)), ("mode", "annotation")):
        ElementTree.SubElement(task, key).text = text
    labels = ElementTree.SubElement(task, "labels")
    for name, color in colors_of(classes).items():
        label = ElementTree.SubElement(labels, "label")
        for key, text in (("name", name), ("color", color), ("type", "mask")):
            ElementTree.SubElement(label, key).text = text
        ElementTree.SubElement(label, "attributes")
    ElementTree.indent(meta, " ")
    return meta


def text_of(element: ElementTree.Element) -> str:
    """Write an element and what is in it, on lines of its own."""
    return ElementTree.tostring(element, encoding="unicode") + "\n"


def join(out: Path, images: Sequence[Written], classes: Classes) -> None:
    """Write the file of all images and the labels, and remove what they were made of.

    Raises:
        ValueError: If the masks of an image are not there, or a file can't be written.
    """
    folder = common_folder(images)
    labels = [
        {"name": name, "color": color, "type": "mask", "attributes": []} for name, color in colors_of(classes).items()
    ]
    write_whole(out / PARTS.folder / "labels.json", json.dumps(labels, indent=1) + "\n")
    target = out / PARTS.folder / "annotations.xml"
    with written_whole(target) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        version = ElementTree.Element("version")
        version.text = "1.1"
        file.write(HEAD + text_of(version) + text_of(meta_of(classes, len(images))))
        for number, written in enumerate(images):
            lines = PARTS.lines(written)
            named = {"id": str(number), "name": for_xml(name_from(folder, written))}
            image = ElementTree.Element("image", named | json.loads(next(lines)))
            for line in lines:
                ElementTree.SubElement(image, "mask", json.loads(line))
            ElementTree.indent(image, " ")
            file.write(text_of(image))
        file.write("</annotations>\n")
    PARTS.remove(images)


OUTPUT = Output(
    write,
    join=join,
    packages=("rasterio",),
    whole="cvat holds an image as a whole: leave out cvat or --tile",
)
