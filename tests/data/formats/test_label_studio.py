import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tool_samples import SAMPLES, labels, sample

from semask.data import catalog
from semask.data.formats.label_studio import label_studio


@pytest.fixture
def root(tmp_path):
    copy = sample("label_studio", tmp_path)
    (copy / "min/export-min.json").unlink()
    return copy


def change(root, path, value):
    values = json.loads((root / "export.json").read_text())
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (root / "export.json").write_text(json.dumps(values))


def test_both_exports_give_the_brush_of_the_sdk_exactly(root):
    brush = np.array(Image.open(SAMPLES / "label_studio/brush.png")) > 0
    full = label_studio(root, None)
    full.check()
    assert full.classes.names == ("background", "car", "sign", "tree")
    label = labels(full)
    assert ((label == 3) == brush).all()
    assert (label[:24, 40:56] == 2).all()  # 62.5 % and 25 % of 64 columns, half of 48 rows
    assert (label == 2).sum() == 24 * 16
    assert (label[10, 10:30] == 1).all()
    assert [note.rpartition(": ")[2] for note in full.notes] == ["1"]  # a task is not annotated
    assert catalog.recognize(root).format == "label_studio"
    (root / "export.json").unlink()
    shutil.copy(SAMPLES / "label_studio/min/export-min.json", root)
    assert catalog.recognize(root).format == "label_studio"
    short = label_studio(root, None)
    assert short.classes == full.classes
    assert (labels(short) == label).all()


@pytest.mark.parametrize(
    "written",
    [
        "/data/upload/1/photo.jpg",
        "/data/local-files/?d=yard/photo.jpg",
        "s3://bucket/yard/photo.jpg",
        "https://example.org/yard/photo.jpg?x=1",
        "../../photo.jpg",
    ],
)
def test_names_of_images(root, written):
    change(root, [0, "data", "image"], written)
    assert label_studio(root, None).pairs[0][0] == root / "images/photo.jpg"


def test_of_two_annotations_the_checked_one_counts(root):
    values = json.loads((root / "export.json").read_text())
    first = values[0]["annotations"][0]
    values[0]["annotations"] = [first | {"ground_truth": True}, first | {"result": [], "updated_at": "2027"}]
    (root / "export.json").write_text(json.dumps(values))
    dataset = label_studio(root, None)
    assert labels(dataset).any()
    assert any("further annotations of the same task" in note for note in dataset.notes)


def test_a_rectangle_is_turned_around_its_corner(root):
    value = {"x": 50, "y": 50, "width": 25, "height": 25, "rotation": 90, "rectanglelabels": ["sign"]}
    change(root, [0, "annotations", 0, "result", 1, "value"], value)
    change(root, [0, "annotations", 0, "result", 2, "value"], value)
    rows, columns = np.nonzero(labels(label_studio(root, None)) == 2)  # 16 wide, 12 high
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (24, 39, 20, 31)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["annotations", 0, "result", 0, "image_rotation"], 90, "task 9: a region of .* was turned by 90 degrees"),
        (["annotations", 0, "result", 0, "original_width"], None, "not two whole numbers"),
        (["annotations", 0, "result", 0, "original_width"], 65, "different sizes"),
        (["annotations", 0, "result", 2, "value", "rle"], [1, 2], '"rle" is wrong'),
        (["annotations", 0, "result", 1, "value", "x"], "a", '"x" is .a.: expected a number'),
        (["annotations", 0, "result", 0, "value", "points"], [[1, "a"]], "something else than x and y"),
        (["annotations"], "x", '"annotations" is no list'),
        (["data"], {}, "has 0 images among its data"),
        (["data", "image"], "/data/upload/1/1a2b3c4d-no.jpg", "1 of 1 annotated images are not in the folder"),
    ],
)
def test_wrong_exports(root, path, value, message):
    change(root, [0, *path], value)
    with pytest.raises(ValueError, match=rf"export.json: .*{message}") as error:
        label_studio(root, None)
    assert str(error.value).isprintable()


def test_a_brush_of_another_size_is_told_when_it_is_read(root):
    rle = json.loads((root / "export.json").read_text())[0]["annotations"][0]["result"][2]["value"]["rle"]
    change(root, [0, "annotations", 0, "result", 2, "value", "rle"], rle[: len(rle) // 2])
    with pytest.raises(ValueError, match=r"photo.jpg: its \"rle\" ends too soon"):
        label_studio(root, None).check()


def test_exports_that_cannot_be_read(root):
    with pytest.raises(ValueError, match="has no splits"):
        label_studio(root, "train")
    shutil.copy(root / "export.json", root / "older.json")
    with pytest.raises(ValueError, match=r"2 exports of Label Studio, export.json, older.json: keep the latest"):
        label_studio(root, None)
    (root / "export.json").unlink()
    (root / "older.json").unlink()
    Image.new("L", (4, 4)).save(root / "task-9-annotation-4-by-1-brush-tree-0.png")
    assert catalog.recognize(root).format == "label_studio"
    with pytest.raises(ValueError, match="the PNG export of Label Studio does not say which image a mask is for"):
        label_studio(root, None)
