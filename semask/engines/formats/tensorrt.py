"""TensorRT: an engine for one NVIDIA GPU and one version, built from the ONNX graph where it will run."""

import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semask.engines.format import Engine, Format, Options, Request
from semask.engines.formats import onnx

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_BATCH, LARGEST_SIDE = 8, 2048


def save(request: Request) -> list[Path]:
    """Write FILE.engine, and FILE.engine.json with the metadata.

    It takes up to 8 images with sides of 32 to 2048 pixels, or that of `sample` if larger, and is tuned for one image
    of that size.

    Raises:
        ValueError: If there is no TensorRT, or it can't build the graph.
    """
    import torch

    if request.labels:
        raise ValueError("TensorRT engines are made with scores only: leave out --outputs labels, or use --format onnx")
    if find_spec("tensorrt") is None or not torch.cuda.is_available():
        raise ValueError("TensorRT engines need an NVIDIA GPU and the package tensorrt: use --format onnx")
    request.path.write_bytes(build(onnx.make(request, symmetric=True), request.sample))
    described = companion(request.path)
    described.write_text(request.described, encoding="utf-8")
    return [request.path, described]


def build(graph: Any, sample: "Tensor") -> Any:
    """Build an engine of an `onnx.ModelProto`; what each operation computes in is what the graph says."""
    import tensorrt as trt

    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    if not parser.parse(graph.SerializeToString()):
        raise ValueError(
            f"TensorRT {trt.__version__} can't read the graph ({parser.get_error(0).desc()}): use --format onnx"
        )
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
        raise ValueError(f"TensorRT {trt.__version__} can't build an engine of this graph: use --format onnx")
    return engine


def open_file(path: Path, options: Options) -> Engine:
    """Open a TensorRT engine, with its metadata in PATH.json. It holds compiled code: only for trusted files."""
    import torch

    if find_spec("tensorrt") is None or not torch.cuda.is_available():
        raise ValueError(f"{path}: needs an NVIDIA GPU and the package tensorrt: use the .onnx file instead")
    import tensorrt as trt

    described = companion(path)
    text = described.read_text(encoding="utf-8") if described.is_file() else None
    device = torch.device(options.device or "cuda")
    with torch.cuda.device(device):
        engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(path.read_bytes())
        context = engine and engine.create_execution_context()
    if engine is None:
        raise ValueError(f"{path}: TensorRT {trt.__version__} can't read it: engines fit one version and one GPU only")
    tensors = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    inputs = [x for x in tensors if engine.get_tensor_mode(x) == trt.TensorIOMode.INPUT]
    outputs = tuple(x for x in tensors if x not in inputs)
    lock = threading.Lock()

    def run(image: "Tensor") -> "list[Tensor]":
        with lock, torch.cuda.device(device):
            image = image.to(device).contiguous()
            if not context.set_input_shape(inputs[0], tuple(image.shape)):
                raise ValueError("outside the sizes that the engine was built for")
            context.set_tensor_address(inputs[0], image.data_ptr())
            results = [torch.empty(tuple(context.get_tensor_shape(x)), device=device) for x in outputs]
            for name, result in zip(outputs, results, strict=True):
                context.set_tensor_address(name, result.data_ptr())
            if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
                raise RuntimeError("TensorRT failed")
            torch.cuda.current_stream().synchronize()
            return results

    return Engine(text, outputs, run, {"engine": f"tensorrt {trt.__version__}", "device": str(device)})


def companion(path: Path) -> Path:
    """Where the description lies."""
    return path.with_name(f"{path.name}.json")


FORMAT = Format(
    name="tensorrt",
    ending=".engine",
    save=save,
    open=open_file,
    precisions=("fp32", "fp16", "int8"),
    holds_code="compiled GPU code",
    on_device=True,
    companion=companion,
)
