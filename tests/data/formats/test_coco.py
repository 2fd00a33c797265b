import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tool_samples import labels, mask_of, outline, sample

from semask.data import catalog
from semask.data.formats.coco import FORMAT, coco
from semask.data.source import Data

SQUARE = [1, 1, 4, 1, 4, 3, 1, 3]
SQUARE_PIXELS = [[0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]]


def values(*segmentations: object, size: tuple[int, int] = (4, 6), **image: object) -> dict:
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]} | image],
        "categories": [{"id": 3, "name": "car"}, {"id": 90, "name": "tree"}],
        "annotations": [
            {"id": place, "image_id": 1, "category_id": 3, "segmentation": segmentation, "iscrowd": 0}
            for place, segmentation in enumerate(segmentations)
        ],
    }


def write(root: Path, described: object, name: str = "result.json", image: str = "a.png") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(described), encoding="utf-8")
    (root / image).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4)).save(root / image)
    return root


def test_the_label_is_that_of_pycocotools_but_for_pixels_at_outlines(tmp_path):
    dataset = coco(sample("coco", tmp_path), None)
    dataset.check()
    ours, theirs = labels(dataset), mask_of("coco")
    different = ours != theirs
    assert not (different & ~outline(theirs)).any()
    assert different.sum() <= 12
    assert set(np.unique(ours)) == {0, 1, 2, 3, 255}
    assert dataset.classes.names == ("background", "car", "road", "tree")
    assert catalog.recognize(tmp_path / "coco").format == "coco"
    assert FORMAT.splits_in(tmp_path / "coco") == {}


@pytest.mark.parametrize(
    ("train", "val", "names"),
    [
        (
            ("annotations/instances_train2017.json", "train2017/a.png"),
            ("annotations/instances_val2017.json", "images/val2017/a.png"),
            {"train": "train2017", "val": "val2017"},
        ),
        (
            ("train/_annotations.coco.json", "train/a.png"),
            ("valid/_annotations.coco.json", "valid/a.png"),
            {"train": "train", "val": "valid"},
        ),
        (("train.json", "images/train/a.png"), ("val.json", "images/val/a.png"), {"train": "train", "val": "val"}),
    ],
)
def test_layouts_with_splits(tmp_path, train, val, names):
    for name, image in (train, val):
        write(tmp_path, values([SQUARE]), name, image)
    (tmp_path / "annotations").mkdir(exist_ok=True)
    (tmp_path / "annotations/captions_train2017.json").write_text('{"images": [], "annotations": [], "info": {}}')
    assert catalog.recognize(tmp_path).format == "coco"
    assert FORMAT.splits_in(tmp_path) == names
    for split, (_, image) in (("train", train), ("val", val)):
        dataset = Data(str(tmp_path), format="coco").dataset(split)
        assert [path for path, _ in dataset.pairs] == [tmp_path / image]
        assert labels(dataset).tolist() == SQUARE_PIXELS


def test_an_image_of_the_same_name_next_to_the_file_goes_first(tmp_path):
    write(tmp_path, values([SQUARE]), "train/_annotations.coco.json", "train/a.png")
    write(tmp_path, values([SQUARE]), "valid/_annotations.coco.json", "valid/a.png")
    assert coco(tmp_path, "valid").pairs[0][0] == tmp_path / "valid/a.png"
    (tmp_path / "train.json").write_text((tmp_path / "train/_annotations.coco.json").read_text())
    with pytest.raises(ValueError, match="is a COCO JSON of the same split"):
        coco(tmp_path, "train")


@pytest.mark.parametrize("written", ["/home/me/a.png", "C:\\work\\a.png", "../../etc/a.png", "images/a.png"])
def test_paths_of_other_machines_are_found_by_their_name(tmp_path, written):
    write(tmp_path / "data", values([SQUARE], file_name=written), image="images/a.png")
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    assert coco(tmp_path / "data", None).pairs[0][0] == tmp_path / "data/images/a.png"


def test_an_image_outside_is_never_used(tmp_path):
    write(tmp_path / "data", values([SQUARE], file_name="../b.png"))
    Image.new("RGB", (6, 4)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"1 of 1 annotated images are not in the folder: ../b.png"):
        coco(tmp_path / "data", None)


def test_overlap(tmp_path):
    described = values([SQUARE], [[0, 0, 6, 0, 6, 4, 0, 4]])
    described["annotations"][1]["category_id"] = 90
    write(tmp_path, described)
    assert (labels(coco(tmp_path, None)) == 2).all()
    over = labels(coco(tmp_path, None, overlap="small_over_large"))
    assert (over == np.where(SQUARE_PIXELS, 1, 2)).all()
    assert (labels(Data(str(tmp_path), format="coco", overlap="small_over_large").everything()) == over).all()


