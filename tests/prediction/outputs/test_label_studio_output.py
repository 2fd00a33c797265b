"""Predictions for Label Studio give the label map back, and so does an export of them, corrected or not."""

import json
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from segmented import CLASSES, MAPS, NAMES, noise, rows_of, segmentation, smooth
from tool_samples import SAMPLES, labels, mask_of, sample

from semask.data.classes import Classes
from semask.data.formats.label_studio import label_studio as read
from semask.data.packed_masks import BrushMask
from semask.prediction.output import Written
from semask.prediction.outputs import label_studio

LARGE = {
    "longest run": np.full((128, 128), 3, np.uint8),
    "longer run": np.full((128, 129), 2, np.uint8),
    "many runs": np.repeat(np.arange(4, dtype=np.uint8), [16384, 16385, 1, 49152]).reshape(2, -1),
}


def decoded(results: list, shape: tuple[int, ...]) -> np.ndarray:
    """The label map of brushes; what is not painted is 77."""
    values = {name: index for index, name in enumerate(NAMES)} | {"__ignore__": 255}
    label = np.full(shape, 77, np.uint8)
    for result in results:
        assert (result["original_height"], result["original_width"]) == shape
        mask = BrushMask.of(result["value"]["rle"]).decode(shape)
        assert (label[mask] == 77).all()
        label[mask] = values[result["value"]["brushlabels"][0]]
    return label


def write(folder: Path, maps: list, classes: Classes = CLASSES, names=None, confidence=None) -> Path:
    """Write the files of several images, and the images."""
    images = []
    for number, label in enumerate(maps):
        image = folder / "photos" / (f"{number}.png" if names is None else names[number])
        sure = None if confidence is None else partial(rows_of, np.full(label.shape, confidence, np.uint8))
        made = segmentation(
            folder, label, image=image, stem=folder / "out" / f"{number}", classes=classes, confidence=sure
        )
        label_studio.write(made)
        images.append(Written(made.image, made.stem))
    label_studio.join(folder / "out", images, classes)
    return folder / "out" / "label_studio" / "tasks.json"


@pytest.mark.parametrize("label", [*MAPS.values(), *LARGE.values()], ids=[*MAPS, *LARGE])
def test_brushes_give_the_map_back(label):
    results = list(label_studio.results(label, CLASSES))
    assert np.array_equal(decoded(results, label.shape), label)
    pixels = [np.sum(decoded([result], label.shape) != 77) for result in results]
    assert pixels == sorted(pixels, reverse=True)  # what is painted over large ones counts


def test_all_four_values_of_a_painted_pixel_are_255():
    label = smooth()
    (packed,) = (x["value"]["rle"] for x in label_studio.results(label, CLASSES) if x["id"] == "class-2")
    bits = "".join(f"{byte:08b}" for byte in packed)
    widths = [int(bits[37 + 4 * kind :][:4], 2) + 1 for kind in range(4)]
    values, place = [], 53
    while len(values) < 4 * label.size:
        assert bits[place] == "1"
        width = widths[int(bits[place + 1 :][:2], 2)]
        count = int(bits[place + 3 :][:width], 2) + 1
        values += [int(bits[place + 3 + width :][:8], 2)] * count
        place += 11 + width
    assert int(bits[:32], 2) == len(values)
    assert np.array_equal(np.reshape(values, (-1, 4)), np.repeat((label == 2).reshape(-1, 1) * 255, 4, axis=1))


def test_tasks_and_scores(tmp_path):
    maps = [noise(), np.full((3, 4), 255, np.uint8)]
    tasks = json.loads(write(tmp_path, maps, confidence=51).read_text(encoding="ascii"))
    assert [task["data"]["image"] for task in tasks] == [f"/data/local-files/?d=photos/{i}.png" for i in range(2)]
    for task, label, score in zip(tasks, maps, (0.2, 0.0), strict=True):
        (prediction,) = task["predictions"]
        assert prediction["model_version"].startswith("semask ")
        assert prediction["score"] == score
        assert np.array_equal(decoded(prediction["result"], label.shape), label)
        assert {result["score"] for result in prediction["result"]} == {0.2}
    (folder,) = (tmp_path / "out").iterdir()
    assert {path.name for path in folder.iterdir()} == {"tasks.json", "config.xml"}  # the parts are gone
    (task,) = json.loads(write(tmp_path, [noise()]).read_text())
    assert "score" not in task["predictions"][0]
    assert "score" not in task["predictions"][0]["result"][0]


