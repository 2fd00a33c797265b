"""Files of every kind that version 0.1 wrote: they are read, and give what they gave."""

import csv
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import semask as package

ARCHIVE = Path(__file__).parent / "goldens/version_0_1/files.tar.xz"
PHOTO = "scenes/images/val/00001.jpg"


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("version_0_1")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def folder(unpacked, tmp_path, monkeypatch) -> Path:
    """The files; the recipes in them name the scenes by a path in here."""
    copy = shutil.copytree(unpacked, tmp_path / "files")
    monkeypatch.chdir(copy)
    return copy


def test_the_report_of_a_run(folder):
    text = package.report("run").read_text(encoding="utf-8")
    for part in ("Training loss", "Learning rate", "mIoU of prior 1", "model.encoder", "IoU %"):
        assert part in text


@pytest.mark.parametrize("name", ["run", "run/last.safetensors", "pretrained", "masks.safetensors"])
def test_checkpoints(folder, name):
    model = package.load(name).eval()
    image = torch.linspace(0, 200, 3 * 64 * 96).sin().view(1, 3, 64, 96)
    with torch.inference_mode():
        outputs = model(image).prediction._asdict()
    expected = np.load("outputs.npz")
    part = "masks.safetensors" if name == "masks.safetensors" else "run"
    compared = [field for field, x in outputs.items() if torch.is_tensor(x)]
    assert {f"{part}/{field}" for field in compared} == {key for key in expected.files if key.startswith(f"{part}/")}
    for field in compared:
        right = torch.from_numpy(expected[f"{part}/{field}"])
        torch.testing.assert_close(outputs[field], right, rtol=0, atol=1e-3 * float(right.std()))


@pytest.mark.parametrize(
    ("name", "needs", "same"),
    [
        ("run", "torch", 0.999),
        ("model.onnx", "onnxruntime", 0.999),
        ("int8.onnx", "onnxruntime", 0.9),
        ("model.xml", "openvino", 0.999),
        ("int8.xml", "openvino", 0.9),
        ("model.pt2", "torch", 0.999),
    ],
)
def test_predictions(semask, folder, name, needs, same):
    pytest.importorskip(needs)
    if name.endswith(".pt2") and torch.__version__.split(".")[:2] != ["2", "15"]:
        pytest.skip("torch.export files are for the version of torch that wrote them")
    trust = ["--trust", "true"] if name.endswith(".pt2") else []
    semask("predict", name, PHOTO, "--out", "again", *trust)
    found, expected = (np.asarray(Image.open(f"{out}/00001.png")) for out in ("again", "predicted"))
    assert len(np.unique(expected)) > 3
    assert (found == expected).mean() >= same


def test_evaluations(semask, folder):
    semask("evaluate", "run", "--out", "report.json", "--device", "cpu")
    report, before = (json.loads(Path(name).read_text(encoding="utf-8")) for name in ("report.json", "run/best.json"))
    assert report["miou"] == pytest.approx(before["metrics"]["miou"], abs=1e-4)


def test_a_run_goes_on(semask, folder):
    before = Path("stopped/log.csv").read_text(encoding="utf-8")
    semask("train", "--config", "stopped.yaml", "--out", "stopped", "--resume")
    after = Path("stopped/log.csv").read_text(encoding="utf-8")
    assert after.startswith(before)
    assert [row["step"] for row in csv.DictReader(after.splitlines())] == ["1", "2", "3", "4"]
    assert package.load("stopped").metadata["step"] == 4


def test_recipes_and_descriptions(semask, folder):
    printed = semask("train", "--config", "run.yaml", "--out", "new", "--print_config").out
    assert yaml.safe_load(printed)["model"]["channels"] == 16
    for name in ("run", "pretrained", "masks.safetensors"):
        assert "(encoder 2.4" in semask("info", name).out
