"""TensorRT: an engine for one NVIDIA GPU and one version, built from the ONNX graph where it will run."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semask.engines import onnx
from semask.engines.request import Request

LARGEST_BATCH, LARGEST_SIDE = 8, 2048


def save(request: Request) -> list[Path]:
    """Write FILE.engine, and FILE.engine.json with the metadata.

    It takes up to 8 images with sides of 32 to 2048 pixels, or that of `sample` if larger, and is tuned for one image
    of that size.

    Raises:
        ValueError: If there is no TensorRT, the precision is not for this format, or TensorRT can't build the graph.
    """
    if find_spec("tensorrt") is None or not torch.cuda.is_available():
        raise ValueError("TensorRT engines need an NVIDIA GPU and the package tensorrt: take --format onnx")
    request.path.write_bytes(build(onnx.make(request, symmetric=True), request.sample))
    beside = request.path.with_name(f"{request.path.name}.json")
    beside.write_text(request.described, encoding="utf-8")
    return [request.path, beside]


def build(graph: Any, sample: Tensor) -> Any:
    """Build an engine of an `onnx.ModelProto`; what each operation computes in is what the graph says."""
    import tensorrt as trt

    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    if not parser.parse(graph.SerializeToString()):
        raise ValueError(f"TensorRT {trt.__version__} can't read the graph ({parser.get_error(0).desc()}): take onnx")
    channels, *sides = sample.shape[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(
        "image",
        (1, channels, 32, 32),
        (1, channels, *sides),
        (LARGEST_BATCH, channels, *(max(side, LARGEST_SIDE) for side in sides)),
    )
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ValueError(f"TensorRT {trt.__version__} can't build an engine of this graph: take onnx")
    return engine
