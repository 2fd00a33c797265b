"""A data set is one file with its class table: found by its name, and by nothing else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import semask as package
from semask.data import catalog
from semask.data.catalog import class_tables
from semask.data.classes import Classes
from semask.data.source import OPTIONS, Data

FORMATS = tuple(sorted(path.stem for path in Path(catalog.__file__).with_name("formats").glob("[a-z]*.py")))
PUBLIC = ("ade20k", "cityscapes", "coco_stuff")
NO_FORMAT = [
    "",
    ".",
    "..",
    "__init__",
    "catalog",
    "folder.py",
    "../classes",
    "os",
    "semask.cli",
    "fold\0er",
    "x" * 2000,
]


def test_formats_are_the_files_of_the_folder():
    assert catalog.names() == FORMATS
    assert {*PUBLIC, "folder"} <= set(FORMATS)
    assert set(PUBLIC) <= set(class_tables())
    for name in FORMATS:
        splits = catalog.find(name).splits
        assert callable(splits) or splits.keys() == {"train", "val"}
        assert catalog.find(name).recognize is not None
        assert catalog.find(name).options <= set(OPTIONS)


@pytest.mark.parametrize("name", NO_FORMAT)
def test_what_is_no_format_is_refused_and_not_imported(name):
    before = set(sys.modules)
    for look_up in (catalog.find, Classes.of, lambda x: Data("x", format=x)):
        with pytest.raises(ValueError, match="give one of ade20k, cityscapes, ") as error:
            look_up(name)
        assert "\n" not in str(error.value)
    assert set(sys.modules) == before


@pytest.mark.parametrize("format", ["ade20k", "cityscapes", "coco_stuff"])
@pytest.mark.parametrize("option", [{"channels": 4}, {"image_dir": "x"}, {"label_dir": "x"}, {"object_255": True}])
def test_options_that_a_format_does_not_have(format, option):
    with pytest.raises(
        ValueError, match=rf"^data\.{next(iter(option))} is for the format .*folder.*, not for {format}:"
    ):
        Data("x", format=format, **option)
    assert Data("x", **option)


def test_help_names_the_formats(semask):
    for command in (["train"], ["evaluate"]):
        text = " ".join(semask(*command, "--help").out.split())
        assert f"one of {', '.join(FORMATS)}" in text
    assert f"one of {', '.join(class_tables())}" in " ".join(semask("convert", "--help").out.split())


def test_an_unknown_format_on_the_command_line(semask, tmp_path):
    for command in (
        ["train", "--data.root=x", f"--out={tmp_path}", "--data.format=kitti"],
        ["convert", "x", "--format=kitti"],
        ["evaluate", "x", "--format=kitti"],
    ):
        assert "give one of ade20k, cityscapes, " in semask.refused(*command)


DROPPED_IN = '''
"""Yard: ROOT/SPLIT/NAME.jpg with ROOT/SPLIT/NAME.png."""

from pathlib import Path

from semask.data.classes import Classes
from semask.data.dataset import SegmentationDataset
from semask.data.format import Format


def yard(root: Path, split: str, *, channels: int = 3) -> SegmentationDataset:
    """Find the pairs of a split."""
    pairs = [(path, path.with_suffix(".png")) for path in sorted((root / split).glob("*.jpg"))]
    return SegmentationDataset(pairs, Classes.of("yard"), name="yard", channels=channels)


FORMAT = Format(find=yard, splits={"train": "learn", "val": "test"})
'''
USED = """
import dataclasses, json, sys
from semask.commands.evaluate import evaluate
from semask.data.source import Data
from semask.checkpoints.metadata import check_recipe
import semask

data = Data(sys.argv[1], format="yard", channels=1)
image, label = data.dataset("train")[0]
check_recipe({"data": dataclasses.asdict(data)})
try:
    Data(sys.argv[1], format="yard", image_dir="pictures")
except ValueError as error:
    refused = str(error)
print(json.dumps({
    "file": semask.__file__,
    "image": list(image.shape),
    "label": label.tolist(),
    "pixels": Data(sys.argv[1], format="yard").dataset("val").check().pixels.tolist(),
    "refused": refused,
}))
"""


def test_a_format_is_one_new_file_and_its_table(tmp_path):
    copy = shutil.copytree(Path(package.__file__).parent, tmp_path / "semask")
    (copy / "data/formats/yard.py").write_text(DROPPED_IN, encoding="utf-8")
    (copy / "data/formats/yard.csv").write_text("index,name,r,g,b\n0,lawn,0,200,0\n1,hedge,0,90,0\n", encoding="utf-8")
    for split, value in (("learn", 0), ("test", 1)):
        (tmp_path / "yards" / split).mkdir(parents=True)
        Image.new("RGB", (3, 2)).save(tmp_path / "yards" / split / "a.jpg")
        Image.fromarray(np.full((2, 3), value, dtype=np.uint8)).save(tmp_path / "yards" / split / "a.png")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment).stdout

    printed = json.loads(run("-c", USED, str(tmp_path / "yards")))
    assert printed == {
        "file": str(copy / "__init__.py"),
        "image": [1, 2, 3],
        "label": [[0, 0, 0], [0, 0, 0]],
        "pixels": [0, 6],
        "refused": "data.image_dir is for the format folder or folders, not for yard: leave it out",
    }
    run(
        *("-m", "semask.cli", "train", "--model.encoder=swin_nano", "--model.num_classes=2", "--model.channels=8"),
        *("--data.format=yard", "--data.root=yards", "--data.workers=0", "--augmentation.crop=[32,32]"),
        *(
            "--augmentation.scale=[64,32]",
            "--training.steps=1",
            "--training.batch_size=2",
            "--training.cpu",
            "--out=run",
        ),
    )
    run("-m", "semask.cli", "evaluate", "run", "--workers=0", "--device=cpu", "--out=report.json")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["data"]["name"], report["data"]["format"]) == ("yard", "yard")
    assert [row["name"] for row in report["classes"]] == ["lawn", "hedge"]


LIGHT = {
    "torch": ["classes", "images", "source", "catalog", "dataset", "diagnostics", "formats.folder", "formats.ade20k"],
    "torchvision": ["normalization", "transforms", "loader"],
}


@pytest.mark.parametrize("library", LIGHT)
def test_what_is_imported_without(library):
    modules = [f"semask.data.{name}" for name in LIGHT[library]]
    code = f"""
import importlib, sys, types
semask = sys.modules["semask"] = types.ModuleType("semask")  # whatever the package itself imports
semask.__path__ = [{str(Path(package.__file__).parent)!r}]
for name in {modules!r}:
    importlib.import_module(name)
    assert {library!r} not in sys.modules, name
"""
    subprocess.run([sys.executable, "-c", code], check=True)
