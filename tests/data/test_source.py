"""The section `data`: splits and what a list of them means, odd folders."""

import unicodedata
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


def mask(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros((6, 8), dtype=np.uint8)
    array[2:4] = 1
    Image.fromarray(array).save(path)


def folder(root: Path, *names: str) -> Path:
    for name in names:
        image(root / "images" / f"{name}.jpg")
        mask(root / "masks" / f"{name}.png")
    return root


def sides(root: Path, **settings: object) -> tuple[list[str], list[str]]:
    data = Data(str(root), format="folders", classes=CLASSES, **settings)
    train, val = ([path.stem for path, _ in data.dataset(split).pairs] for split in ("train", "val"))
    return train, val


def listed(path: Path, *rows: str) -> str:
    path.write_text("\n".join(["name,split", *rows]), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("written", ["images/c", "images/c.jpg", "images/c.JPG"])
def test_a_list_has_names_with_or_without_their_ending(tmp_path, written):
    file = listed(tmp_path / "s.csv", f"{written},val")
    assert sides(folder(tmp_path / "yard", *"abcd"), split_file=file, holdout=1e-9) == (["a", "b", "d"], ["c"])


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_list_finds_names_however_they_are_written(tmp_path, forms):
    on_disk, in_list = (unicodedata.normalize(form, "für") for form in forms)
    file = listed(tmp_path / "s.csv", f"images/{in_list},val")
    train, val = sides(folder(tmp_path / "yard", "a", "b", on_disk), split_file=file, holdout=1e-9)
    assert (len(train), [unicodedata.normalize("NFC", name) for name in val]) == (2, ["für"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["c,val"], "lists no image of the folder: it has c, but images are named such as images/a"),
        (["images/a,train", "images/a.jpg,val"], "images/a.jpg is in both splits"),
        ([f"images/{name},train" for name in "abcd"], "all 4 images are given to one side: give some of them to val"),
        ([f"images/{name},val" for name in "abcd"], "all 4 images are given to one side: give some of them to train"),
    ],
)
def test_lists_that_do_not_fit(tmp_path, rows, message):
    file = listed(tmp_path / "s.csv", *rows)
    with pytest.raises(ValueError, match=r"s\.csv: ") as error:
        sides(folder(tmp_path / "yard", *"abcd"), split_file=file)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_listed_is_not_moved_to_fill_a_side(tmp_path):
    file = listed(tmp_path / "s.csv", *(f"images/{name},train" for name in "abc"))
    assert sides(folder(tmp_path / "yard", *"abcd"), split_file=file, holdout=1e-9) == (["a", "b", "c"], ["d"])


def test_all_of_a_folder(tmp_path):
    root = folder(tmp_path, *"abcd")
    assert sides(root, train_split="all", val_split="all") == (list("abcd"), list("abcd"))


def test_labeled_images_in_train_only(tmp_path):
    for name in "abc":
        image(tmp_path / "train" / "images" / f"{name}.jpg")
        mask(tmp_path / "train" / "masks" / f"{name}.png")
    image(tmp_path / "test" / "images" / "t.jpg")
    assert recognize(tmp_path).format == "folders"
    train, val = sides(tmp_path)
    assert sorted(train + val) == ["a", "b", "c"]
    assert train
    assert val


def test_thumbnails_of_systems_are_no_images(tmp_path):
    root = folder(tmp_path, *"ab")
    image(root / "images" / "@eaDir" / "a.jpg" / "thumb.jpg")
    image(root / "masks" / "__MACOSX" / "a.png")
    assert sides(root, train_split="all", val_split="all")[0] == ["a", "b"]


def test_the_classes_with_each_format_that_has_none(tmp_path):
    for name in "ab":
        image(tmp_path / f"{name}.jpg")
        mask(tmp_path / f"{name}_mask.png")
    data = Data(str(tmp_path), format="flat", classes={"object": [1], "background": ["*"]})
    assert data.dataset("train").check().pixels.tolist() == [16, 32]


def test_a_general_layout_that_is_wrong_does_not_hide_another_format(tmp_path):
    for name in "ab":
        image(tmp_path / "JPEGImages" / f"{name}.jpg")
        mask(tmp_path / "SegmentationClass" / f"{name}.png")
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\nobject:1,1,1::\n")
    for name in ("x.jpg", "x.png"):
        image(tmp_path / name)
    mask(tmp_path / "x_mask.png")
    assert recognize(tmp_path).format == "voc"


def test_what_is_wrong_for_the_only_layout_is_told(tmp_path):
    for name in ("x.jpg", "x.png"):
        image(tmp_path / name)
    mask(tmp_path / "x_mask.png")
    with pytest.raises(ValueError, match=r"x\.png: x\.jpg has the same stem: keep one of them"):
        recognize(tmp_path)


@pytest.mark.parametrize(
    ("files", "format"),
    [
        (["images/training/ADE_train_1.jpg", "annotations/training/ADE_train_1.png"], "ade20k"),
        (["leftImg8bit/train/a/a_leftImg8bit.png", "gtFine/train/a/a_gtFine_labelIds.png"], "cityscapes"),
        (["images/a.jpg", "annotations/a_labelTrainIds.png"], "coco_stuff"),
        (["JPEGImages/a.jpg", "SegmentationClass/a.png", "ImageSets/Segmentation/train.txt"], "voc"),
    ],
)
def test_public_data_is_recognized_next_to_what_systems_leave(tmp_path, files, format):
    for name in (*files, ".DS_Store", "Thumbs.db", "__MACOSX/images/._a.jpg", "desktop.ini"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert recognize(tmp_path).format == format


def test_a_folder_that_holds_only_what_systems_leave_is_empty(tmp_path):
    for name in (".DS_Store", "Thumbs.db", "__MACOSX/._a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match="the folder is empty"):
        recognize(tmp_path)


def test_images_whose_names_end_like_masks(tmp_path):
    for name in ("face_mask", "b_mask", "c"):
        image(tmp_path / f"{name}.png")
        mask(tmp_path / f"{name}_mask.png")
    data = Data(str(tmp_path), format="flat", classes=CLASSES, train_split="all")
    found = [(path.stem, label.stem) for path, label in data.dataset("train").pairs]
    assert found == [(name, f"{name}_mask") for name in ("b_mask", "c", "face_mask")]


def test_the_folder_in_an_unpacked_archive_is_named(tmp_path):
    folder(tmp_path / "yard" / "data", "a", "b")
    (tmp_path / "yard" / "readme.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"yard: give the folder .*data: there are images in images, masks in masks"):
        recognize(tmp_path / "yard")


def test_only_a_few_levels_are_looked_into(tmp_path):
    deep = tmp_path.joinpath(*["d"] * 300)
    folder(deep, "a", "b")
    with pytest.raises(ValueError, match="no known layout"):
        recognize(tmp_path)
