from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data.classes import Classes, read_ids
from semask.data.formats.coco_stuff import CLASSES_TABLE, coco_stuff

IDS = [0, 1, 11, 13, 90, 92, 182]  # unlabeled, person, fire hydrant, stop sign, toothbrush, banner, wood
LABELS = [255, 0, 10, 11, 79, 80, 170]


def write(root: Path, values: list[int], *, masks: str, stem: str = "COCO_train2014_000000000001") -> None:
    images = root / "images" / ("train2014" if masks.split("/")[-1].startswith("train2014") else "")
    path = root / f"{masks}.png" if masks.endswith("Ids") else root / masks / f"{stem}.png"
    for place in (images, path.parent):
        place.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (len(values), 1)).save(images / f"{stem}.jpg")
    Image.fromarray(np.array([values], dtype=np.uint8)).save(path)


def test_original_ids(tmp_path):
    write(tmp_path, IDS, masks="annotations/train2014")
    assert coco_stuff(tmp_path, "train2014")[0][1].tolist() == [LABELS]


def test_train_ids(tmp_path):
    write(tmp_path, IDS, masks="annotations/train2014")
    stem = "COCO_train2014_000000000001"
    values = np.array([[0, 1, 11, 12, 80, 81, 171]], dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / f"annotations/train2014/{stem}_labelTrainIds.png")
    dataset = coco_stuff(tmp_path, "train2014")
    assert dataset.pairs[0][1].name == f"{stem}_labelTrainIds.png"
    assert dataset[0][1].tolist() == [LABELS]


def test_stuffthingmaps_hold_the_ids_less_one(tmp_path):
    write(tmp_path, [255, *(value - 1 for value in IDS[1:])], masks="stuffthingmaps/train2014")
    assert coco_stuff(tmp_path, "train2014")[0][1].tolist() == [LABELS]


def test_lists_of_the_download(tmp_path):
    for stem in ("b", "a", "c"):
        write(tmp_path, IDS, masks="annotations", stem=stem)
    (tmp_path / "imageLists").mkdir()
    (tmp_path / "imageLists/train.txt").write_text("b\na\n")
    dataset = coco_stuff(tmp_path, "train2014")
    assert [image.stem for image, _ in dataset.pairs] == ["b", "a"]
    assert dataset[0][1].tolist() == [LABELS]
    (tmp_path / "annotations/a.png").unlink()
    with pytest.raises(ValueError, match=r"no mask for 1 of 2 files: a\.jpg"):
        coco_stuff(tmp_path, "train")
    (tmp_path / "images/a.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 of the 2 images of .*train.txt are missing"):
        coco_stuff(tmp_path, "train")


def test_gaps_between_the_ids_are_no_labels(tmp_path):
    write(tmp_path, [1, 12, 91], masks="annotations/train2014")
    with pytest.raises(ValueError, match='12, 91 are not classes of "coco_stuff"'):
        coco_stuff(tmp_path, "train2014").check()


def test_wrong_layout(tmp_path):
    write(tmp_path, IDS, masks="annotations/train2014")
    with pytest.raises(ValueError, match=r"images/test2014: no such folder, .*COCO-Stuff; .* has train2014"):
        coco_stuff(tmp_path, "test2014")


def test_classes():
    classes, ids = Classes.from_csv(CLASSES_TABLE), read_ids(CLASSES_TABLE)
    assert len(classes) == len(ids) == len(set(classes.palette)) == 171
    name_of = {value: classes.names[index] for value, index in ids.items()}
    known = {1: "person", 27: "backpack", 72: "tv", 90: "toothbrush", 92: "banner", 157: "sky-other", 169: "tree"}
    assert {value: name_of[value] for value in known} == known
    assert set(range(1, 183)) - ids.keys() == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}
