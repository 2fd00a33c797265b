import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import semask as package
from semask.engines.catalog import companions, find, format_of, formats, is_exported, require_precision


def test_the_formats():
    endings = {row.name: row.ending for row in formats().values()}
    assert endings == {
        "onnx": ".onnx",
        "openvino": ".xml",
        "torch": ".pt2",
        "aotinductor": ".aoti.pt2",
        "tensorrt": ".engine",
    }
    assert {name for name, row in formats().items() if row.holds_code} == {"torch", "aotinductor", "tensorrt"}
    assert {name for name, row in formats().items() if row.arrays} == {"onnx", "openvino"}


def test_a_file_is_of_the_format_of_its_ending():
    names = {
        "a.onnx": "onnx",
        "b/c.XML": "openvino",
        "c.pt2": "torch",
        "c.aoti.pt2": "aotinductor",
        "e.engine": "tensorrt",
    }
    for name, format in names.items():
        assert format_of(name).name == format
    for name in ("a.safetensors", "onnx", "a.onnx.data", "os.path", "a.__init__", "../formats/onnx.py"):
        assert format_of(name) is None
    assert not is_exported(None)


def test_other_formats_are_refused():
    with pytest.raises(
        ValueError, match="format is 'coreml': choose one of aotinductor, onnx, openvino, tensorrt, torch"
    ):
        find("coreml")
    with pytest.raises(ValueError, match=r"use --format .*openvino or torch.*fp32 or fp16 or int8"):
        require_precision(find("onnx"), "bf16")


def test_files_that_belong_to_another(tmp_path):
    for name in ("a.onnx.data", "b.bin", "c.engine.json"):
        (tmp_path / name).touch()
    found = {
        name: [x.name for x in companions(tmp_path / name)] for name in ("a.onnx", "b.xml", "c.engine", "d.pt2", "e")
    }
    assert found == {"a.onnx": ["a.onnx.data"], "b.xml": ["b.bin"], "c.engine": ["c.engine.json"], "d.pt2": [], "e": []}


def test_an_ending_is_looked_up_without_torch_and_engines():
    code = """
import json, sys
from semask.engines.catalog import format_of
loaded = [x for x in ("torch", "onnx", "onnxruntime", "openvino") if x in sys.modules]
print(json.dumps([format_of("x.aoti.pt2").name, loaded]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == ["aotinductor", []]


DROPPED_IN = '''
"""A format for this test: the weights of the last layer, as NumPy keeps them."""

import numpy as np

from semask.engines.format import Engine, Format


def save(request):
    weight = request.model.decoder.classifier.weight.detach().numpy()  # [K, C, 1, 1]
    np.savez(request.path.open("wb"), weight=weight, about=request.described)
    return [request.path]


def open_file(path, options):
    with np.load(path) as file:
        weight, about = file["weight"], str(file["about"])

    def run(image):
        size = (image.shape[0], len(weight), -(-image.shape[2] // 4), -(-image.shape[3] // 4))
        return [np.broadcast_to(weight.mean(axis=(1, 2, 3))[None, :, None, None], size)]

    return Engine(about, ("logits",), run, {"engine": "numpy"})


FORMAT = Format("weights", ".npz", save, open_file, ("fp32",), arrays=True)
'''


def test_a_format_is_one_new_file(tmp_path):
    copy = shutil.copytree(Path(package.__file__).parent, tmp_path / "semask")
    (copy / "engines" / "formats" / "weights.py").write_text(DROPPED_IN, encoding="utf-8")
    make = """
import sys, semask
semask.save("model.safetensors", semask.build("swin_nano", num_classes=3, channels=8), {})
from semask.cli import main
main(["export", "model.safetensors", "--format", "weights", "--checks", "1", "--limit", "100"])
"""
    predict = """
import sys
sys.modules["torch"] = None
import numpy as np
import semask
from semask.prediction.array_predictor import open_array_predictor
prediction = open_array_predictor("model.npz")(np.zeros((20, 30, 3), np.uint8))
print(semask.__file__, *prediction.label.shape, len(np.unique(prediction.label)))
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    printed = []
    for code in (make, predict):
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert run.returncode == 0, run.stderr
        printed.append(run.stdout)
    assert (tmp_path / "model.npz.report.json").is_file()
    assert printed[1].split() == [str(copy / "__init__.py"), "20", "30", "1"]
