import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch
from small_models import differences, small, typical_difference

from semask.engines.catalog import require_precision
from semask.engines.format import Request
from semask.engines.formats import tensorrt
from semask.engines.formats import torch_program as exporter

pytest.importorskip("torch.fx.experimental.dynamic_spec")

SAMPLE = torch.zeros(1, 3, 64, 96)


@pytest.fixture(scope="module")
def fpn():
    return small(num_classes=19)


def test_one_program_for_every_size_and_batch_with_metadata(fpn, tmp_path):
    (file,) = exporter.save(Request(fpn, tmp_path / "model.pt2", SAMPLE, metadata={"word": "Straße"}))
    extra = {"semask": ""}
    program = torch.export.load(file, extra_files=extra)
    assert json.loads(extra["semask"]) == {"word": "Straße"}
    assert max(differences(fpn, program.module())) < 1e-3


def test_bfloat16_inside_float32_outside(fpn, tmp_path):
    (file,) = exporter.save(Request(fpn, tmp_path / "model.pt2", SAMPLE, "bf16"))
    run = torch.export.load(file).module()
    assert run(torch.zeros(1, 3, 64, 64))[0].dtype == torch.float32
    assert 0 < typical_difference(fpn, run) < 2e-2


def test_refuses_int8_and_names_who_does_it():
    with pytest.raises(ValueError, match="use --format onnx or openvino"):
        require_precision(exporter.FORMAT, "int8")


def test_refuses_an_older_torch(fpn, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.fx.experimental.dynamic_spec", None)
    with pytest.raises(ValueError, match="update it"):
        exporter.save(Request(fpn, tmp_path / "model.pt2", SAMPLE, metadata={"word": "Straße"}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="for a machine without a GPU")
def test_tensorrt_is_for_gpus(fpn, tmp_path, monkeypatch):
    installed = ModuleType("tensorrt")
    installed.__spec__ = ModuleSpec("tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt", installed)
    with pytest.raises(ValueError, match="NVIDIA GPU"):
        tensorrt.save(Request(fpn, tmp_path / "model.engine", SAMPLE, "fp16"))
