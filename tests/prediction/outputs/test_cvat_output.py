"""Masks for CVAT give the label map back, and what CVAT's exporters make of corrected ones is read."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from segmented import CLASSES, MAPS, NAMES, noise, segmentation
from tool_samples import SAMPLES, labels

from semask.data import catalog
from semask.data.classes import Classes
from semask.data.formats.coco import coco
from semask.data.formats.voc import voc
from semask.prediction.output import Written
from semask.prediction.outputs import cvat

pytest.importorskip("rasterio")
SAMPLE = SAMPLES / "cvat_corrected"
CORRECTED = Classes(("background", "tree & <b>", "road, wide", 'a "sign"'))


def read(image: ElementTree.Element, names: tuple[str, ...] = NAMES) -> np.ndarray:
    """Fill the masks of an image."""
    values = {name: index for index, name in enumerate(names)} | {"__ignore__": 255}
    label = np.full((int(image.get("height")), int(image.get("width"))), 77, np.uint8)
    for mask in image.iter("mask"):
        left, top, width, height = (int(mask.get(key)) for key in ("left", "top", "width", "height"))
        counts = [int(count) for count in mask.get("rle").split(", ")]
        pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
        assert pixels.any(0).all() or pixels.any(1)[[0, -1]].all()  # the box is no larger than it must be
        part = label[top : top + height, left : left + width]
        assert (part[pixels] == 77).all()  # no two masks have a pixel in common
        part[pixels] = values[mask.get("label")]
    return label


def write(folder: Path, maps: list[np.ndarray], classes: Classes = CLASSES, names=None) -> Path:
    """Write the file of several images."""
    images = []
    for number, label in enumerate(maps):
        image = folder / "photos" / (f"{number}.png" if names is None else names[number])
        made = segmentation(folder, label, image=image, stem=folder / "out" / f"{number}", classes=classes)
        cvat.write(made)
        images.append(Written(made.image, made.stem))
    cvat.join(folder / "out", images, classes)
    return folder / "out" / "cvat" / "annotations.xml"


def test_masks_give_the_maps_back(tmp_path):
    file = write(tmp_path, list(MAPS.values()))
    root = ElementTree.parse(file).getroot()
    assert root.findtext("version") == "1.1"
    assert [label.findtext("name") for label in root.iter("label")] == [*NAMES, "__ignore__"]
    assert root.find("meta/task/labels/label/color").text == "#{:02x}{:02x}{:02x}".format(*CLASSES.palette[0])
    images = list(root.iter("image"))
    numbers = range(len(MAPS))
    assert [(image.get("id"), image.get("name")) for image in images] == [(f"{i}", f"{i}.png") for i in numbers]
    for image, label in zip(images, MAPS.values(), strict=True):
        assert np.array_equal(read(image), label)
    assert {path.name for path in file.parent.iterdir()} == {"annotations.xml", "labels.json"}  # the parts are gone


def test_noise_of_any_kind_gives_the_map_back(tmp_path):
    maps = [np.random.default_rng(seed).choice(np.array([0, 1, 255], np.uint8), (15, 17)) for seed in range(10)]
    for image, label in zip(ElementTree.parse(write(tmp_path, maps)).iter("image"), maps, strict=True):
        assert np.array_equal(read(image), label)


def test_labels_to_paste(tmp_path):
    labels = json.loads((write(tmp_path, [noise()]).parent / "labels.json").read_text(encoding="ascii"))
    assert [label["name"] for label in labels] == [*NAMES, "__ignore__"]
    assert labels[1] == {"name": NAMES[1], "color": "#00fc00", "type": "mask", "attributes": []}


def test_names_that_xml_does_not_have(tmp_path):
    names = ["a \"<b>,&'.png", "b\x01\n\t.png", "c\udcff.png"]
    classes = Classes(("ä\ufffe", "b\u202e", "]]>", "&amp;"))
    root = ElementTree.parse(write(tmp_path, [noise()] * 3, classes, names)).getroot()
    assert [image.get("name") for image in root.iter("image")] == [names[0], "b?\n\t.png", "c?.png"]
    assert [x.findtext("name") for x in root.iter("label")] == ["ä?", "b\u202e", "]]>", "&amp;", "__ignore__"]


def test_nothing_at_all(tmp_path):
    cvat.join(tmp_path, [], CLASSES)
    assert not list(ElementTree.parse(tmp_path / "cvat" / "annotations.xml").iter("image"))


def test_the_sample_is_what_is_written(tmp_path):
    with Image.open(SAMPLE / "prediction.png") as file:
        label = np.array(file)
    written = write(tmp_path, [label], CORRECTED, ["yard, 1+1.png"])
    for name in ("annotations.xml", "labels.json"):
        assert (written.parent / name).read_text("utf-8") == (SAMPLE / "import" / name).read_text("utf-8")


@pytest.mark.parametrize(("folder", "find"), [("coco", coco), ("voc", voc)])
def test_corrected_masks_come_back_exactly(folder, find):
    with Image.open(SAMPLE / "prediction.png") as file:
        expected = np.array(file)
    expected[expected == 3] = 1  # as samples/write_cvat_corrected.py corrects it
    expected[40:42, 30:50] = 3
    dataset = find(SAMPLE / folder, None)
    assert dataset.classes.names == CORRECTED.names
    assert np.array_equal(labels(dataset), expected)
    assert catalog.recognize(SAMPLE / folder).format == folder
