"""coco/annotations.json: the regions of all images of a run as COCO annotations, each an exact mask (RLE).

Polygons of COCO have no holes, and programs fill them differently; run lengths are the same for all. Each image's
annotations are a file in a hidden folder first, so that processes can share the work; in the end they are joined.
"""

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from semask.data.classes import IGNORE_INDEX, Classes
from semask.files.atomic import write_whole, written_whole
from semask.files.reading import read_text
from semask.files.text import one_line
from semask.prediction.output import Output, Written
from semask.prediction.polygons import regions
from semask.prediction.segmentation import Segmentation

FOLDER = "coco"
PARTS = ".parts"
MOST_PART = 2**31
"""Bytes of the annotations of one image."""


def write(segmentation: Segmentation) -> None:
    """Write the annotations of one image, a line each after one with its size."""
    lines = [json.dumps({"height": segmentation.size[0], "width": segmentation.size[1]})]
    lines += map(json.dumps, annotations(segmentation.label()))
    write_whole(part_of(segmentation.stem), "\n".join(lines))


def annotations(label: NDArray[np.uint8]) -> Iterator[dict[str, Any]]:
    """Give the annotations of a label map [H, W], a region each; without ids."""
    from pycocotools.mask import frPyObjects
    from rasterio.features import rasterize

    found = regions(label)
    shapes = [({"type": "Polygon", "coordinates": x.rings}, number) for number, x in enumerate(found, start=1)]
    numbers = rasterize(shapes, out_shape=label.shape, dtype=np.int32) if shapes else np.zeros(label.shape, np.int32)
    for region, (counts, area) in zip(found, run_lengths(numbers, len(found)), strict=True):
        if region.value == IGNORE_INDEX:
            continue
        encoded = frPyObjects({"size": list(label.shape), "counts": counts}, *label.shape)
        (left, top), (right, bottom) = (
            (f(x for x, _ in region.rings[0]), f(y for _, y in region.rings[0])) for f in (min, max)
        )
        yield {
            "category_id": region.value + 1,
            "segmentation": {"size": list(label.shape), "counts": encoded["counts"].decode("ascii")},
            "area": area,
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": 0,
        }


def run_lengths(numbers: NDArray[np.int32], count: int) -> Iterator[tuple[list[int], int]]:
    """Give the run lengths of each of the regions 1 .. count of a map [H, W], by columns, and its pixels."""
    flat = numbers.ravel(order="F")
    starts = np.flatnonzero(np.diff(flat, prepend=-1))
    ends = np.append(starts[1:], flat.size)
    order = np.argsort(flat[starts], kind="stable")
    limits = np.searchsorted(flat[starts][order], np.arange(1, count + 2))
    for first, last in itertools.pairwise(limits):
        runs = order[first:last]
        edges = np.stack([starts[runs], ends[runs]], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=flat.size)
        yield counts[: len(counts) - (counts[-1] == 0)].tolist(), int((ends[runs] - starts[runs]).sum())


def join(out: Path, images: Sequence[Written], classes: Classes) -> None:
    """Write the file of all images, and remove what it was made of.

    Raises:
        ValueError: If the annotations of an image are not there, or the file can't be written.
    """
    parent = common_folder([written.image for written in images])
    with written_whole(out / FOLDER / "annotations.json") as temporary, open(temporary, "w", encoding="ascii") as file:
        file.write('{"info": {"description": "predictions of semask"},\n"categories": ')
        file.write(json.dumps([{"id": number + 1, "name": name} for number, name in enumerate(classes.names)]))
        file.write(',\n"images": [')
        for number, written in enumerate(images, start=1):
            size = json.loads(next(lines_of(written)))
            name = os.path.relpath(written.image.absolute(), parent).replace(os.sep, "/")
            put(file, {"id": number, "file_name": name, **size}, first=number == 1)
        file.write('],\n"annotations": [')
        count = 0
        for number, written in enumerate(images, start=1):
            lines = lines_of(written)
            next(lines)
            for line in lines:
                count += 1
                put(file, {"id": count, "image_id": number, **json.loads(line)}, first=count == 1)
        file.write("]}\n")
    for written in images:
        part_of(written.stem).unlink(missing_ok=True)
    if images and not any(part_of(images[0].stem).parent.iterdir()):
        part_of(images[0].stem).parent.rmdir()


def common_folder(images: Sequence[Path]) -> str:
    """Folder that all images lie in; file names are given from there."""
    return os.path.commonpath([image.absolute().parent for image in images]) if images else "."


def put(file: TextIO, value: dict[str, Any], *, first: bool) -> None:
    """Write an entry of a list."""
    file.write(("\n" if first else ",\n") + json.dumps(value))


def part_of(stem: Path) -> Path:
    """File with the annotations of one image."""
    return stem.parent / FOLDER / PARTS / f"{stem.name}.json"


def lines_of(written: Written) -> Iterator[str]:
    """Read the annotations of an image, which this run wrote.

    Raises:
        ValueError: If they are not there.
    """
    said = f"the annotations of {one_line(written.image)} are missing: all processes need one and the same --out folder"
    return iter(read_text(part_of(written.stem), most=MOST_PART, otherwise=said).splitlines())


OUTPUT = Output(
    write,
    join=join,
    packages=("pycocotools", "rasterio"),
    whole="coco annotations are of whole images: leave out coco or --tile",
)
