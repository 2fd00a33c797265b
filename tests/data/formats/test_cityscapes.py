import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data.formats.cityscapes import cityscapes

LABEL_IDS = [0, 4, 7, 8, 11, 18, 26, 30, 33, 255]
TRAIN_IDS = [255, 255, 0, 1, 2, 255, 13, 255, 18, 255]


def write(root: Path, city: str, number: int, *, label_ids: bool = True, train_ids: bool = False) -> None:
    frame = f"{city}_{number:06}_000019"
    for kind in ("leftImg8bit", "gtFine"):
        (root / kind / "train" / city).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 1)).save(root / f"leftImg8bit/train/{city}/{frame}_leftImg8bit.png")
    masks = root / "gtFine/train" / city
    if label_ids:
        Image.fromarray(np.array([LABEL_IDS], dtype=np.uint8)).save(masks / f"{frame}_gtFine_labelIds.png")
    if train_ids:
        Image.fromarray(np.array([TRAIN_IDS], dtype=np.uint8)).save(masks / f"{frame}_gtFine_labelTrainIds.png")
    Image.new("RGB", (10, 1)).save(masks / f"{frame}_gtFine_color.png")


def test_both_kinds_of_masks_give_the_same_labels(tmp_path):
    write(tmp_path / "ids", "aachen", 0)
    write(tmp_path / "train_ids", "aachen", 0, label_ids=False, train_ids=True)
    for name in ("ids", "train_ids"):
        assert cityscapes(tmp_path / name, "train")[0][1].tolist() == [TRAIN_IDS], name


def test_train_ids_are_used_only_where_all_images_have_them(tmp_path):
    write(tmp_path, "aachen", 0, train_ids=True)
    write(tmp_path, "bochum", 1)
    assert {mask.name.split("_")[-1] for _, mask in cityscapes(tmp_path, "train").pairs} == {"labelIds.png"}
    write(tmp_path, "bochum", 1, train_ids=True)
    dataset = cityscapes(tmp_path, "train")
    assert {mask.name.split("_")[-1] for _, mask in dataset.pairs} == {"labelTrainIds.png"}
    assert [image.parent.name for image, _ in dataset.pairs] == ["aachen", "bochum"]


def test_an_image_without_mask(tmp_path):
    write(tmp_path, "aachen", 0)
    write(tmp_path, "aachen", 1, label_ids=False)
    with pytest.raises(ValueError, match=r"no mask for 1 of 2 files: aachen/aachen_000001_000019_leftImg8bit.png"):
        cityscapes(tmp_path, "train")


def test_no_masks_at_all(tmp_path):
    write(tmp_path, "aachen", 0, label_ids=False)
    with pytest.raises(ValueError, match=r"looked for CITY/\*_gtFine_labelTrainIds.png or .*labelIds.png, found none"):
        cityscapes(tmp_path, "train")


def test_classes(tmp_path):
    write(tmp_path, "aachen", 0)
    classes = cityscapes(tmp_path, "train").classes
    assert len(classes) == 19
    assert (classes.names[0], classes.palette[0]) == ("road", (128, 64, 128))
    assert (classes.names[18], classes.palette[18]) == ("bicycle", (119, 11, 32))


def write_polygons(root: Path, *objects: dict) -> Path:
    write(root, "aachen", 0, label_ids=False)
    values = {"imgHeight": 1, "imgWidth": 10, "objects": list(objects)}
    (root / "gtFine/train/aachen/aachen_000000_000019_gtFine_polygons.json").write_text(json.dumps(values))
    return root


def stretch(label: str, first: int, last: int, **more: object) -> dict:
    return {"label": label, "polygon": [[first, 0], [last, 0], [last, 0], [first, 0]]} | more


def test_polygons_are_drawn_in_the_order_of_the_file_where_there_are_no_masks(tmp_path):
    root = write_polygons(
        tmp_path,
        stretch("road", 0, 7),
        stretch("cargroup", 2, 3),
        stretch("license plate", 3, 3),
        stretch("out of roi", 7, 7),
        stretch("sky", 0, 9, deleted=1),
        stretch("static", 5, 5),
    )
    dataset = cityscapes(root, "train")
    dataset.check()
    assert dataset[0][1].tolist() == [[0, 0, 13, 13, 0, 255, 0, 255, 255, 255]]


def test_a_polygon_of_a_label_that_is_not_known(tmp_path):
    with pytest.raises(ValueError, match=r"_polygons.json: .bike. is no label of Cityscapes"):
        cityscapes(write_polygons(tmp_path, stretch("bike", 0, 1)), "train").check()
