"""Polygons and run lengths give the label map back, pixel for pixel."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from segmented import CLASSES, MAPS, NAMES, noise, segmentation, smooth

from semask.data.classes import Classes
from semask.prediction.output import Written
from semask.prediction.outputs import coco, labelme
from semask.prediction.polygons import regions

features = pytest.importorskip("rasterio.features")


def filled(polygons: list, shape: tuple) -> np.ndarray:
    """Fill [(rings, value)] in order, later ones over earlier ones; what is not filled is 77."""
    shapes = [({"type": "Polygon", "coordinates": rings}, value) for rings, value in polygons]
    return features.rasterize(shapes, out_shape=shape, fill=77, dtype="uint8")


def read_labelme(path: Path) -> np.ndarray:
    """Fill the polygons of a labelme file in its order."""
    content = json.loads(path.read_text())
    values = {name: index for index, name in enumerate(NAMES)} | {"__ignore__": 255}
    shapes = [([[*x["points"], x["points"][0]]], values[x["label"]]) for x in content["shapes"]]
    return filled(shapes, (content["imageHeight"], content["imageWidth"]))


def read_coco(path: Path, number: int) -> np.ndarray:
    """The label map of an image, with COCO's own library."""
    from pycocotools.coco import COCO

    data = COCO(str(path))
    names = {row["id"]: row["name"] for row in data.loadCats(data.getCatIds())}
    size = data.loadImgs([number])[0]
    label = np.full((size["height"], size["width"]), 255, np.uint8)
    for row in data.loadAnns(data.getAnnIds(imgIds=[number])):
        mask = data.annToMask(row).astype(bool)
        assert (label[mask] == 255).all()  # no two annotations have a pixel in common
        assert mask.sum() == row["area"]
        y, x = np.nonzero(mask)
        assert row["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        label[mask] = NAMES.index(names[row["category_id"]])
    return label


@pytest.mark.parametrize("label", MAPS.values(), ids=MAPS.keys())
def test_regions_give_the_map_back(label):
    found = regions(label)
    assert np.array_equal(filled([(x.rings, x.value) for x in found], label.shape), label)


@pytest.mark.parametrize("label", MAPS.values(), ids=MAPS.keys())
def test_labelme_gives_the_map_back(tmp_path, label):
    labelme.write(segmentation(tmp_path, label))
    file = tmp_path / "out" / "labelme" / "photo.json"
    assert np.array_equal(read_labelme(file), label)
    content = json.loads(file.read_text())
    assert (file.parent / content["imagePath"]).resolve() == (tmp_path / "photo.png").resolve()
    areas = [x.outline_area for x in regions(label)]
    shapes = [np.array(x["points"], float) for x in content["shapes"]]
    sizes = [abs(np.sum(x[:, 0] * np.roll(x[:, 1], -1) - np.roll(x[:, 0], -1) * x[:, 1])) / 2 for x in shapes]
    assert sizes == sorted(areas, reverse=True)  # the order "small over large" of a reader gives the same


def test_noise_of_any_kind_keeps_its_holes(tmp_path):
    for seed in range(20):
        label = np.random.default_rng(seed).choice(np.array([0, 1, 2, 255], np.uint8), (15, 17), p=[0.5, 0.3, 0.1, 0.1])
        labelme.write(segmentation(tmp_path, label))
        assert np.array_equal(read_labelme(tmp_path / "out" / "labelme" / "photo.json"), label)


def test_coco_gives_the_maps_back(tmp_path):
    pytest.importorskip("pycocotools")
    images = []
    for number, label in enumerate(MAPS.values()):
        made = segmentation(
            tmp_path, label, image=tmp_path / "photos" / f"{number}.png", stem=tmp_path / "out" / f"{number}"
        )
        coco.write(made)
        images.append(Written(made.image, made.stem))
    coco.join(tmp_path / "out", images, CLASSES)
    file = tmp_path / "out" / "coco" / "annotations.json"
    content = json.loads(file.read_text())
    assert [image["file_name"] for image in content["images"]] == [f"{number}.png" for number in range(len(MAPS))]
    assert [row["id"] for row in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    for number, label in enumerate(MAPS.values(), start=1):
        assert np.array_equal(read_coco(file, number), label)
    assert list((tmp_path / "out" / "coco").iterdir()) == [file]  # the parts are gone


def test_coco_of_nothing(tmp_path):
    coco.join(tmp_path, [], CLASSES)
    assert json.loads((tmp_path / "coco" / "annotations.json").read_text())["images"] == []


def test_coco_parts_of_another_machine(tmp_path):
    with pytest.raises(ValueError, match=r"annotations of .*a\.png are missing: all processes need one and the same"):
        coco.join(tmp_path, [Written(Path("a.png"), tmp_path / "a")], CLASSES)
    assert not (tmp_path / "coco" / "annotations.json").exists()


def test_simplified_borders_leave_no_gaps():
    pytest.importorskip("shapely")
    label = smooth()
    exact, coarse = regions(label), regions(label, simplify=2.0)
    assert sum(len(x.rings[0]) for x in coarse) < sum(len(x.rings[0]) for x in exact) / 2
    result = filled([(x.rings, x.value) for x in coarse], label.shape)
    assert not (result == 77).any()
    assert 0 < (result != label).mean() < 0.03


def test_borders_that_are_simplified_by_less_than_a_pixel_stay():
    pytest.importorskip("shapely")
    label = noise()
    found = regions(label, simplify=0.1)
    assert np.array_equal(filled([(x.rings, x.value) for x in found], label.shape), label)


def test_simplifying_needs_shapely(monkeypatch):
    monkeypatch.setitem(sys.modules, "shapely", None)
    monkeypatch.setattr("semask.extras.find_spec", lambda package: None)
    with pytest.raises(ValueError, match=r"shapely is not installed: it comes with the geo extra"):
        regions(noise(), simplify=1.0)


def test_an_image_whose_name_is_no_text(tmp_path):
    made = segmentation(tmp_path, noise(), image=tmp_path / "a\udcff.png", classes=Classes(("ä", "b", "c", "d")))
    labelme.write(made)
    coco.write(made)
    coco.join(tmp_path / "out", [Written(made.image, made.stem)], made.classes)
    for file in ("labelme/photo.json", "coco/annotations.json"):
        json.loads((tmp_path / "out" / file).read_text(encoding="ascii"))