def test_two_classes_with_a_crowd_are_not_taken_for_black_and_white(tmp_path):
    described = values([SQUARE])
    del described["categories"][1]
    described["annotations"][0]["iscrowd"] = 1
    write(tmp_path, described)
    dataset = coco(tmp_path, None)
    dataset.require_decided()
    assert set(np.unique(labels(dataset))) == {0, 255}


def test_what_is_left_out_is_counted(tmp_path):
    described = values([[0, 0, 1, 1]], [], [SQUARE])
    described["annotations"].append({"id": 9, "image_id": 77, "category_id": 3, "segmentation": [SQUARE]})
    write(tmp_path, described)
    (notes := list(coco(tmp_path, None).notes)).sort()
    assert [note.partition(": ")[2] for note in notes] == [
        "annotations left out, their image is not listed: 1",
        "annotations without an outline left out, only a box is given: 1",
        "polygons of fewer than 3 points left out: 1",
    ]


def test_the_group_of_roboflow_is_no_class(tmp_path):
    described = values([SQUARE])
    described["categories"] = [
        {"id": 0, "name": "things", "supercategory": "none"},
        {"id": 3, "name": "car", "supercategory": "things"},
    ]
    assert coco(write(tmp_path, described), None).classes.names == ("background", "car")


def test_a_category_background_is_class_0(tmp_path):
    described = values([SQUARE])
    described["categories"][0]["name"] = "Background"
    dataset = coco(write(tmp_path, described), None)
    assert dataset.classes.names == ("background", "tree")
    assert (labels(dataset) == 0).all()


def test_a_size_that_is_not_that_of_the_image_is_told(tmp_path):
    write(tmp_path, values([SQUARE], size=(5, 6)))
    with pytest.raises(ValueError, match=r"the mask has 6 x 5 pixels, its image .*a.png 6 x 4"):
        coco(tmp_path, None).check()
    described = values([SQUARE])
    del described["images"][0]["height"], described["images"][0]["width"]
    assert labels(coco(write(tmp_path, described), None)).shape == (4, 6)


def test_an_image_that_is_turned_has_the_size_of_either(tmp_path):
    write(tmp_path, values([SQUARE], file_name="a.jpg", size=(6, 4)))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "a.png").unlink()
    image, label = coco(tmp_path, None)[0]
    assert image.shape[-2:] == label.shape == (6, 4)
    write(tmp_path, values([SQUARE], file_name="a.jpg"))
    assert coco(tmp_path, None)[0][0].shape[-2:] == (4, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("images"), '"images" is missing'),
        (lambda v: v["annotations"][0].update(category_id=4), "annotation 0 has the category 4, which is not listed"),
        (lambda v: v["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5]]), "annotation 0: a polygon has 5 numbers"),
        (lambda v: v["annotations"][0].update(segmentation=[[1, 2, "x", 4, 5, 6]]), "something else than x and y"),
        (lambda v: v["annotations"][0].update(segmentation=[[1, 2, float("nan"), 4, 5, 6]]), "is NaN, infinite or far"),
        (lambda v: v["annotations"][0].update(segmentation="x"), "annotation 0: x"),
        (lambda v: v["annotations"][0].update(segmentation={"size": [9, 9], "counts": [0, 81]}), "not that of its im"),
        (lambda v: v["annotations"][0].update(segmentation=[]), "none of its annotations has an outline, boxes alone"),
        (lambda v: v["annotations"][0].update(segments_info=[]), "panoptic"),
        (lambda v: v["images"].append(v["images"][0]), "two images have the id 1"),
        (lambda v: v["categories"].append(v["categories"][0]), "two categories have the id 3"),
        (lambda v: v["categories"].clear(), "has the category 3"),
        (lambda v: v["images"][0].update(height=10**9, width=10**9), "expected 1 to 178,956,970 pixels"),
        (lambda v: v["images"][0].update(height=True), "not two whole numbers"),
    ],
)
def test_wrong_files(tmp_path, change, message):
    described = values([SQUARE])
    change(described)
    write(tmp_path, described)
    with pytest.raises(ValueError, match=message) as error:
        coco(tmp_path, None)
    assert str(error.value).isprintable()


def test_a_split_that_is_not_there(tmp_path):
    write(tmp_path, values([SQUARE]))
    with pytest.raises(ValueError, match="no COCO JSON of a split"):
        coco(tmp_path, "val")
