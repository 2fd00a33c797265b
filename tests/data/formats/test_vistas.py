import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data import catalog
from semask.data.formats.vistas import FORMAT, vistas

LABELS = [
    {"name": "void--a", "readable": "A", "evaluate": False, "color": [0, 0, 0], "instances": False},
    {"name": "object--b", "readable": "B", "evaluate": True, "color": [1, 2, 3], "instances": True},
    {"name": "object--c", "readable": "C", "evaluate": True, "color": [4, 5, 6], "instances": True},
]


def write(root: Path, version: str = "v2.0", *, kind: str = "labels", labels: object = LABELS) -> Path:
    (root / (f"config_{version}.json" if version else "config.json")).write_text(json.dumps({"labels": labels}))
    for split in ("training", "validation"):
        (root / split / "images").mkdir(parents=True, exist_ok=True)
        (root / split / version / kind).mkdir(parents=True)
        Image.new("RGB", (3, 1)).save(root / split / "images/a.jpg")
        numbers = np.array([[0, 1, 2]])
        mask = numbers.astype(np.uint8) if kind == "labels" else (numbers * 256 + 7).astype(np.uint16)
        Image.fromarray(mask).save(root / split / version / kind / "a.png")
    return root


@pytest.mark.parametrize("version", ["v2.0", "v1.2", ""])
@pytest.mark.parametrize("kind", ["labels", "instances"])
def test_classes_that_are_evaluated(tmp_path, version, kind):
    root = write(tmp_path, version, kind=kind)
    assert catalog.recognize(root).format == "vistas"
    for split in FORMAT.splits_in(root).values():
        dataset = vistas(root, split)
        dataset.check()
        assert dataset.label(0).tolist() == [[255, 0, 1]]
        assert (dataset.classes.names, dataset.classes.palette) == (("B", "C"), ((1, 2, 3), (4, 5, 6)))


def test_versions(tmp_path):
    write(tmp_path, "v2.0")
    write(tmp_path, "v1.2", labels=[*LABELS[:2], {**LABELS[2], "readable": "older"}])
    assert vistas(tmp_path, "training").classes.names == ("B", "C")
    assert vistas(tmp_path, "training/v1.2").classes.names == ("B", "older")
    with pytest.raises(ValueError, match="is no version of Mapillary Vistas"):
        vistas(tmp_path, "training/../..")


@pytest.mark.parametrize(
    ("labels", "message"),
    [(None, 'expected "labels"'), ([3], 'label 0 has no "evaluate"'), ([{"evaluate": True}], "class name")],
)
def test_a_wrong_config(tmp_path, labels, message):
    with pytest.raises(ValueError, match=rf"config_v2.0.json: .*{message}"):
        vistas(write(tmp_path, labels=labels), "training")


def test_no_masks(tmp_path):
    (write(tmp_path) / "config_v2.0.json").unlink()
    with pytest.raises(ValueError, match=r"no masks of Mapillary Vistas; looked for training/v2.0/labels or"):
        vistas(tmp_path, "training")
