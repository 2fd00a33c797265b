import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data.classes import Classes
from semask.data.formats.folder import folder, read_classes, write_classes


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


NAMES = ["road", "sky"]
WRONG = {
    "no JSON": "{",
    "empty": "",
    "null": "null",
    "number": "3",
    "text": '"road"',
    "list": '["road", "sky"]',
    "nested deeply": "[" * 100_000,
    "nested": '{"classes": ["a", "b"], "x": ' + "[" * 40 + "]" * 40 + "}",
    "NaN": '{"classes": ["a", "b"], "ignore_index": NaN}',
    "classes null": '{"classes": null}',
    "classes text": '{"classes": "road"}',
    "classes object": '{"classes": {"0": "road"}}',
    "classes number": '{"classes": 2}',
    "no class": '{"classes": []}',
    "one class": '{"classes": ["road"]}',
    "a name null": '{"classes": ["road", null]}',
    "a name number": '{"classes": ["road", 1]}',
    "a name list": '{"classes": ["road", ["sky"]]}',
    "a name empty": '{"classes": ["road", " "]}',
    "a name too long": json.dumps({"classes": ["road", "s" * 100_000]}),
    "a name with an escape": '{"classes": ["road", "\\u001b[31msky"]}',
    "a name with a newline": '{"classes": ["road", "sky\\n"]}',
    "half a character": '{"classes": ["road", "\\ud800"]}',
    "a name twice": '{"classes": ["sky", "sky"]}',
    "256 names": json.dumps({"classes": [str(i) for i in range(256)]}),
    "too many names": json.dumps({"classes": [str(i) for i in range(100_000)]}),
    "too large": json.dumps({"classes": [str(i) for i in range(1_000_000)]}),
    "name number": json.dumps({"classes": NAMES, "name": 3}),
    "name list": json.dumps({"classes": NAMES, "name": ["a"]}),
    "name too long": json.dumps({"classes": NAMES, "name": "a" * 1000}),
    "name with an escape": json.dumps({"classes": NAMES, "name": "a\x1b[31m"}),
    "palette text": json.dumps({"classes": NAMES, "palette": "red"}),
    "palette number": json.dumps({"classes": NAMES, "palette": 3}),
    "palette false": json.dumps({"classes": NAMES, "palette": False}),
    "palette object": json.dumps({"classes": NAMES, "palette": {}}),
    "palette short": json.dumps({"classes": NAMES, "palette": [[1, 2, 3]]}),
    "palette of numbers": json.dumps({"classes": NAMES, "palette": [1, 2]}),
    "color short": json.dumps({"classes": NAMES, "palette": [[1, 2, 3], [1, 2]]}),
    "color null": json.dumps({"classes": NAMES, "palette": [[1, 2, 3], None]}),
    "color of texts": json.dumps({"classes": NAMES, "palette": [[1, 2, 3], ["1", "2", "3"]]}),
    "color of floats": json.dumps({"classes": NAMES, "palette": [[1, 2, 3], [1.0, 2.0, 3.5]]}),
    "color of booleans": json.dumps({"classes": NAMES, "palette": [[1, 2, 3], [True, False, True]]}),
    "color of lists": json.dumps({"classes": NAMES, "palette": [[1, 2, 3], [[1], [2], [3]]]}),
    "color negative": json.dumps({"classes": NAMES, "palette": [[1, 2, 3], [-1, 2, 3]]}),
    "color huge": json.dumps({"classes": NAMES, "palette": [[1, 2, 3], [10**40, 2, 3]]}),
    "same color": json.dumps({"classes": NAMES, "palette": [[1, 2, 3], [1, 2, 3]]}),
    "ignore_index negative": json.dumps({"classes": NAMES, "ignore_index": -1}),
    "ignore_index huge": json.dumps({"classes": NAMES, "ignore_index": 10**12}),
    "ignore_index of 4000 digits": '{"classes": ["a", "b"], "ignore_index": 1' + "0" * 4000 + "}",
    "ignore_index of 5000 digits": '{"classes": ["a", "b"], "ignore_index": 1' + "0" * 5000 + "}",
    "ignore_index bool": json.dumps({"classes": NAMES, "ignore_index": True}),
    "ignore_index float": json.dumps({"classes": NAMES, "ignore_index": 11.0}),
    "ignore_index text": json.dumps({"classes": NAMES, "ignore_index": "11"}),
    "ignore_index list": json.dumps({"classes": NAMES, "ignore_index": [11]}),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_classes_of_a_wrong_form_are_answered_with_one_short_line(tmp_path, text):
    path = make(tmp_path) / "classes.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r".") as error:
        folder(tmp_path, "train")
    message = str(error.value)
    assert message.isprintable()
    assert len(message) < 300 + len(str(path))


@pytest.mark.parametrize("content", [b"\xff\xfe{\x00}\x00", b'{"classes": ["\xff", "b"]}'])
def test_classes_that_are_no_utf_8(tmp_path, content):
    path = make(tmp_path) / "classes.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a text in UTF-8"):
        read_classes(path)


