import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import differences, saturates, small, smooth, typical_difference
from torch import nn

from semask.builder import build
from semask.decoders.catalog import names
from semask.engines.catalog import require_precision
from semask.engines.format import Request
from semask.engines.formats import onnx as exporter
from semask.engines.symbolics import register

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
ov = pytest.importorskip("openvino")

SAMPLE = torch.zeros(1, 3, 64, 96)
MASK_DECODERS = ["maskformer", "mask2former", "mask2former_fapn", "mask2former_msfapn"]


def onnxruntime(file, *, bytes_in_float: bool = False):
    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 4
    if bytes_in_float:
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(file, settings)
    return lambda image: [torch.from_numpy(x) for x in session.run(None, {"image": image.numpy()})]


def openvino(file):
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = ov.compile_model(file, "CPU", settings)
    return lambda image: [torch.from_numpy(x.copy()) for x in compiled(image.numpy()).values()]


def save(model, path, precision="fp32", calibration=()):
    return exporter.save(Request(model, path, SAMPLE, precision, {"word": "Straße"}, calibration))


@pytest.mark.parametrize("decoder", names())
def test_every_decoder_at_every_size_in_onnxruntime_and_openvino(decoder, tmp_path):
    model = small(decoder)
    (file,) = save(model, tmp_path / "model.onnx")
    exporter.check_file(file)
    for engine in (onnxruntime, openvino):
        assert max(differences(model, engine(file))) < 1e-3, engine.__name__


def test_a_whole_encoder(tmp_path):
    model = build("swin_nano", num_classes=5, channels=32).eval()
    (file,) = save(model, tmp_path / "model.onnx")
    assert max(differences(model, onnxruntime(file))) < 1e-3


@pytest.fixture(scope="module")
def fpn():
    return small(num_classes=19)


def test_float16_inside_float32_outside(fpn, tmp_path):
    (half,) = save(fpn, tmp_path / "half.onnx", "fp16")
    (full,) = save(fpn, tmp_path / "full.onnx")
    assert half.stat().st_size < 0.75 * full.stat().st_size
    assert 0 < typical_difference(fpn, onnxruntime(half)) < 2e-3
    graph = onnx.load(half).graph
    types = {x.name: x.type.tensor_type.elem_type for x in (*graph.input, *graph.output)}
    assert types == {"image": onnx.TensorProto.FLOAT, "logits": onnx.TensorProto.FLOAT}


def test_int8_is_calibrated_and_spares_what_is_sensitive(fpn, tmp_path):
    (file,) = save(fpn, tmp_path / "int8.onnx", "int8", smooth(4, (64, 96)).split(1))
    assert 0 < typical_difference(fpn, onnxruntime(file)) < 0.05
    nodes = onnx.load(file).graph.node
    by_output = {output: node for node in nodes for output in node.output}
    quantized = {
        node.name
        for node in nodes
        if node.op_type in ("Conv", "MatMul") and by_output[node.input[0]].op_type == "DequantizeLinear"
    }
    assert any("mlp" in name for name in quantized)
    assert any("semantic_key" in name for name in quantized)
    assert not any("classifier" in name or re.search(r"attentions?(\.0)?/MatMul", name) for name in quantized)


def test_symmetric_int8_for_tensorrt(fpn, tmp_path):
    request = Request(fpn, tmp_path / "model.onnx", SAMPLE, "int8", {}, smooth(4, (64, 96)).split(1))
    graph = exporter.make(request, symmetric=True)
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    zeros = [arrays[node.input[2]] for node in graph.graph.node if node.op_type == "QuantizeLinear"]
    assert zeros
    assert all(zero.dtype == "int8" and not zero.any() for zero in zeros)
    onnx.save(graph, tmp_path / "int8.onnx")
    assert 0 < typical_difference(fpn, onnxruntime(tmp_path / "int8.onnx", bytes_in_float=True)) < 0.05
    assert exporter.has_wide_weights(graph, tmp_path)  # GPUs add products in 32 bits


def quantized_weights(graph) -> dict[str, np.ndarray]:
    """Weights [K, N] of 8 bits of the products in a graph, by the name of their node."""
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    scaled = {node.output[0]: arrays.get(node.input[0]) for node in graph.node if node.op_type == "DequantizeLinear"}
    found = {}
    for node in graph.node:
        weight = scaled.get(node.input[1]) if node.op_type in ("Conv", "MatMul") else None
        if weight is not None:
            found[node.name] = weight.reshape(len(weight), -1).T if node.op_type == "Conv" else weight
    return found


