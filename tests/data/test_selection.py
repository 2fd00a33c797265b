"""Classes that are made of what the files hold."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data.classes import Classes
from semask.data.dataset import SegmentationDataset
from semask.data.selection import Selection
from semask.data.source import Data

OWN = Classes(("road", "tree", "bush", "sky"), ((10, 0, 0), (0, 20, 0), (0, 30, 0), (0, 0, 40)))


def dataset(tmp_path: Path, mask: object, classes: Classes | None = OWN, **options: object) -> SegmentationDataset:
    array = np.array(mask, dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "m.png")
    Image.new("RGB", array.shape[1::-1]).save(tmp_path / "i.png")
    return SegmentationDataset([(tmp_path / "i.png", tmp_path / "m.png")], classes, name="yard", **options)


def label(found: SegmentationDataset) -> list[list[int]]:
    assert found[0][1].tolist() == found.label_array(0).tolist()
    return found.label_array(0).tolist()


def test_merge_drop_rename_reorder(tmp_path):
    chosen = Selection({"plants": ["bush", "tree"], "street": "road", "ignore": ["sky"]})
    found = dataset(tmp_path, [[0, 1, 2, 3, 255]]).selecting(chosen)
    assert found.classes.names == ("plants", "street")
    assert found.classes.palette == ((0, 30, 0), (10, 0, 0))
    assert label(found) == [[1, 0, 0, 255, 255]]


def test_colors_follow_their_classes(tmp_path):
    found = dataset(tmp_path, [[[10, 0, 0], [0, 20, 0], [0, 30, 0], [0, 0, 40], [0, 0, 0]]], colored_masks=True)
    chosen = found.selecting(Selection({"street": ["road"], "plants": ["tree", "bush", "#0000ff"], "ignore": ["sky"]}))
    assert label(chosen) == [[0, 1, 1, 255, 255]]


def test_values_that_nobody_named(tmp_path):
    found = dataset(tmp_path, [[0, 7, 9, 255]], None)
    with pytest.raises(ValueError, match=r"yard: its files do not name the classes: give data\.classes"):
        found.classes.names  # noqa: B018
    assert label(found.selecting(Selection({"background": [0, 9], "object": 7}))) == [[0, 1, 0, 255]]
    assert label(found.selecting(Selection({"object": [7, 255], "rest": ["*"]}))) == [[1, 0, 1, 0]]
    with pytest.raises(ValueError, match=r"m\.png: 9 is not a class"):
        found.selecting(Selection({"background": [0], "object": [7]})).check()


def test_the_rest_may_be_ignored(tmp_path):
    found = dataset(tmp_path, [[0, 1, 2, 3, 200]])
    chosen = found.selecting(Selection({"road": ["road"], "sky": ["sky"], "ignore": ["*"]}))
    assert label(chosen) == [[0, 255, 255, 1, 255]]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"street": ["road"], "plants": ["tree"]}, "its class 'bush' (and 1 more) is not listed: add it to a class"),
        ({"street": ["road", "lawn"]}, "'lawn' is none of its classes, it has road, tree, bush, sky"),
        ({"a": ["road", "tree"], "b": ["tree", "bush", "sky"]}, "'tree' is listed twice"),
        ({"a": ["road", 0], "b": ["tree", "bush", "sky"]}, "0 is listed twice"),
        ({"a": ["*"], "b": ["*"]}, '"*" is listed twice'),
        ({"a": [], "b": ["*"]}, "'a' lists nothing"),
        ({"a": [-1], "b": ["*"]}, "'a' lists -1: give values of the masks"),
        ({"a": [1.5], "b": ["*"]}, "'a' lists 1.5"),
        ({"a": [True], "b": ["*"]}, "'a' lists True"),
        ({"a": ["*"]}, "one class alone leaves nothing to learn"),
        ({"ignore": ["*"]}, "0 classes given"),
        ({"a\n": ["road"], "b": ["*"]}, "expected one line without control characters"),
    ],
)
def test_what_is_refused(tmp_path, classes, message):
    with pytest.raises(ValueError, match="yard") as error:
        dataset(tmp_path, [[0]]).selecting(Selection(classes))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_values_within_the_tolerance(tmp_path):
    found = dataset(tmp_path, [[0, 3, 120, 136, 252, 255]], None)
    chosen = found.selecting(Selection({"background": [0], "object": [255]}, tolerance=127))
    assert label(chosen) == [[0, 0, 0, 1, 1, 1]]
    assert chosen.check().adjusted == 4
    near = found.selecting(Selection({"background": [0], "object": [255]}, tolerance=5))
    with pytest.raises(ValueError, match=r"120, 136 are not classes .* expected 0, 255"):
        near.check()
    exact = dataset(tmp_path, [[0, 255]], None).selecting(Selection({"background": [0], "object": [255]}))
    assert exact.check().adjusted == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_nearest_value_counts(tmp_path, seed):
    rng = np.random.default_rng(seed)
    listed = sorted(rng.choice(255, 4, replace=False).tolist())
    raw = rng.integers(0, 255, (9, 9))
    selection = Selection({f"c{value}": [value] for value in listed}, tolerance=255)
    found = np.array(label(dataset(tmp_path, raw, None).selecting(selection)))
    distance = np.abs(raw[..., None] - np.array([*listed, 255]))  # 255 is ignored, and as near as any other
    best = distance.min(-1)
    chosen = np.take_along_axis(distance, np.where(found == 255, 4, found)[..., None], -1)[..., 0]
    assert (chosen == best).all()


def test_colors_within_the_tolerance(tmp_path):
    raw = [[[250, 4, 0], [0, 0, 246], [128, 0, 127], [0, 0, 0]]]
    found = dataset(tmp_path, raw, None)
    classes = {"red": ["#ff0000"], "blue": ["#0000ff"]}
    with pytest.raises(ValueError, match=r"\(128, 0, 127\) is not a color"):
        found.selecting(Selection(classes, tolerance=10)).check()
    chosen = found.selecting(Selection(classes, tolerance=255))
    assert label(chosen) == [[0, 1, 0, 255]]
    assert chosen.check().adjusted == 3
    assert label(found.selecting(Selection({**classes, "ignore": ["*"]}, tolerance=10))) == [[0, 1, 255, 255]]


def test_settings_of_a_recipe(tmp_path, scenes):
    names = Data(str(scenes)).dataset("train").classes.names
    data = Data(str(scenes), classes={"first": [names[0]], "others": [*names[1:]]})
    assert data.dataset("val").classes.names == ("first", "others")
    assert data.dataset("train").check().pixels.sum() == Data(str(scenes)).dataset("train").check().pixels.sum()
    with pytest.raises(ValueError, match=r"data\.tolerance is 3, but needs data\.classes"):
        Data(str(scenes), tolerance=3)
    with pytest.raises(ValueError, match=r"data\.object_255 is true"):
        Data(str(scenes), object_255=True, classes={"a": [names[0]], "b": ["*"]}).dataset("train")
