import json

import numpy as np
import pytest
from PIL import Image

from semask.synthetic.classes import CLASSES, PALETTE
from semask.synthetic.dataset import write_synthetic
from semask.synthetic.scene import draw_scene

SMALL = (48, 64)


def files_of(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_folder_holds_pictures_masks_and_classes(tmp_path):
    root = write_synthetic(tmp_path / "set", train=3, val=2, seed=7, size=SMALL)
    assert root == tmp_path / "set"
    for split, indices in (("train", (0, 2, 4)), ("val", (1, 3))):
        images = sorted((root / "images" / split).iterdir())
        masks = sorted((root / "annotations" / split).iterdir())
        assert [path.stem for path in images] == [path.stem for path in masks] == [f"{k:05d}" for k in indices]
        for image_path, mask_path, index in zip(images, masks, indices, strict=True):
            picture, label = draw_scene(7, index, size=SMALL)
            with Image.open(image_path) as image, Image.open(mask_path) as mask:
                assert mask.mode == "P"
                assert mask.getpalette()[:6] == [*PALETTE[0], *PALETTE[1]]
                assert (np.asarray(mask) == label).all()
                assert image.mode == "RGB"
                assert np.abs(np.asarray(image, dtype=float) - np.asarray(picture)).mean() < 6
    described = json.loads((root / "classes.json").read_text())
    assert described == {
        "name": "synthetic",
        "classes": list(CLASSES),
        "palette": [list(color) for color in PALETTE],
        "ignore_index": 255,
    }


def test_splits_share_no_scene_and_longer_sets_begin_with_shorter_ones(tmp_path):
    short = files_of(write_synthetic(tmp_path / "short", train=2, val=1, size=SMALL))
    long = files_of(write_synthetic(tmp_path / "long", train=4, val=3, size=SMALL))
    assert all(long[name] == short[name] for name in short if name.endswith((".jpg", ".png")))
    pictures = [content for name, content in long.items() if name.endswith(".jpg")]
    assert len(pictures) == len(set(pictures)) == 7


def test_same_settings_are_not_drawn_again(tmp_path):
    root = write_synthetic(tmp_path, train=1, val=1, size=SMALL)
    (root / "images/train/00000.jpg").write_bytes(b"mark")
    assert write_synthetic(tmp_path, train=1, val=1, size=SMALL) == root
    assert (root / "images/train/00000.jpg").read_bytes() == b"mark"


def test_an_interrupted_set_is_completed(tmp_path):
    shown = []

    def track(items, what, count):
        for item in items:
            yield item
            shown.append((what, count))

    root = write_synthetic(tmp_path, train=2, val=1, size=SMALL, track=track)
    assert shown == [("Drawing scenes", 3)] * 3
    whole = files_of(root)
    (root / "classes.json").unlink()
    (root / "annotations/val/00001.png").unlink()
    write_synthetic(tmp_path, train=2, val=1, size=SMALL)
    assert files_of(root) == whole


@pytest.mark.parametrize("change", [{"seed": 1}, {"train": 2}, {"val": 2}, {"size": (64, 64)}])
def test_a_set_of_other_settings_is_refused(tmp_path, change):
    settings = {"train": 1, "val": 1, "seed": 0, "size": SMALL}
    before = files_of(write_synthetic(tmp_path, **settings))
    with pytest.raises(ValueError, match="give another folder") as caught:
        write_synthetic(tmp_path, **settings | change)
    assert "\n" not in str(caught.value)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("content", [None, "no json", "[]"])
def test_a_foreign_folder_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / "holiday.jpg").write_bytes(b"picture")
    if content is not None:
        (tmp_path / "synthetic.json").write_text(content)
    before = files_of(tmp_path)
    with pytest.raises(ValueError, match="synthetic data set"):
        write_synthetic(tmp_path, train=1, val=1, size=SMALL)
    assert files_of(tmp_path) == before


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "set").write_text("")
    for root in (tmp_path / "set", tmp_path / "set" / "below"):
        with pytest.raises(ValueError, match=r"give a|choose another folder"):
            write_synthetic(root, train=1, val=1, size=SMALL)


@pytest.mark.parametrize("wrong", [{"train": 0}, {"val": -1}, {"seed": -1}, {"size": (8, 8)}])
def test_wrong_settings_write_nothing(tmp_path, wrong):
    with pytest.raises(ValueError, match="must be"):
        write_synthetic(tmp_path / "set", **{"train": 1, "val": 1, "size": SMALL} | wrong)
    assert not (tmp_path / "set").exists()
