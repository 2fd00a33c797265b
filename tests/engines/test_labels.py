"""Exported files that give the label map itself."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import SIZES, small, smooth

import semask as package
from semask.checkpoints.sources import load
from semask.engines.catalog import find
from semask.engines.check import compare
from semask.engines.description import metadata
from semask.engines.format import Request
from semask.engines.graph import Graph
from semask.engines.runtime import load_exported
from semask.prediction.predictor import Predictor
from semask.prediction.score_maps import View, label_map
from semask.settings.inference import Inference

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}


def described(model):
    return metadata(model, precision="fp32", labels=True)


@pytest.mark.parametrize("decoder", ["fpn", "maskformer"])
@pytest.mark.parametrize("size", SIZES)
def test_the_graph_chooses_as_the_predictor_does(decoder, size):
    if decoder == "maskformer":
        pytest.importorskip("transformers")
    model = small(decoder)
    images = smooth(size[0], size[1:])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "class_predictor.weight" in name:
                parameter.mul_(20)  # else all masks are of one class
        (labels,) = Graph(model, labels=True)(images)
        outputs = Graph(model)(images)
    assert labels.dtype == torch.uint8
    padded = tuple(side + -side % model.size_divisor for side in size[1:])
    if decoder == "fpn":
        view = View(outputs[0], size[1:], padded)
    else:
        view = View(outputs[1], size[1:], padded, "masks", outputs[0].softmax(-1)[..., :-1])
    assert (label_map([view], size[1:]) == labels).float().mean() > 0.999
    assert len(labels.unique()) > 1 or decoder == "maskformer"


@pytest.mark.parametrize("name", PACKAGES)
def test_files(tmp_path, name):
    pytest.importorskip(PACKAGES[name])
    model, row = small(), find(name)
    path = tmp_path / f"model{row.ending}"
    sample = smooth(1, (64, 96))
    row.export(Request(model=model, path=path, sample=sample, metadata=described(model), labels=True))
    runtime = load_exported(path, trust=True)
    assert runtime.description["outputs"] == ["labels"]
    for size in SIZES:
        images = smooth(size[0], size[1:])
        with torch.no_grad():
            expected = Graph(model, labels=True)(images)[0]
        result = runtime(images).logits
        assert result.shape == (size[0], 5, *size[1:])
        assert (result.argmax(1) == expected).float().mean() > 0.999
    image = (smooth(1, (90, 110))[0].clamp(-2, 2) + 2) / 4
    check = compare(model, runtime, [image], Inference(scale=(80, 80)))
    assert check.passes(0.1)
    assert check.pixels > 0


def test_export_and_predict(semask, trained, scenes, tmp_path):
    pytest.importorskip("onnxruntime")
    photos = scenes / "images" / "val"
    file = tmp_path / "model.onnx"
    semask("export", trained, "--out", file, "--images", photos, "--outputs", "labels")
    semask("predict", file, photos, "--out", tmp_path / "out", "--write", "mask", "json")
    predictor = Predictor(load(trained))
    for photo in sorted(photos.iterdir()):
        mask = np.array(Image.open(tmp_path / "out" / f"{photo.stem}.png"))
        assert (mask == predictor(photo).label).mean() > 0.99
    for arguments, what in (
        (["--confidence"], "confidence"),
        (["--write", "probabilities"], "probabilities"),
        (["--tile=64", "--overlap=16"], "tile"),
    ):
        message = semask.refused("predict", file, photos, "--out", tmp_path / "out", *arguments)
        assert message.startswith(f"a file exported with --outputs labels has no scores, which {what} needs")
    scaled = package.predict(file, photos, inference={"scale": (96, 72)})
    assert all(result.prediction.label.shape == (48, 64) for result in scaled)


def test_other_outputs_are_refused(semask, trained, tmp_path):
    message = semask.refused("export", trained, "--out", tmp_path / "m.onnx", "--outputs", "masks")
    assert "scores" in message
    with pytest.raises(ValueError, match="outputs is 'masks': give one of scores, labels"):
        package.export(trained, out=tmp_path / "m.onnx", outputs="masks")