def test_a_byte_order_mark_is_fine(tmp_path):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({"classes": ["Straße", "空"], "name": None, "palette": None}), encoding="utf-8-sig")
    assert read_classes(path).classes.names == ("Straße", "空")
    assert read_classes(path).name == tmp_path.name


def nested(root: Path, *names: str) -> Path:
    """A data set whose files lie at names below images/train and annotations/train."""
    make(root, images=())
    for name in names:
        for kind, path in (("RGB", root / "images/train" / name), ("L", root / "annotations/train" / name)):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(kind, (4, 3)).save(path.with_suffix(".jpg" if kind == "RGB" else ".png"))
    return root


def test_images_in_subfolders_are_paired_by_their_path(tmp_path):
    dataset = folder(nested(tmp_path, "x", "a/x", "a/b/x", "c/y"), "train")
    below = [
        (i.relative_to(tmp_path / "images/train"), m.relative_to(tmp_path / "annotations/train"))
        for i, m in dataset.pairs
    ]
    assert [str(image) for image, _ in below] == ["a/b/x.jpg", "a/x.jpg", "c/y.jpg", "x.jpg"]
    assert all(image.with_suffix("") == mask.with_suffix("") for image, mask in below)
    dataset.check()


def test_a_mask_in_another_subfolder_does_not_count(tmp_path):
    root = nested(tmp_path, "x", "a/y")
    (root / "annotations/train/a/y.png").rename(root / "annotations/train/y.png")
    with pytest.raises(ValueError, match=r"no mask for 1 of 2 files: a/y.jpg"):
        folder(root, "train")


def test_links_to_folders_are_followed_once(tmp_path):
    root = nested(tmp_path / "data", "x")
    nested(tmp_path / "other", "y")
    for kind in ("images", "annotations"):
        (root / kind / "train/more").symlink_to(tmp_path / "other" / kind / "train")
        (root / kind / "train/more/back").symlink_to(root / kind)
        (root / kind / "train/loop").symlink_to(root / kind / "train")
    dataset = folder(root, "train")
    assert [image.name for image, _ in dataset.pairs] == ["y.jpg", "x.jpg"]
    assert [path.name for path in dataset.unread] == ["loop", "train"]  # below more/back, the first of them


def test_hidden_folders_do_not_count(tmp_path):
    root = nested(tmp_path, "x")
    (root / "images/train/.thumbs").mkdir()
    Image.new("RGB", (4, 3)).save(root / "images/train/.thumbs/x.jpg")
    dataset = folder(root, "train")
    assert len(dataset) == 1
    assert dataset.unread == ()


def test_files_beside_the_images_are_known(tmp_path):
    root = nested(tmp_path, "x")
    for name in ("photo.heic", "notes.txt", ".DS_Store"):
        (root / "images/train" / name).touch()
    assert [path.name for path in folder(root, "train").unread] == ["notes.txt", "photo.heic"]


@pytest.mark.parametrize("name", ["classes.json", "images/train/x.jpg", "annotations/train/x.png"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    root = nested(tmp_path, "x", "y")
    (root / name).unlink()
    os.mkfifo(root / name)
    with pytest.raises(ValueError, match="is a pipe, socket or device, not a file"):
        folder(root, "train").check()
