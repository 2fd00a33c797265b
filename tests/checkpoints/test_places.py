"""The model in the package: whole, small, and used where none is named."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import semask as package
from semask.checkpoints.places import DEFAULT, EMBEDDED, PHOTOS
from semask.checkpoints.pretrained import load_pretrained
from semask.checkpoints.sources import find_checkpoint
from semask.checkpoints.tensors import read_header
from semask.data.images import read_image

CLASSES = 11
STEM = "backbone.model.conv_stem.weight"


def test_it_is_small_and_says_what_it_is():
    path = EMBEDDED[DEFAULT]
    assert path.stat().st_size < 8_000_000
    header = read_header(path)
    assert len(header["classes"]["classes"]) == CLASSES
    assert header["recipe"]["data"]["root"] == "data/camvid"
    assert not any(word in json.dumps(header) for word in ("/home/", "/root/", "/work/", "/tmp/"))


def test_its_name_is_enough(tmp_path, monkeypatch):
    model = package.load("street")
    assert model.config["num_classes"] == CLASSES
    monkeypatch.chdir(tmp_path)
    (tmp_path / "street").mkdir()
    with pytest.raises(ValueError, match="no best"):  # a folder of that name goes before
        find_checkpoint("street")
    with pytest.raises(ValueError, match="did you mean street"):
        find_checkpoint("streat")


def test_a_training_may_start_from_it():
    model = package.build("timm/tf_efficientnet_lite0", num_classes=5, channels=64, semantic_depths=0)
    report = load_pretrained(model, "street")
    assert "decoder.classifier.weight" in report.fresh  # of other classes
    assert torch.equal(model.encoder.state_dict()[STEM], package.load("street").encoder.state_dict()[STEM])


def test_a_photograph_alone_is_enough(semask, tmp_path):
    said = semask("predict", PHOTOS[0], f"--out={tmp_path / 'out'}", "--device=cpu").err
    assert "no model named: the one in the package, for street scenes (sky, building" in said.replace("\n", " ")
    label = np.array(Image.open(tmp_path / "out/street_1.png"))
    expected = package.Predictor(package.load("street"))(read_image(PHOTOS[0]))
    assert (label == expected.label).mean() > 0.98  # bf16 where the processor computes in it


def test_folders_and_patterns_of_photographs(semask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in PHOTOS:
        (tmp_path / "photos").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "photos")
    for words in (["photos"], ["photos/*.jpg"], ["photos/street_1.jpg", "photos/street_2.jpg"], ["street", "photos"]):
        semask("predict", *words, "--out=masks", "--device=cpu", "--write=mask")
        assert len(list((tmp_path / "masks").glob("*.png"))) == 2
        shutil.rmtree(tmp_path / "masks")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "which images? semask predict photo.jpg"),
        (["none"], "none: no such image"),
        (["street.safetensors"], "street.safetensors: no such image"),
        (["none.jpg"], "none.jpg: no image there"),
    ],
)
def test_what_is_missing_is_said(semask, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in semask.refused("predict", *words)


def test_a_model_without_images(semask, trained):
    assert "a model, but which images?" in semask.refused("predict", trained)
