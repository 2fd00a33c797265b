import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tool_samples import labels, mask_of, outline, sample

from semask.data import catalog
from semask.data.formats.labelme import FORMAT, labelme

SQUARE = {"label": "car", "points": [[1, 1], [4, 1], [4, 3], [1, 3]], "shape_type": "polygon", "group_id": None}
SQUARE_PIXELS = np.array([[0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]])


def write(root: Path, *shapes: dict, name: str = "a", **changed: object) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4)).save(root / f"{name}.png")
    values = {"imagePath": f"{Path(name).name}.png", "imageHeight": 4, "imageWidth": 6, "imageData": None}
    (root / f"{name}.json").write_text(json.dumps(values | {"shapes": shapes} | changed), encoding="utf-8")
    return root


def test_the_label_is_that_of_labelme_but_for_pixels_at_outlines(tmp_path):
    dataset = labelme(sample("labelme", tmp_path), None)
    dataset.check()
    ours, theirs = labels(dataset), mask_of("labelme")
    assert not ((ours != theirs) & ~outline(theirs)).any()
    assert (ours == 4).sum() == (theirs == 4).sum()  # masks exactly
    assert dataset.classes.names == ("background", "car", "road", "sign", "tree")
    assert [note.partition(": ")[2] for note in dataset.notes] == ["points and lines left out, they have no area: 1"]
    assert catalog.recognize(tmp_path / "labelme").format == "labelme"


def test_pixels_whose_centers_are_inside(tmp_path):
    rectangle = {"label": "car", "points": [[4, 3], [1, 1]], "shape_type": "rectangle"}
    for shape in (SQUARE, rectangle, {**SQUARE, "shape_type": None}):
        assert (labels(labelme(write(tmp_path, shape), None)) == SQUARE_PIXELS).all()


def test_classes_and_ignored_pixels_of_a_labels_file(tmp_path):
    everything = {**SQUARE, "label": "__ignore__", "points": [[0, 0], [6, 0], [6, 4], [0, 4]]}
    write(tmp_path, everything, SQUARE)
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ntree\ncar\n")
    dataset = labelme(tmp_path, None)
    assert dataset.classes.names == ("background", "tree", "car")
    assert (labels(dataset) == np.where(SQUARE_PIXELS == 1, 2, 255)).all()
    (tmp_path / "labels.txt").write_text("tree\n")
    with pytest.raises(ValueError, match=r"labels.txt: .car. is the label of a shape, but not in the list"):
        labelme(tmp_path, None)


def test_splits_and_classes_of_both(tmp_path):
    write(tmp_path, SQUARE, name="train/a")
    write(tmp_path, {**SQUARE, "label": "tree"}, name="val/a")
    assert FORMAT.splits_in(tmp_path) == {"train": "train", "val": "val"}
    for split, value in (("train", 1), ("val", 2)):
        dataset = labelme(tmp_path, split)
        assert dataset.classes.names == ("background", "car", "tree")
        assert dataset.pairs[0][0] == tmp_path / split / "a.png"
        assert labels(dataset).max() == value


def test_parts_of_a_group_are_one_object(tmp_path):
    part = {**SQUARE, "group_id": 7}
    rest = {**part, "points": [[0, 0], [6, 0], [6, 1], [0, 1]]}
    other = {**SQUARE, "label": "tree", "points": [[0, 0], [3, 0], [3, 3], [0, 3]]}  # of 9 pixels, the group has 12
    dataset = labelme(write(tmp_path, other, part, rest), None, overlap="small_over_large")
    assert labels(dataset)[:3, :3].tolist() == [[2, 2, 2]] * 3


def test_an_image_that_is_missing(tmp_path):
    write(tmp_path, SQUARE, imageData="aGVsbG8=")
    (tmp_path / "a.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 1 annotated images .*a.json \(a.png\).*hold their images themselves"):
        labelme(tmp_path, None)


def test_images_without_a_file_are_counted(tmp_path):
    write(tmp_path, SQUARE)
    Image.new("RGB", (6, 4)).save(tmp_path / "b.png")
    assert [note.rpartition(": ")[2] for note in labelme(tmp_path, None).notes] == ["1"]


def test_two_files_for_one_image(tmp_path):
    write(tmp_path, SQUARE)
    (tmp_path / "b.json").write_text((tmp_path / "a.json").read_text())
    with pytest.raises(ValueError, match=r"b.json: a.json is for the same image"):
        labelme(tmp_path, None)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({**SQUARE, "label": 3}, 'no "label"'),
        ({**SQUARE, "shape_type": "spline"}, "shape_type .spline., which is not known"),
        ({**SQUARE, "points": [[1, 2], [3]]}, "points of different lengths"),
        ({**SQUARE, "points": [[1, 2], [1e9, 4], [3, 3]]}, "far outside of the image"),
        ({**SQUARE, "points": "x"}, '"points" is missing'),
        ({**SQUARE, "shape_type": "circle"}, "has 4 points, expected 2"),
        ({**SQUARE, "shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": "%"}, '"mask" is wrong'),
    ],
)
def test_wrong_shapes(tmp_path, shape, message):
    with pytest.raises(ValueError, match=rf"a.json: .*{message}"):
        labelme(write(tmp_path, shape), None)


def test_a_folder_without_files(tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match="no labelme JSON there"):
        labelme(tmp_path, None)
