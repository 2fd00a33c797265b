"""The trip of docs/label-train-correct.md with each tool: label, train, predict, correct, train on all.

People are replaced by the ground truth of generated scenes (the first labels) and by a rectangle that is drawn over
each draft (the correction), in the form in which the tool exports it.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from semask.checkpoints.sources import load
from semask.data import catalog
from semask.data.classes import Classes
from semask.data.dataset import SegmentationDataset
from semask.data.formats.coco import coco
from semask.data.formats.label_studio import label_studio
from semask.data.formats.labelme import labelme
from semask.prediction.output import Written, find
from semask.prediction.recipe import model_classes
from semask.prediction.segmentation import Segmentation
from semask.synthetic.classes import CLASSES

FAST = (
    "--model.encoder", "swin_nano", "--model.channels", "16", "--training.cpu", "--training.steps", "2",
    "--training.batch_size", "2", "--augmentation.crop", "[32,32]", "--data.workers", "0",
)  # fmt: skip
SIZE = (48, 64)
BOX = (8, 10, 40, 30)
"""Left, top, right and bottom of the correction."""


def export_label_studio(sources: Sequence[Path], corrections: Sequence[str | None], target: Path) -> None:
    """Make an export of what was imported: predictions become annotations, a rectangle the last region."""
    tasks = []
    left, top, right, bottom = np.array(BOX) * 100 / [SIZE[1], SIZE[0], SIZE[1], SIZE[0]]
    for source, label in zip(sources, corrections, strict=True):
        for task in json.loads((source / "label_studio" / "tasks.json").read_text()):
            (prediction,) = task.pop("predictions")
            results = prediction["result"]
            if label is not None:
                value = {"x": left, "y": top, "width": right - left, "height": bottom - top, "rotation": 0}
                size = {key: results[0][key] for key in ("original_width", "original_height")}
                results.append({"type": "rectanglelabels", "value": value | {"rectanglelabels": [label]}, **size})
            tasks.append(task | {"id": len(tasks) + 1, "annotations": [{"id": 1, "result": results}]})
    (target / "project-1.json").write_text(json.dumps(tasks))


def export_cvat(sources: Sequence[Path], corrections: Sequence[str | None], target: Path) -> None:
    """Make "COCO 1.0" of what was imported: every mask is a crowd, a mask that was painted last is the last."""
    from pycocotools.mask import encode

    images, annotations = [], []
    (names,) = {tuple(x["name"] for x in json.loads((s / "cvat" / "labels.json").read_text())) for s in sources}
    for source, label in zip(sources, corrections, strict=True):
        for image in ElementTree.parse(source / "cvat" / "annotations.xml").iter("image"):
            size = {key: int(image.get(key)) for key in ("height", "width")}
            images.append({"id": len(images) + 1, "file_name": image.get("name"), **size})
            found = [(x.get("label"), pixels_of(x, (size["height"], size["width"]))) for x in image.iter("mask")]
            if label is not None:
                painted = np.zeros((size["height"], size["width"]), np.uint8)
                painted[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
                found.append((label, painted))
            for name, pixels in found:
                packed = encode(np.asfortranarray(pixels))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": len(images),
                        "category_id": names.index(name) + 1,
                        "segmentation": {"size": packed["size"], "counts": packed["counts"].decode()},
                        "iscrowd": 1,
                        "attributes": {"occluded": False},
                    }
                )
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    values = {"images": images, "categories": categories, "annotations": annotations}
    (target / "annotations").mkdir()
    (target / "annotations" / "instances_default.json").write_text(json.dumps(values))


def pixels_of(mask: ElementTree.Element, size: tuple[int, int]) -> np.ndarray:
    """Pixels of a mask of CVAT."""
    left, top, width, height = (int(mask.get(key)) for key in ("left", "top", "width", "height"))
    counts = [int(count) for count in mask.get("rle").split(",")]
    pixels = np.zeros(size, np.uint8)
    pixels[top : top + height, left : left + width] = np.repeat(np.arange(len(counts)) % 2, counts).reshape(height, -1)
    return pixels


def export_labelme(sources: Sequence[Path], corrections: Sequence[str | None], target: Path) -> None:
    """Save the files next to the images; a rectangle is the last shape."""
    for source, label in zip(sources, corrections, strict=True):
        for file in (source / "labelme").glob("*.json"):
            values = json.loads(file.read_text())
            if label is not None:
                corners = [[BOX[0], BOX[1]], [BOX[2], BOX[3]]]
                values["shapes"].append({"label": label, "points": corners, "shape_type": "rectangle"})
            (target / file.name).write_text(json.dumps(values | {"imagePath": Path(values["imagePath"]).name}))


def drafts_of(kind: str, out: Path, maps: dict[Path, np.ndarray], classes: Classes) -> None:
    """Write an output of label maps, without a model."""
    output, written = find(kind), []
    for image, label in maps.items():
        rows = partial(lambda label, count: iter([label]), label)
        made = Segmentation(image, out / image.stem, classes, SIZE, rows, Image.open, out)
        output.write(made)
        written.append(Written(image, made.stem))
    if output.join is not None:
        output.join(out, written, classes)


EXPORTS: dict[str, tuple[Callable[..., SegmentationDataset], Callable[..., None]]] = {
    "label_studio": (label_studio, export_label_studio),
    "cvat": (coco, export_cvat),
    "labelme": (labelme, export_labelme),
}
"""Kind of output -> what reads the export of the tool, and what exports."""


@pytest.mark.parametrize("kind", EXPORTS)
def test_label_train_predict_correct_train(semask, scenes, tmp_path, monkeypatch, kind):
    pytest.importorskip("rasterio")
    pytest.importorskip("pycocotools")
    monkeypatch.chdir(tmp_path)
    first, photos, labels = tmp_path / "first", tmp_path / "photos", tmp_path / "labels"
    for folder, split, count in ((first, "train", 4), (photos, "val", 2)):
        folder.mkdir()
        for image in sorted((scenes / "images" / split).iterdir())[:count]:
            shutil.copy(image, folder)
    shutil.copytree(first, labels / "images" if kind != "labelme" else labels)
    read, export = EXPORTS[kind]

    # 1. Label: the ground truth, as a person would have drawn it in the tool.
    classes = Classes(CLASSES)
    truth = {}
    for image in sorted(first.iterdir()):
        with Image.open(scenes / "annotations" / "train" / f"{image.stem}.png") as mask:
            truth[image] = np.array(mask)
        if kind == "labelme":  # its outlines have no holes, and what is ignored lies below all others
            truth[image][truth[image] == 255] = 0
    drafts_of(kind, tmp_path / "drawn", truth, classes)
    export([tmp_path / "drawn"], [None], labels)
    assert catalog.recognize(labels).format == read.__name__

    # 2. Train, 3. predict.
    semask("train", "labels", *FAST, "--training.pretrained", "null", "--out", "runs/first")
    semask("predict", "runs/first", "photos", "--out", "drafts", "--write", kind, "mask", "confidence")
    known = model_classes(load("runs/first"))
    assert set(classes.names) <= set(known.names)

    # 4. Correct: one class is drawn over a part of each draft. All images and labels are put into one folder.
    for image in photos.iterdir():
        shutil.copy(image, labels / "images" if kind != "labelme" else labels)
    shutil.rmtree(labels / "annotations", ignore_errors=True)
    correction = classes.names[2]
    if kind == "cvat":  # the labels of a project are those of the first model
        drafts_of(kind, tmp_path / "drawn", {x: renamed(y, classes, known) for x, y in truth.items()}, known)
    export([tmp_path / "drawn", tmp_path / "drafts"], [None, correction], labels)
    dataset = read(labels, None)
    both = {image.name: dataset.label(index).numpy() for index, (image, _) in enumerate(dataset.pairs)}
    assert dataset.classes.names == known.names
    assert len(both) == 6
    for image, label in truth.items():
        assert np.array_equal(both[image.name], renamed(label, classes, known))
    for image in photos.iterdir():
        with Image.open(tmp_path / "drafts" / f"{image.stem}.png") as mask:
            expected = np.array(mask)
        expected[BOX[1] : BOX[3], BOX[0] : BOX[2]] = known.names.index(correction)
        assert np.array_equal(both[image.name], expected)

    # 5. Train again, from the weights of the first model.
    semask("train", "labels", *FAST, "--training.pretrained", "runs/first", "--out", "runs/second")
    assert model_classes(load("runs/second")).names == known.names


def renamed(label: np.ndarray, classes: Classes, known: Classes) -> np.ndarray:
    """The same map with the indices of other classes."""
    values = np.full(256, 255, np.uint8)
    values[: len(classes)] = [known.names.index(name) for name in classes.names]
    return values[label]
