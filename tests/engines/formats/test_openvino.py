import json
import os

import numpy as np
import pytest
import torch
from small_models import differences, saturates, small, smooth, typical_difference

from semask.engines.format import Request
from semask.engines.formats import openvino as exporter

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
    assert json.loads(model.get_rt_info(["semask"]).astype(str))["word"] == "Straße"
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
    assert not exporter.has_wide_weights(ov.Core().read_model(files[0]))


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


def products_of_bytes():
    """A convolution and a linear layer whose weights use their range."""
    from openvino import opset13 as ops

    generator = np.random.default_rng(0)
    image = ops.parameter([-1, 3, -1, -1], np.float32, "image")
    weight = generator.normal(size=(16, 3, 3, 3)).astype(np.float32)
    x = ops.relu(ops.convolution(image, weight, [1, 1], [0, 0], [0, 0], [1, 1]))
    x = ops.matmul(ops.transpose(x, [0, 2, 3, 1]), generator.normal(size=(16, 8)).astype(np.float32), False, False)
    return ov.Model([x], [image], "products")


def test_int8_products_fit_into_16_bits():
    """OpenVINO's products saturate too on processors without VNNI, where weights have all 8 bits."""
    nncf = pytest.importorskip("nncf")
    images = [torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    narrow = exporter.quantized(products_of_bytes(), images)
    wide = nncf.quantize(
        products_of_bytes(),
        nncf.Dataset([image.numpy() for image in images]),
        advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.DISABLE),
    )
    for model, expected in ((narrow, False), (wide, True)):
        weights = [
            op.data.reshape(len(op.data), -1)
            for op in model.get_ops()
            if op.get_type_name() == "Constant" and op.get_element_type() == ov.Type.i8
        ]
        assert len(weights) == 2
        for weight in weights:
            assert saturates(weight.T if weight.shape[0] == 16 and weight.shape[1] == 27 else weight) is expected
        assert exporter.has_wide_weights(model) is expected


LAYER = '<net><layers><layer id="0" name="x" type="{}" version="{}"/></layers></net>'


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (LAYER.format("Loop", "opset5"), r"loops or branches \(Loop\)"),
        (LAYER.format("TensorIterator", "opset1"), r"loops or branches \(TensorIterator\)"),
        (LAYER.format("If", "opset8"), r"loops or branches \(If\)"),
        (LAYER.format("Evil", "extension"), r"operator of its own \(extension.Evil\)"),
        (LAYER.format("Evil\u202e" * 999, "evil"), r"operator of its own \(evil.Evil\?"),
        ("<net><body/></net>", "a graph in its graph"),
        ("<net>" * 2 + "</net>" * 2, "a graph in its graph"),
        ("<net>" + "<a>" * 40 + "</a>" * 40 + "</net>", "more than 32 levels deep"),
        ('<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><net>&b;</net>', "defines entities"),
        ("<html></html>", "not an OpenVINO model"),
        ("<net><layers></net>", "not an OpenVINO model, or damaged"),
        ("", "not an OpenVINO model, or damaged"),
    ],
)
def test_graphs_that_could_run_for_ever_or_run_something_else(graph, words, tmp_path):
    path = tmp_path / "model.xml"
    path.write_text(graph, encoding="utf-8")
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(ValueError, match=words) as caught:
        exporter.check_file(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(path))


def test_a_graph_larger_than_any_of_ours(full, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "LARGEST", 1000)
    with pytest.raises(ValueError, match="larger than 1,000 bytes"):
        exporter.check_file(full[0])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_weights_that_are_a_pipe(full, tmp_path):
    path = tmp_path / "model.xml"
    path.write_bytes(full[0].read_bytes())
    os.mkfifo(tmp_path / "model.bin")
    with pytest.raises(ValueError, match="not a file"):
        exporter.check_file(path)
