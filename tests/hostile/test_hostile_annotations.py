"""Annotation files of anybody: deep, huge and odd ones, run lengths that promise too much, paths that lead out."""

import base64
import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from semask.data import catalog
from semask.data.annotations import ImageIndex
from semask.data.listing import Listing
from semask.data.packed_masks import BrushMask, CocoMask, PngMask
from semask.data.shapes import MOST_POINTS

FORMATS = ("coco", "labelme", "label_studio")
ODD = {
    "deep": '{"images": [], "annotations": ' + "[" * 100_000,
    "nested": '{"images": [], "annotations": [], "categories": ' + "[" * 40 + "]" * 40 + "}",
    "numbers": '{"images": [1], "annotations": [2], "categories": [3], "shapes": 4, "imagePath": 5}',
    "nulls": '{"images": null, "annotations": null, "categories": null, "shapes": null, "imagePath": null}',
    "objects": '{"images": [{}], "annotations": [{}], "categories": [{}], "shapes": [{}], "imagePath": {}}',
    "lists": '{"images": [[]], "annotations": [[]], "categories": [[]], "shapes": [[]], "imagePath": []}',
    "tasks": '[{"annotations": 1, "data": 2}]',
    "results": '[{"annotations": [{"result": [1]}], "data": {"image": "a.png"}}]',
    "values": '[{"annotations": [{"result": [{"value": {"labels": ["a"], "rle": {}}}]}], "data": {"image": "a.png"}}]',
    "a key of a list": '{"images": [{"id": [], "file_name": "a.png"}], "annotations": [], "categories": []}',
    "huge": json.dumps({
        "images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 4}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": [[1] * (2 * MOST_POINTS + 2)]}],
        "categories": [{"id": 1, "name": "a"}],
    }),
    "a name of a terminal": '{"shapes": [], "imagePath": "\\u001b[31m.png", "imageHeight": 4, "imageWidth": 4}',
    "a long number": '{"images": [], "annotations": [], "categories": [{"id": 1' + "0" * 5000 + "}]}",
}  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_files_are_answered_with_one_short_line(tmp_path, format, text):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r".") as error:
        catalog.find(format).find(tmp_path, None).check()
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["a.json", "data.yaml", "labels.txt", "config.json", "classes.txt"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=r"."):
        catalog.recognize(tmp_path)
    for format in (*FORMATS, "yolo"):
        with pytest.raises(ValueError, match=r"."):
            catalog.find(format).find(tmp_path, None)


@pytest.mark.parametrize(
    "written",
    [
        "../secret.png",
        "/etc/secret.png",
        "a/../../secret.png",
        "..\\secret.png",
        "secret.png",
        "..",
        "",
        "\0",
        "a/" * 9999,
    ],
)
def test_no_name_leads_out_of_the_folder(tmp_path, written):
    (tmp_path / "data").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "data/a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    assert ImageIndex(Listing(tmp_path / "data")).find(written) is None


def packed(numbers: str) -> list[int]:
    """Bits to the bytes of a brush."""
    numbers += "0" * (-len(numbers) % 8)
    return [int(numbers[place : place + 8], 2) for place in range(0, len(numbers), 8)]


HEAD = f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
BRUSHES = {
    "too many values": packed(f"{2**32 - 1:032b}" + HEAD),
    "no values": packed(f"{4 * 16:032b}" + HEAD),
    "a run too long": packed(f"{4 * 16:032b}" + HEAD + "111" + "1" * 16 + "1" * 8),
    "values too long": packed(f"{4 * 16:032b}" + HEAD + "010" + f"{60:08b}" + "1" * 8),
}


@pytest.mark.parametrize("values", BRUSHES.values(), ids=BRUSHES)
def test_brushes_that_promise_too_much(values):
    with pytest.raises(ValueError, match='"rle"'):
        BrushMask.of(values).decode((4, 4))


COUNTS = {
    "too few": [3],
    "too many": [0, 2**39],
    "negative": [-1, 17],
    "floats": [0.0, 16.0],
    "booleans": [True, 15],
    "texts": ["16"],
    "empty text": "",
    "not closed": "PPPP",
    "other characters": "\x1b[31m",
    "beyond": "0" + "oooooo1",
    "ä": "ä",
    "none": None,
}


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_run_lengths_that_promise_too_much(counts):
    with pytest.raises(ValueError, match="run lengths"):
        CocoMask.of({"size": [4, 4], "counts": counts}, (4, 4)).decode((4, 4))


def test_a_mask_of_another_size_is_not_unpacked():
    file = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(file, format="PNG")
    mask = PngMask.of(base64.b64encode(file.getvalue()).decode(), np.array([[0, 0], [3, 3]], dtype=np.float32))
    with pytest.raises(ValueError, match='"mask" cannot be read'):
        mask.decode((4, 4))
    with pytest.raises(ValueError, match="reaches out of the image"):
        mask.decode((3, 4))
    for text in ("!", "", "aGVsbG8=", None):
        with pytest.raises(ValueError, match='"mask"'):
            PngMask.of(text, np.array([[0, 0], [3, 3]], dtype=np.float32)).decode((4, 4))
