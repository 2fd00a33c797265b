import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data import Classes, folder, read_classes, write_classes


def make(root: Path, *, images: tuple[str, ...] = ("a.jpg", "b.png", "c.tif"), **described: object) -> Path:
    (root / "images/train").mkdir(parents=True)
    (root / "annotations/train").mkdir(parents=True)
    for name in images:
        Image.new("RGB", (4, 3)).save(root / "images/train" / name)
        mask = Image.fromarray(np.array([[0, 1, 2, 255]] * 3, dtype=np.uint8))
        mask.save(root / "annotations/train" / f"{Path(name).stem}.png")
    (root / "classes.json").write_text(json.dumps({"name": "street", "classes": ["road", "sky", "tree"]} | described))
    return root


def test_pairs_by_stem_in_order(tmp_path):
    dataset = folder(make(tmp_path, images=("b.PNG", "c.tif", "a.jpg")), "train")
    assert [image.name for image, _ in dataset.pairs] == ["a.jpg", "b.PNG", "c.tif"]
    assert all(image.stem == mask.stem for image, mask in dataset.pairs)
    assert dataset.name == "street"
    assert dataset[0][1][0].tolist() == [0, 1, 2, 255]


def test_ignore_index_is_the_value_in_the_files(tmp_path):
    dataset = folder(make(tmp_path, classes=["road", "sky"], ignore_index=2), "train")
    assert dataset[0][1][0].tolist() == [0, 1, 255, 255]


def test_palette_allows_rgb_masks(tmp_path):
    palette = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    root = make(tmp_path, images=("a.png",), palette=palette)
    mask = np.array([[palette[2], palette[0], palette[1], [0, 0, 0]]] * 3, dtype=np.uint8)
    Image.fromarray(mask).save(root / "annotations/train/a.png")
    assert folder(root, "train")[0][1][0].tolist() == [2, 0, 1, 255]
    (root / "classes.json").write_text(json.dumps({"classes": ["road", "sky", "tree"]}))
    with pytest.raises(ValueError, match="gives no palette"):
        folder(root, "train").check()


def test_classes_file_round_trip(tmp_path):
    classes = Classes(("road", "sky"), ((1, 2, 3), (4, 5, 6)))
    write_classes(tmp_path / "classes.json", classes, name="street", ignore_index=11)
    assert read_classes(tmp_path / "classes.json") == ("street", classes, 11, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file: it has to name the classes"),
        ("{", "not a readable JSON file"),
        ("[]", 'expected an object with the key "classes", got list'),
        ("{}", '"classes" is missing'),
        ('{"classes": ["a", "a"]}', "given twice"),
        ('{"classes": ["a"], "palette": [[1, 2, 300]]}', "0..255"),
        ('{"classes": ["a"], "ignore_index": "void"}', "\"ignore_index\" is 'void'"),
    ],
)
def test_wrong_classes_file(tmp_path, content, message):
    path = make(tmp_path) / "classes.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*{re.escape(message)}"):
        folder(tmp_path, "train")


def test_unpaired_files_are_named_and_counted(tmp_path):
    root = make(tmp_path, images=tuple(f"{i}.png" for i in range(8)))
    for index in range(5):
        (root / f"annotations/train/{index}.png").unlink()
    with pytest.raises(ValueError, match=r"no mask for 5 of 8 files: 0.png, 1.png, 2.png and 2 more"):
        folder(root, "train")
    for index in range(5):
        (root / f"images/train/{index}.png").unlink()
    (root / "images/train/7.png").unlink()
    with pytest.raises(ValueError, match=r"no image for 1 of 3 files: 7.png; add"):
        folder(root, "train")


def test_two_images_of_one_stem(tmp_path):
    root = make(tmp_path)
    Image.new("RGB", (4, 3)).save(root / "images/train/a.png")
    with pytest.raises(ValueError, match=r"a.png: a.jpg has the same stem"):
        folder(root, "train")


def test_hidden_and_other_files_do_not_count(tmp_path):
    root = make(tmp_path)
    (root / "images/train/._a.jpg").write_bytes(b"x")
    (root / "images/train/notes.txt").write_text("x")
    assert len(folder(root, "train")) == 3


def test_empty_folder_says_what_was_looked_for_and_found(tmp_path):
    root = make(tmp_path, images=())
    (root / "images/train/readme.txt").write_text("x")
    with pytest.raises(ValueError, match=r"images/train: no images there; looked for \*.jpg, .*found readme.txt"):
        folder(root, "train")


def test_missing_folders(tmp_path):
    root = make(tmp_path)
    with pytest.raises(ValueError, match=r"images/val: no such folder, needed for .*; .*images has train"):
        folder(root, "val")
    with pytest.raises(ValueError, match=r"masks/train: no such folder, .* has annotations, classes.json, images"):
        folder(root, "train", label_dir="masks")
    with pytest.raises(ValueError, match=r"nowhere: no such folder"):
        folder(root / "nowhere", "train")
