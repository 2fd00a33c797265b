"""coco/annotations.json: the regions of all images of a run as COCO annotations, each an exact mask (RLE).

Polygons of COCO have no holes, and programs fill them differently; run lengths are the same for all. Each image's
annotations are a file in a hidden folder first, so that processes can share the work; in the end they are joined.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from semask.data.classes import IGNORE_INDEX, Classes
from semask.files.atomic import written_whole
from semask.prediction.output import Output, Written
from semask.prediction.parts import Parts, common_folder, name_from
from semask.prediction.polygons import numbered, regions
from semask.prediction.run_lengths import runs_of
from semask.prediction.segmentation import Segmentation

PARTS = Parts("coco")


def write(segmentation: Segmentation) -> None:
    """Write the annotations of one image, a line each after one with its size."""
    lines = [json.dumps({"height": segmentation.size[0], "width": segmentation.size[1]})]
    PARTS.write(segmentation.stem, itertools.chain(lines, map(json.dumps, annotations(segmentation.label()))))


def annotations(label: NDArray[np.uint8]) -> Iterator[dict[str, Any]]:
    """Give the annotations of a label map [H, W], a region each; without ids."""
    from pycocotools.mask import frPyObjects

    found = regions(label)
    lengths = run_lengths(numbered(found, label.shape), len(found))
    for region, (counts, area) in zip(found, lengths, strict=True):
        if region.value == IGNORE_INDEX:
            continue
        encoded = frPyObjects({"size": list(label.shape), "counts": counts}, *label.shape)
        left, top, right, bottom = region.box
        yield {
            "category_id": region.value + 1,
            "segmentation": {"size": list(label.shape), "counts": encoded["counts"].decode("ascii")},
            "area": area,
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": 0,
        }


def run_lengths(numbers: NDArray[np.int32], count: int) -> Iterator[tuple[list[int], int]]:
    """Give the run lengths of each of the regions 1 .. count of a map [H, W], by columns, and its pixels."""
    for starts, ends in runs_of(numbers.ravel(order="F"), count):
        edges = np.stack([starts, ends], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=numbers.size)
        yield counts[: len(counts) - (counts[-1] == 0)].tolist(), int((ends - starts).sum())


def join(out: Path, images: Sequence[Written], classes: Classes) -> None:
    """Write the file of all images, and remove what it was made of.

    Raises:
        ValueError: If the annotations of an image are not there, or the file can't be written.
    """
    parent = common_folder(images)
    target = out / PARTS.folder / "annotations.json"
    with written_whole(target) as temporary, open(temporary, "w", encoding="ascii") as file:
        file.write('{"info": {"description": "predictions of semask"},\n"categories": ')
        file.write(json.dumps([{"id": number + 1, "name": name} for number, name in enumerate(classes.names)]))
        file.write(',\n"images": [')
        for number, written in enumerate(images, start=1):
            size = json.loads(next(PARTS.lines(written)))
            put(file, {"id": number, "file_name": name_from(parent, written), **size}, first=number == 1)
        file.write('],\n"annotations": [')
        count = 0
        for number, written in enumerate(images, start=1):
            lines = PARTS.lines(written)
            next(lines)
            for line in lines:
                count += 1
                put(file, {"id": count, "image_id": number, **json.loads(line)}, first=count == 1)
        file.write("]}\n")
    PARTS.remove(images)


def put(file: TextIO, value: dict[str, Any], *, first: bool) -> None:
    """Write an entry of a list."""
    file.write(("\n" if first else ",\n") + json.dumps(value))


OUTPUT = Output(
    write,
    join=join,
    packages=("pycocotools", "rasterio"),
    whole="coco annotations are of whole images: leave out coco or --tile",
)