@pytest.mark.parametrize("decoder", ["fpn", "mask2former"])
def test_int8_products_fit_into_16_bits(decoder, tmp_path):
    """Processors without VNNI add two products of bytes in 16 bits: weights of all 8 bits saturate there."""
    (file,) = save(small(decoder), tmp_path / "int8.onnx", "int8", smooth(2, (64, 96)).split(1))
    weights = quantized_weights(onnx.load(file).graph)
    assert len(weights) > 30
    assert max(int(abs(weight.astype(int)).max()) for weight in weights.values()) == 64  # all 7 bits are used
    assert not any(saturates(weight) for weight in weights.values())
    assert all(saturates(np.clip(2 * weight.astype(int), -127, 127).astype(np.int8)) for weight in weights.values())
    assert not exporter.has_wide_weights(onnx.load(file), file)


@pytest.mark.parametrize("decoder", MASK_DECODERS)
def test_mask_decoders_in_16_and_8_bits(decoder, tmp_path):
    model = small(decoder)
    (half,) = save(model, tmp_path / "half.onnx", "fp16")
    assert 0 < typical_difference(model, onnxruntime(half)) < 1e-2
    (eighth,) = save(model, tmp_path / "int8.onnx", "int8", smooth(4, (64, 96)).split(1))
    assert 0 < typical_difference(model, onnxruntime(eighth)) < 0.2


def test_refuses_bfloat16_and_names_who_does_it():
    with pytest.raises(ValueError, match=r"--format .*openvino"):
        require_precision(exporter.FORMAT, "bf16")


def test_the_file_carries_its_metadata_and_the_model_is_untouched(tmp_path):
    model = small()
    model.train()
    model.eval()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    (file,) = save(model, tmp_path / "model.onnx")
    described = {x.key: x.value for x in onnx.load(file).metadata_props}
    assert json.loads(described["semask"])["word"] == "Straße"
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_weights_too_large_for_one_file_lie_next_to_it(fpn, tmp_path):
    graph = exporter.make(Request(fpn, tmp_path, SAMPLE))
    files = exporter.write(graph, tmp_path / "large.onnx", largest=1000)
    assert [file.name for file in files] == ["large.onnx", "large.onnx.data"]
    assert check_external_data(files[0]) == files[1:]
    assert max(differences(fpn, onnxruntime(files[0]), [(1, 64, 64)])) < 1e-3


def check_external_data(file):
    return exporter.check_external_data(onnx.load(file, load_external_data=False), file)


def external(folder, location, *, inside: str = "initializer"):
    """A file with a tensor that says it lies at `location`."""
    tensor = onnx.numpy_helper.from_array(np.ones(4, dtype=np.float32), "weight")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    nodes, tensors = [onnx.helper.make_node("Identity", ["image"], ["logits"])], [tensor]
    if inside == "attribute":
        nodes, tensors = [onnx.helper.make_node("Constant", [], ["logits"], value=tensor)], []
    if inside == "subgraph":
        branch = onnx.helper.make_graph(nodes, "branch", [], [], tensors)
        nodes = [onnx.helper.make_node("If", ["image"], ["logits"], then_branch=branch, else_branch=branch)]
        tensors = []
    graph = onnx.helper.make_graph(nodes, "graph", [], [], tensors)
    file = folder / "model.onnx"
    onnx.save(onnx.helper.make_model(graph), file)
    return file


@pytest.mark.parametrize("inside", ["initializer", "attribute", "subgraph"])
@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "sub/weights", "sub\\weights", "", ".", "..", "absent", "link"]
)
def test_external_data_stays_in_the_folder(location, inside, tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for secret in (tmp_path / "secret", folder / "sub" / "weights"):
        secret.write_bytes(bytes(16))
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="next to it"):
        check_external_data(external(folder, location, inside=inside))


def test_external_data_with_several_places_is_refused(tmp_path):
    (tmp_path / "weights").write_bytes(bytes(16))
    file = external(tmp_path, "weights")
    graph = onnx.load(file, load_external_data=False)
    graph.graph.initializer[0].external_data.add(key="location", value="../secret")
    file.write_bytes(graph.SerializeToString())
    with pytest.raises(ValueError, match="next to it"):
        exporter.check_file(file)


