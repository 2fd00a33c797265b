import json

import numpy as np
import pytest
import torch
from small_models import differences, small, typical_difference

from semask import Predictor
from semask.builder import build
from semask.checkpoints.saving import save as save_checkpoint
from semask.engines.catalog import require_precision
from semask.engines.export import export
from semask.engines.format import Request
from semask.engines.formats import aot_inductor as exporter
from semask.engines.runtime import load_exported

SAMPLE = torch.zeros(1, 3, 97, 130)
BATCHES = [(1, 97, 130), (2, 97, 130), (5, 97, 130)]


def save(model, path, precision="fp32"):
    (file,) = exporter.save(Request(model, path, SAMPLE, precision, {"word": "Straße"}))
    return torch._inductor.aoti_load_package(str(file))


def test_windows_of_one_size_with_their_description(semask, scenes, tmp_path):
    photos, out = scenes / "images" / "val", tmp_path / "model.aoti.pt2"
    model = build("swin_nano", num_classes=3, channels=8, semantic_depths=[0, 0, 0, 1])
    weights = save_checkpoint(tmp_path / "model.safetensors", model, {"recipe": {"evaluation": {"scale": [64, 48]}}})
    arguments = ["export", weights, "--format", "aotinductor", "--images", photos, "--out", out, "--limit", 100]
    assert "give height and width" in semask.refused(*arguments)
    assert "smaller than the window of 64 x 64" in semask.refused(*arguments, "--size", "[64,64]")
    semask(*arguments, "--size", "[33,40]")
    report = json.loads((tmp_path / "model.aoti.pt2.report.json").read_text(encoding="utf-8"))
    assert report["check"]["max_difference"] < 1e-3
    assert report["check"]["largest_lead"] < 1e-3  # an untrained model has near-ties only
    assert report["latency"]["size"] == [33, 40]

    assert "compiled code" in semask.refused("predict", out, photos, "--out", tmp_path / "masks")
    runtime = load_exported(out, trust=True)
    assert (runtime.size, runtime.description["recipe"]["evaluation"]["mode"]) == ((33, 40), "slide")
    predictor, image = Predictor(runtime), np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    views = Predictor(model, predictor.inference).views(torch.from_numpy(image).permute(2, 0, 1))[0]
    found = predictor.views(torch.from_numpy(image).permute(2, 0, 1))[0]
    torch.testing.assert_close(found[0].scores, views[0].scores, atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="takes images of 33 x 40 only, not 32 x 40"):
        runtime(torch.zeros(1, 3, 32, 40))
    with pytest.raises(ValueError, match="compiled for cpu, not cuda"):
        load_exported(out, device="cuda", trust=True)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["fpn", "maskformer", "mask2former"])
def test_every_batch(decoder, tmp_path):
    model = small(decoder)
    compiled = save(model, tmp_path / "model.aoti.pt2")
    assert json.loads(compiled.get_metadata()["semask"]) == {"word": "Straße"}
    assert max(differences(model, compiled, BATCHES)) < 1e-3


@pytest.mark.slow
def test_bfloat16_inside_float32_outside(tmp_path):
    model = small(num_classes=19)
    compiled = save(model, tmp_path / "model.aoti.pt2", "bf16")
    assert compiled(SAMPLE)[0].dtype == torch.float32
    assert 0 < typical_difference(model, compiled) < 2e-2


def test_refuses_int8_and_names_who_does_it():
    with pytest.raises(ValueError, match="use --format onnx or openvino"):
        require_precision(exporter.FORMAT, "int8")


def test_a_size_is_for_files_of_one_size(trained, tmp_path):
    with pytest.raises(ValueError, match="onnx files take images of any size"):
        export(str(trained), size=(32, 32), out=str(tmp_path / "model.onnx"))