def test_the_config_fits_the_results(tmp_path):
    tasks = json.loads(write(tmp_path, [noise()]).read_text())
    root = ElementTree.parse(tmp_path / "out" / "label_studio" / "config.xml").getroot()
    known = {label.get("value"): label.get("background") for label in root.iter("Label")}
    assert list(known) == [*NAMES, "__ignore__"]
    assert known["road"] == "#{:02x}{:02x}{:02x}".format(*CLASSES.palette[0])
    for result in tasks[0]["predictions"][0]["result"]:
        assert set(result["value"]["brushlabels"]) <= known.keys()
        assert result["from_name"] == root.find("BrushLabels").get("name")
        assert result["to_name"] == root.find("BrushLabels").get("toName") == root.find("Image").get("name")
    assert root.find("Image").get("value") == "$image"


def test_another_config():
    found = label_studio.prediction(noise(), CLASSES, from_name="a", to_name="b", model_version="second")
    assert found["model_version"] == "second"
    assert {(result["from_name"], result["to_name"]) for result in found["result"]} == {("a", "b")}


@pytest.mark.parametrize("name", ["a \"<b>,&'.png", "a+b %41#?d=x&y.png", "ä ö.png", "c\udcff.png", "b\x01\n.png"])
def test_exports_of_images_of_any_name(tmp_path, name):
    label = noise()
    tasks = json.loads(write(tmp_path, [label], names=[name]).read_text(encoding="ascii"))
    for task in tasks:
        (prediction,) = task.pop("predictions")
        task |= {"id": 1, "annotations": [{"id": 1, "result": prediction["result"]}]}
    root = tmp_path / "root"
    root.mkdir()
    Image.fromarray(np.zeros((*label.shape, 3), np.uint8)).save(tmp_path / "image.png")
    try:
        (tmp_path / "image.png").rename(root / name)
    except (OSError, UnicodeEncodeError):
        pytest.skip("the file system has no such names")
    (root / "export.json").write_text(json.dumps(tasks))
    dataset = read(root, None)
    values = [dataset.classes.names.index(x) for x in NAMES]
    assert np.array_equal(labels(dataset), np.array(values + [255] * 252)[label])


def test_names_of_classes_that_xml_does_not_have():
    classes = Classes(("ä\ufffe", "b\u202e", "]]>", "&amp;"))
    known = [x.get("value") for x in ElementTree.fromstring(label_studio.config_of(classes)).iter("Label")]
    found = {x["value"]["brushlabels"][0] for x in label_studio.results(noise(), classes)}
    assert known == ["ä?", "b\u202e", "]]>", "&amp;", "__ignore__"]
    assert found <= set(known)


def test_nothing_at_all(tmp_path):
    label_studio.join(tmp_path, [], CLASSES)
    assert json.loads((tmp_path / "label_studio" / "tasks.json").read_text()) == []


def test_an_image_that_is_too_large():
    empty = np.zeros(0, np.int64)
    with pytest.raises(ValueError, match=r"32768 x 32768 pixels: brushes of Label Studio have fewer than 2\^30"):
        BrushMask.pack(empty, empty, (2**15, 2**15))


def test_a_prediction_that_was_corrected_in_label_studio(tmp_path):
    """The sample was imported, corrected with eraser and brush, and exported: samples/write_label_studio.py."""
    dataset = read(sample("label_studio_corrected", tmp_path), None)
    names = ("background", "tree & <b>", "road, wide", 'a "sign"')
    values = np.array([dataset.classes.names.index(name) for name in names] + [255] * 252)
    assert np.array_equal(labels(dataset), values[mask_of("label_studio_corrected")])
    with Image.open(SAMPLES / "label_studio_corrected" / "prediction.png") as file:
        changed = np.array(file) != mask_of("label_studio_corrected")
    assert 0 < changed.sum() < 100
