"""The smallest exported files there are: one convolution, with the description of a real model."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semask.builder import build
from semask.engines.description import KEY, metadata

K, Q = 3, 4
WEIGHT = torch.randn(K, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def described(*, masks: bool = False, **settings) -> dict:
    """Metadata as of a real model with K classes."""
    model = build("swin_nano", num_classes=K, channels=8)
    values = metadata(model, precision="fp32")
    if masks:
        values |= {"makes_masks": True, "outputs": ["classes", "masks"], "size_divisor": 32}
    return values | settings


def write_onnx(path, description: dict | str | None, *, masks: bool = False, names=None, channels: int = 3):
    """The smallest model of any size: a convolution of stride 4; with masks, of constant classes [B, Q, K + 1] too."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    names = names or (("classes", "masks") if masks else ("logits",))
    weight = torch.cat([WEIGHT, WEIGHT[:1]]) if masks else WEIGHT
    nodes = [helper.make_node("Conv", ["image", "weight"], [names[-1]], strides=[4, 4])]
    tensors = [numpy_helper.from_array(weight.numpy(), "weight")]
    if masks:
        classes = 5 * np.eye(Q, K + 1, dtype=np.float32)[None]  # the last mask is of no object
        nodes.append(helper.make_node("Identity", ["constant"], [names[0]]))
        tensors.append(numpy_helper.from_array(classes, "constant"))
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", floats, ["B", channels, "H", "W"])],
        [helper.make_tensor_value_info(name, floats, None) for name in names],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if description is not None:
        text = description if isinstance(description, str) else json.dumps(description)
        helper.set_model_props(model, {KEY: text})
    onnx.save(model, path)
    return path


def write_openvino(path, description: dict | None, **settings):
    ov = pytest.importorskip("openvino")
    source = write_onnx(path.with_suffix(".onnx"), None, **settings)
    model = ov.convert_model(source)
    if description is not None:
        model.set_rt_info(json.dumps(description), [KEY])
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def write_int8(path, widest: int):
    """A convolution 1 x 1 in int8 that adds the channels up, times `widest` / 127."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    values = {
        "scale": np.float32(1 / 255),
        "zero": np.uint8(0),
        "weights": np.full((K, 3, 1, 1), widest, np.int8),
        "weight_scale": np.full(K, 1 / 127, np.float32),
        "weight_zero": np.zeros(K, np.int8),
        "out_scale": np.float32(4 / 255),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["activations"]),
        helper.make_node("DequantizeLinear", ["weights", "weight_scale", "weight_zero"], ["weight"], axis=0),
        helper.make_node("Conv", ["activations", "weight"], ["sums"]),
        helper.make_node("QuantizeLinear", ["sums", "out_scale", "zero"], ["out"]),
        helper.make_node("DequantizeLinear", ["out", "out_scale", "zero"], ["logits"]),
    ]
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", floats, ["B", 3, "H", "W"])],
        [helper.make_tensor_value_info("logits", floats, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {KEY: json.dumps(described(precision="int8"))})
    file = path.with_suffix(".onnx")
    onnx.save(model, file)
    if path.suffix == ".xml":
        ov = pytest.importorskip("openvino")
        converted = ov.convert_model(file)
        converted.set_rt_info(json.dumps(described(precision="int8")), [KEY])
        ov.save_model(converted, path, compress_to_fp16=False)
    return path


WRITERS = {"model.onnx": write_onnx, "model.xml": write_openvino}


def expected(image: Tensor) -> Tensor:
    return F.conv2d(image, WEIGHT, stride=4)
