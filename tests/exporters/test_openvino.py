import json

import pytest
import torch
from small_models import differences, small, smooth, typical_difference

from semask.exporters import openvino as exporter
from semask.exporters.request import Request

ov = pytest.importorskip("openvino")

SAMPLE = torch.zeros(1, 3, 64, 96)


@pytest.fixture(scope="module")
def fpn():
    return small(num_classes=19)


def save(model, path, precision="fp32", calibration=()):
    return exporter.save(Request(model, path, SAMPLE, precision, {"word": "Straße"}, calibration))


def opened(file, hint="f32"):
    compiled = ov.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1})
    return lambda image: [torch.from_numpy(x.copy()) for x in compiled(image.numpy()).values()]


@pytest.fixture(scope="module")
def full(fpn, tmp_path_factory):
    """Files of `fpn` in float32; only to be read."""
    return save(fpn, tmp_path_factory.mktemp("full") / "model.xml")


def test_float32_at_every_size(fpn, full):
    assert [file.name for file in full] == ["model.xml", "model.bin"]
    assert sorted(full[0].parent.iterdir()) == sorted(full)
    assert max(differences(fpn, opened(full[0]))) < 1e-3


def test_the_file_carries_its_metadata_and_names(full):
    model = ov.Core().read_model(full[0])
    assert json.loads(model.get_rt_info(["semask"]).astype(str)) == {"word": "Straße"}
    assert [x.get_any_name() for x in (*model.inputs, *model.outputs)] == ["image", "logits"]


def test_weights_of_16_bits(fpn, full, tmp_path):
    half = save(fpn, tmp_path / "half.xml", "bf16")
    assert half[1].stat().st_size < 0.6 * full[1].stat().st_size
    assert typical_difference(fpn, opened(half[0])) < 2e-3
    assert typical_difference(fpn, opened(half[0], "bf16")) < 2e-2


@pytest.mark.slow
def test_int8_is_calibrated(fpn, full, tmp_path):
    pytest.importorskip("nncf")
    files = save(fpn, tmp_path / "int8.xml", "int8", smooth(4, (64, 96)).split(1))
    assert files[1].stat().st_size < 0.4 * full[1].stat().st_size
    assert 0 < typical_difference(fpn, opened(files[0])) < 0.1


@pytest.mark.parametrize("decoder", ["maskformer", "mask2former"])
def test_mask_decoders_in_bfloat16(decoder, tmp_path):
    model = small(decoder)
    half = save(model, tmp_path / "half.xml", "bf16")
    assert typical_difference(model, opened(half[0], "bf16")) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["maskformer", "mask2former"])
def test_mask_decoders_in_int8(decoder, tmp_path):
    pytest.importorskip("nncf")
    model = small(decoder)
    files = save(model, tmp_path / "int8.xml", "int8", smooth(4, (64, 96)).split(1))
    assert 0 < typical_difference(model, opened(files[0])) < 0.3


def test_products_of_activations_stay_as_they_are(full):
    found = exporter.products(ov.Core().read_model(full[0]))
    assert any("attention" in name for name in found)
    assert not any(part in name for name in found for part in ("mlp", "qkv", "projection", "semantic_key"))
