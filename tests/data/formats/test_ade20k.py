import numpy as np
import pytest
from PIL import Image

from semask.data.classes import Classes
from semask.data.formats.ade20k import CLASSES_TABLE, ade20k


@pytest.fixture
def root(tmp_path):
    for split, prefix in (("training", "train"), ("validation", "val")):
        for kind in ("images", "annotations"):
            (tmp_path / kind / split).mkdir(parents=True)
        stem = f"ADE_{prefix}_00000001"
        Image.new("RGB", (4, 1)).save(tmp_path / f"images/{split}/{stem}.jpg")
        values = np.array([[0, 1, 2, 150]], dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / f"annotations/{split}/{stem}.png")
    return tmp_path


@pytest.mark.parametrize("split", ["training", "validation"])
def test_zero_is_ignored_and_classes_start_at_one(root, split):
    dataset = ade20k(root, split)
    assert dataset[0][1].tolist() == [[255, 0, 1, 149]]
    assert dataset.check().pixels.sum() == 3


def test_value_without_class_is_refused(root):
    Image.fromarray(np.array([[0, 1, 2, 151]], dtype=np.uint8)).save(
        root / "annotations/training/ADE_train_00000001.png"
    )
    with pytest.raises(ValueError, match=r'151 is not a class of "ade20k": expected 0\.\.150, 255'):
        ade20k(root, "training").check()


def test_wrong_layout(root):
    with pytest.raises(ValueError, match=r"images/train: no such folder, .*ADE20K.* has training, validation"):
        ade20k(root, "train")


def test_classes():
    classes = Classes.from_csv(CLASSES_TABLE)
    assert len(classes) == 150
    assert (classes.names[0], classes.palette[0]) == ("wall", (120, 120, 120))
    assert (classes.names[12], classes.palette[12]) == ("person", (150, 5, 61))
    assert (classes.names[149], classes.palette[149]) == ("flag", (92, 0, 255))
