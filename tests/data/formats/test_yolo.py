from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tool_samples import labels, mask_of, outline, sample

from semask.data import catalog
from semask.data.formats.yolo import FORMAT, yolo
from semask.data.source import Data

SQUARE = "0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n"
SQUARE_PIXELS = [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def write(root: Path, *images: str, text: str = SQUARE, yaml: str | None = None) -> Path:
    for name in images:
        image = root / f"{name}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(image)
        labels = root / f"{name.replace('images', 'labels')}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(text)
    if yaml is not None:
        (root / "data.yaml").write_text(yaml)
    return root


def test_the_label_is_that_of_ultralytics_but_for_pixels_at_outlines(tmp_path):
    root = sample("yolo", tmp_path)
    assert catalog.recognize(root).format == "yolo"
    assert FORMAT.splits_in(root) == {"train": "train", "val": "val"}
    dataset = yolo(root, "train")
    dataset.check()
    assert dataset.classes.names == ("background", "car", "road")
    theirs = mask_of("yolo")
    assert not ((labels(dataset) != theirs) & ~outline(theirs)).any()
    with pytest.raises(ValueError, match="none of the 1 images has a text file"):
        yolo(root, "val")


@pytest.mark.parametrize(
    ("images", "yaml"),
    [
        (("train/images/a", "valid/images/b"), "names: [car]\ntrain: ../train/images\nval: ../valid/images\n"),
        (
            ("images/train/a", "images/val/b"),
            "path: ../datasets/x\nnames: {0: car}\ntrain: images/train\nval: images/val",
        ),
        (("images/train/a", "images/val/b"), "names: [car]\ntrain: /home/me/x/images/train\nval: [images/val]\n"),
    ],
)
def test_layouts_with_splits(tmp_path, images, yaml):
    root = write(tmp_path / "data", *images, yaml=yaml)
    assert FORMAT.splits_in(root) == {"train": "train", "val": "val"}
    for split, name in (("train", images[0]), ("val", images[1])):
        dataset = Data(str(root), format="yolo").dataset(split)
        assert [path for path, _ in dataset.pairs] == [root / f"{name}.png"]
        assert labels(dataset).tolist() == SQUARE_PIXELS
        assert dataset.classes.names == ("background", "car")


def test_a_list_of_images(tmp_path):
    root = write(tmp_path, "images/a", "images/b", "images/c", yaml="names: [car]\ntrain: train.txt\nval: val.txt\n")
    (root / "train.txt").write_text("./images/a.png\n/elsewhere/images/b.png\n")
    (root / "val.txt").write_text("./images/c.png\n")
    assert [path.stem for path, _ in yolo(root, "train").pairs] == ["a", "b"]
    (root / "val.txt").write_text("./images/d.png\n")
    with pytest.raises(ValueError, match=r"1 of 1 images are not there: ./images/d.png"):
        yolo(root, "val")


def test_a_list_of_names_without_splits(tmp_path):
    root = write(tmp_path, "images/a", "images/b")
    (root / "classes.txt").write_text("car\n")
    assert catalog.recognize(root).format == "yolo"
    assert FORMAT.splits_in(root) == {}
    assert len(yolo(root, None)) == 2


def test_the_same_folder_twice_is_no_split(tmp_path):
    root = write(tmp_path, "images/a", yaml="names: [car]\ntrain: images\nval: images\n")
    assert FORMAT.splits_in(root) == {}
    assert len(yolo(root, None)) == 1


def test_images_without_a_text_file_are_background_and_counted(tmp_path):
    root = write(tmp_path, "images/a", "images/b", yaml="names: [car]\ntrain: images\nval: images\n")
    (root / "labels/b.txt").unlink()
    dataset = yolo(root, "train")
    assert not labels(dataset, 1).any()
    assert [note.rpartition(": ")[2] for note in dataset.notes] == ["1"]


def test_fractions_are_those_of_the_image_as_it_is_shown(tmp_path):
    root = write(
        tmp_path, "images/a", text="0 0 0 0.5 0 0.5 1 0 1\n", yaml="names: [car]\ntrain: images\nval: images\n"
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    (root / "images/a.png").unlink()
    Image.new("RGB", (4, 2)).save(root / "images/a.jpg", exif=exif)
    image, label = yolo(root, None)[0]
    assert image.shape[-2:] == label.shape == (4, 2)
    assert (label.numpy() == [[1, 0]] * 4).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.2 0.2\n", "line 1: is a box"),
        (SQUARE + "1" + SQUARE[1:], "line 2: has the class 1, expected 0 to 0"),
        ("0 0.5 0.5 0.2 0.2 0.1 0.1 0.3\n", "line 1: has 8 numbers"),
        ("0 0.5 0.5 0.2 nan 0.1 0.1\n", "line 1: .* is no fraction"),
        ("0 5 5 200 5 200 300\n", "line 1: .* is no fraction"),
        ("car 0.5 0.5 0.2 0.2 0.1 0.1\n", "line 1: has something that is no number"),
    ],
)
def test_wrong_lines(tmp_path, text, message):
    root = write(tmp_path, "images/a", text=text, yaml="names: [car]\ntrain: images\nval: images\n")
    with pytest.raises(ValueError, match=rf"a.txt: {message}"):
        yolo(root, "train").check()


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: [a, b", "not a readable data.yaml"),
        ("x: &a [1]\nnames: [*a, *a]", "has an alias"),
        ("- a", 'expected "names"'),
        ("train: images", '"names" is missing or wrong'),
        ("names: {0: a, 2: b}", "does not count 0, 1, 2"),
        ("names: [[a]]", "something that is no name"),
        ("names: [a]\ntrain: {a: b}", '"train" is wrong'),
        ("names: !!python/object/apply:os.system [ls]", "not a readable data.yaml"),
    ],
)
def test_wrong_descriptions(tmp_path, yaml, message):
    root = write(tmp_path, "images/a", yaml=yaml)
    with pytest.raises(ValueError, match=rf"data.yaml: .*{message}"):
        yolo(root, "train")
    assert np.size(FORMAT.splits_in(root)) == 1


def test_a_label_that_is_not_learned(tmp_path):
    root = sample("yolo", tmp_path)
    description = root / "data.yaml"
    description.write_text(description.read_text().replace("'car'", "'__ignore__'"))
    dataset = yolo(root, "train")
    assert dataset.classes.names == ("background", "road")
    assert set(np.unique(labels(dataset))) == {0, 1, 255}