def test_external_data_next_to_the_file_is_fine_and_a_damaged_file_is_not(tmp_path):
    (tmp_path / "weights").write_bytes(bytes(16))
    assert check_external_data(external(tmp_path, "weights")) == [tmp_path / "weights"]
    (tmp_path / "damaged.onnx").write_bytes(b"\x0a\xff\xff no protobuf")
    for name in ("damaged.onnx", "absent.onnx"):
        with pytest.raises(ValueError, match="not an ONNX file"):
            exporter.check_file(tmp_path / name)


@pytest.mark.parametrize("side", [1, 2, 3, 6])
def test_adaptive_pooling_of_any_size(side, tmp_path):
    register(exporter.OPSET)
    file = tmp_path / "pool.onnx"
    with torch.no_grad():
        torch.onnx.export(
            nn.AdaptiveAvgPool2d(side).eval(),
            (torch.randn(2, 4, 7, 8),),
            file,
            dynamo=False,
            input_names=["image"],
            dynamic_axes={"image": {0: "B", 2: "H", 3: "W"}},
            opset_version=exporter.OPSET,
        )
    for shape in [(1, 4, 1, 13), (2, 4, 6, 5), (3, 4, 20, 17)]:
        x = torch.randn(shape)
        torch.testing.assert_close(onnxruntime(file)(x)[0], F.adaptive_avg_pool2d(x, side))


def graph_of(nodes, *, functions=(), domain: str = "", inputs=("image",)):
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["B"]) for name in (*inputs, "logits")]
    graph = onnx.helper.make_graph(nodes, "graph", values[:-1], values[-1:])
    domains = [onnx.helper.make_opsetid(name, 20 if name == "" else 1) for name in {"", domain}]
    return onnx.helper.make_model(graph, opset_imports=domains, functions=list(functions))


def endless_loop():
    """As many turns as an int64 holds, with a condition that is always true."""
    h, types = onnx.helper, onnx.TensorProto
    body = h.make_graph(
        [h.make_node("Identity", ["go"], ["on"]), h.make_node("Identity", ["x"], ["y"])],
        "body",
        [h.make_tensor_value_info(name, kind, []) for name, kind in (("i", types.INT64), ("go", types.BOOL))]
        + [h.make_tensor_value_info("x", types.FLOAT, ["B"])],
        [h.make_tensor_value_info("on", types.BOOL, []), h.make_tensor_value_info("y", types.FLOAT, ["B"])],
    )
    turns = h.make_node("Constant", [], ["turns"], value_int=2**63 - 1)
    return graph_of([turns, h.make_node("Loop", ["turns", "", "image"], ["logits"], body=body)])


def with_branch(operator: str):
    h = onnx.helper
    value = h.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["B"])
    branch = h.make_graph([h.make_node("Identity", ["image"], ["y"])], "branch", [], [value])
    graphs = {"then_branch": branch, "else_branch": branch} if operator == "If" else {"body": branch}
    return graph_of([h.make_node(operator, ["image"], ["logits"], **graphs)])


def recursion():
    h = onnx.helper
    again = [h.make_node("Again", ["x"], ["y"], domain="local")]
    function = h.make_function("local", "Again", ["x"], ["y"], again, [h.make_opsetid("local", 1)])
    return graph_of([h.make_node("Again", ["image"], ["logits"], domain="local")], functions=[function], domain="local")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (endless_loop, r"loops or branches \(Loop\)"),
        (lambda: with_branch("If"), r"loops or branches \(If\)"),
        (lambda: with_branch("Scan"), r"loops or branches \(Scan\)"),
        (lambda: with_branch("SequenceMap"), r"loops or branches \(SequenceMap\)"),
        (recursion, r"functions of its own \(Again\)"),
        (
            lambda: graph_of(
                [onnx.helper.make_node("Evil\n" * 999, ["image"], ["logits"], domain="a\x1b")], domain="a\x1b"
            ),
            r"an operator of its own \(a\?\.Evil Evil",
        ),
    ],
)
def test_graphs_that_could_run_for_ever_or_run_something_else(make, words, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(make(), path)
    with pytest.raises(ValueError, match=words) as caught:
        exporter.check_file(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(path))
