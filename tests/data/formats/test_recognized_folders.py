"""The layouts that say little, and how a folder is recognized."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data.catalog import recognize
from semask.data.source import Data

CLASSES = {"background": [0], "object": [1]}


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), "gray").save(path)


def mask(path: Path, value: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros((6, 8), dtype=np.uint8)
    array[2:4, 2:5] = value
    Image.fromarray(array).save(path)


LAYOUTS = {
    "two folders": (["images/a.jpg", "images/b.jpg"], ["masks/a.png", "masks/b.png"], "folders", False),
    "endings": (["img/a.jpg", "img/b.jpg"], ["gt/a_mask.png", "gt/b_mask.png"], "folders", False),
    "upper case": (["Images/a.JPG", "Images/b.JPG"], ["Labels/a_L.PNG", "Labels/b_L.PNG"], "folders", False),
    "splits below": (
        ["images/train/a.jpg", "images/val/b.jpg"],
        ["labels/train/a.png", "labels/val/b.png"],
        "folders",
        True,
    ),
    "splits above": (
        ["train/images/a.jpg", "valid/images/b.jpg"],
        ["train/masks/a.png", "valid/masks/b.png"],
        "folders",
        True,
    ),
    "a test split": (
        ["training/rgb/a.jpg", "test/rgb/b.jpg"],
        ["training/seg/a.png", "test/seg/b.png"],
        "folders",
        True,
    ),
    "kaggle": (["train/a.png", "val/b.png"], ["train_labels/a_L.png", "val_labels/b_L.png"], "folders", True),
    "split in the name": (
        ["train_images/a.png", "val_images/b.png"],
        ["train_masks/a.png", "val_masks/b.png"],
        "folders",
        True,
    ),
    "flat": (["a.jpg", "b.jpg"], ["a_mask.png", "b_mask.png"], "flat", False),
    "flat, other ending": (["a.png", "b.png"], ["a-label.png", "b-label.png"], "flat", False),
    "flat, splits": (["train/a.jpg", "val/b.jpg"], ["train/a_gt.png", "val/b_gt.png"], "flat", True),
    "classes": (
        ["crack/images/a.jpg", "rust/images/b.jpg"],
        ["crack/masks/a.png", "rust/masks/b.png"],
        "class_folders",
        False,
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_recognized_and_paired(tmp_path, name):
    images, masks, format, has_splits = LAYOUTS[name]
    for path in images:
        image(tmp_path / path)
    for path in masks:
        mask(tmp_path / path)
    for clutter in (".DS_Store", "Thumbs.db", "__MACOSX/a.jpg", "readme.txt"):
        (tmp_path / clutter).parent.mkdir(exist_ok=True)
        (tmp_path / clutter).write_bytes(b"x")
    found = recognize(tmp_path)
    assert found.format == format
    assert "\n" not in found.reason
    data = Data(str(tmp_path), format=format, classes=None if format == "class_folders" else CLASSES)
    train, val = (data.dataset(split) for split in ("train", "val"))
    assert len(train) == len(val) == 1
    if has_splits:
        assert (train.pairs[0][0].name[0].lower(), val.pairs[0][0].name[0].lower()) == ("a", "b")
    for part in (train, val):
        assert part.check(level="full").pixels[1:].sum() == 6


def test_the_folder_is_the_class(tmp_path):
    for name, value in (("crack", 255), ("rust", 3)):
        image(tmp_path / name / "images" / "a.jpg")
        mask(tmp_path / name / "masks" / "a.png", value)
    data = Data(str(tmp_path), format="class_folders", val_split="all", train_split="all")
    found = data.dataset("train")
    assert found.classes.names == ("background", "crack", "rust")
    assert [sorted(np.unique(found.label_array(i)).tolist()) for i in range(2)] == [[0, 1], [0, 2]]
    array = np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(array).save(tmp_path / "rust" / "masks" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: has the values .* in a folder for one class"):
        found.check()


def test_what_may_be_two_layouts_is_asked(tmp_path):
    for place in ("north", "south"):
        image(tmp_path / place / "a.jpg")
        mask(tmp_path / place / "a_mask.png")
    with pytest.raises(
        ValueError, match=r"may have several formats, class_folders \(.*\); flat \(.*\): choose one with"
    ):
        recognize(tmp_path)
    mask(tmp_path / "north" / "b_mask.png", 2)
    image(tmp_path / "north" / "b.jpg")
    array = np.arange(48, dtype=np.uint8).reshape(6, 8) // 20
    Image.fromarray(array).save(tmp_path / "south" / "a_mask.png")  # three values: no mask of one class
    assert recognize(tmp_path).format == "flat"


def test_class_names_next_to_the_folders(tmp_path):
    image(tmp_path / "images" / "a.jpg")
    Image.fromarray(np.array([[[0, 0, 0], [255, 0, 0]]], dtype=np.uint8)).resize((8, 6), 0).save(tmp_path / "m.png")
    (tmp_path / "masks").mkdir()
    shutil.move(tmp_path / "m.png", tmp_path / "masks" / "a.png")
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nnothing,0,0,0\ncar,255,0,0\n", encoding="utf-8")
    found = Data(str(tmp_path), format="folders", train_split="all").dataset("train")
    assert found.classes.names == ("nothing", "car")
    assert found.check().pixels.tolist() == [24, 24]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "the folder is empty"),
        (["notes.txt", "data.zip"], "no known layout of labeled images: it has 2 files"),
        (["a.jpg", "b.jpg"], "2 x .jpg"),
        (["images/a.jpg"], "no known layout"),
    ],
)
def test_nothing_is_recognized(tmp_path, files, message):
    for name in files:
        if name.endswith(".jpg"):
            image(tmp_path / name)
        else:
            (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=tmp_path.name) as error:
        recognize(tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_masks_that_are_jpeg_are_named(tmp_path):
    image(tmp_path / "images" / "a.jpg")
    image(tmp_path / "masks" / "a.jpg")
    assert recognize(tmp_path).format == "folders"
    with pytest.raises(ValueError, match="JPEG does not keep the values of masks: save them as PNG"):
        Data(str(tmp_path), format="folders", train_split="all").dataset("train")


@pytest.mark.parametrize("missing", ["images", "masks"])
def test_an_image_without_partner(tmp_path, missing):
    for name in ("a", "b"):
        image(tmp_path / "images" / f"{name}.jpg")
        mask(tmp_path / "masks" / f"{name}.png")
    next((tmp_path / missing).glob("b.*")).unlink()
    with pytest.raises(ValueError, match=f"no {missing.removesuffix('s')} for 1 of 2 files: b"):
        Data(str(tmp_path), format="folders", train_split="all").dataset("train")


def test_public_formats_are_recognized(scenes):
    assert recognize(scenes).format == "folder"
