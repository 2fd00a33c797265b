from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data import diagnostics
from semask.data.checking import Checked
from semask.data.classes import Classes
from semask.data.formats.folder import write_classes
from semask.data.images import Reach
from semask.data.source import Data

NAMES = ("road", "sky", "tree")


def split(name: str, pixels: list[int], *, ignored_class: int | None = None, **checked: object) -> diagnostics.Split:
    checked = {"masks": 4, **checked}
    return diagnostics.Split(name, NAMES, Checked(np.array(pixels), **checked), ignored_class)


@pytest.mark.parametrize(
    ("train", "val", "said"),
    [
        ([5, 5, 5], [5, 5, 5], []),
        ([5, 0, 5], [5, 5, 5], ['class 1 "sky" never occurs in the training masks: it can\'t be learned']),
        ([5, 0, 5], [5, 0, 5], ['class 1 "sky" never occurs in the training masks']),
        ([5, 5, 5], [5, 0, 5], ['class 1 "sky" never occurs in the validation masks']),
        ([5, 0, 0], [5, 5, 5], ['2 of 3 classes never occur in the training masks: 1 "sky", 2 "tree"']),
        ([0, 5, 5], [0, 5, 5], ["the masks never use 0", 'class 0 "road" never occurs in the training masks']),
        ([0, 5, 5], [5, 5, 5], ['class 0 "road" never occurs in the training masks']),
    ],
)
def test_classes_that_never_occur(train, val, said):
    lines = diagnostics.warnings_of(split("train", train), split("val", val))
    assert len(lines) == len(said)
    assert all(part in line for part, line in zip(said, lines, strict=True))
    assert all("\n" not in line for line in lines)


def test_an_ignored_class_is_told_once():
    lines = diagnostics.warnings_of(
        split("train", [5, 0, 5], ignored_class=1), split("val", [5, 0, 5], ignored_class=1)
    )
    assert len(lines) == 1
    assert (
        'the value 1 is ignored in the masks (ignore_index of classes.json), but is the number of class 1 "sky"'
        in (lines[0])
    )


def test_masks_without_a_label_are_counted():
    lines = diagnostics.warnings_of(split("train", [5, 5, 5], empty=3), split("val", [5, 5, 5]))
    assert lines == [
        "every pixel is ignored in 3 of the 4 masks of the train split: they teach nothing and are not counted"
    ]


def test_dark_images_are_counted():
    reaches = {Path("a.tif"): Reach(60_000, 16), Path("b.tif"): Reach(3000, 16), Path("c.tif"): Reach(2000, 16)}
    (line,) = diagnostics.warnings_of(split("train", [5, 5, 5], reaches=reaches), split("val", [5, 5, 5]))
    assert line == (
        "b.tif: 16-bit values reach 3,000 of 65,535, so the image is nearly black as the model sees it: stretch it to "
        "the full range first (and 1 more images)"
    )


def test_nothing_is_said_of_what_was_not_read():
    assert diagnostics.warnings_of(split("train", [0, 0, 0], masks=0), split("val", [0, 0, 0], masks=0)) == []


def data_set(root: Path, *, labels: tuple[int, ...] = (0, 1, 2), **described: object) -> Path:
    """Two pairs a split, every image another."""
    rng = np.random.default_rng(0)
    for name in ("train", "val"):
        for folder in ("images", "annotations"):
            (root / folder / name).mkdir(parents=True)
        for stem in ("a", "b"):
            Image.fromarray(rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)).save(root / f"images/{name}/{stem}.png")
            mask = np.resize(np.array(labels, dtype=np.uint8), (8, 9))
            Image.fromarray(mask).save(root / f"annotations/{name}/{stem}.png")
    write_classes(root / "classes.json", Classes(NAMES), name="street", **described)
    return root


def sets(root: Path):
    data = Data(root=str(root))
    return data.dataset("train"), data.dataset("val")


def copied(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def linked(source: Path, target: Path) -> None:
    target.unlink()
    target.symlink_to(source)


@pytest.mark.parametrize("give", [copied, linked])
def test_an_image_that_is_in_both_splits(tmp_path, give):
    root = data_set(tmp_path)
    assert diagnostics.shared_line(*sets(root)) is None
    give(root / "images/train/b.png", root / "images/val/a.png")
    line = diagnostics.shared_line(*sets(root))
    assert line.startswith("1 of the 2 validation images are also trained on, so scores are too good: ")
    assert f"{root / 'images/val/a.png'} is {root / 'images/train/b.png'}" in line


def test_the_same_split_for_both(tmp_path):
    data = Data(root=str(data_set(tmp_path)), val_split="train")
    assert diagnostics.shared_line(data.dataset("train"), data.dataset("val")).startswith("2 of the 2")


def test_files_of_one_size_and_beginning_are_not_taken_for_the_same(tmp_path):
    root = data_set(tmp_path)
    for name, end in (("train", b"x"), ("val", b"y")):
        (root / f"images/{name}/a.png").write_bytes(bytes(2 * diagnostics.HEAD) + end)
    assert diagnostics.shared_line(*sets(root)) is None


def test_files_that_are_not_read_are_counted_and_named(tmp_path):
    root = data_set(tmp_path)
    assert diagnostics.unread_line("train", sets(root)[0]) is None
    for name in ("c.heic", "d.HEIC", "notes.txt", ".hidden", "z.jp2"):
        (root / "images/train" / name).touch()
    line = diagnostics.unread_line("train", sets(root)[0])
    assert line.startswith("4 files or linked folders are left out of the train split")
    assert "c.heic, d.HEIC, notes.txt and 1 more" in line


def dark(path: Path) -> None:
    Image.fromarray(np.linspace(1, 3000, 72).astype(np.uint16).reshape(8, 9)).save(path)


def test_a_few_images_are_looked_at(tmp_path):
    root = data_set(tmp_path)
    assert diagnostics.dark_images_line(sets(root)[0]) is None
    dark(root / "images/train/a.png")
    assert "a.png: 16-bit values reach 3,000 of 65,535" in diagnostics.dark_images_line(sets(root)[0])
