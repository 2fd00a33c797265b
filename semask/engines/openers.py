"""What opens an exported file and computes with it, one function a format; each library is imported only when used.

None of them unpickles anything or runs code of the file, except those that `runtime.RUN_CODE` names.
"""

import json
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from semask.engines.description import KEY, OUTPUTS, Precision
from semask.engines.processor import products_saturate
from semask.files.text import one_line

HINTS = {"fp16": ("FP16", "f16"), "bf16": ("BF16", "bf16"), "int8": ("BF16", "bf16")}
"""For each precision the capability of a device that it takes in OpenVINO, and its name there; int8 leaves a rest."""
WIDE = "int8 weights of all 8 bits, whose products overflow on this processor (it has no VNNI)"


class Options(NamedTuple):
    """How a file is run; see `runtime.load_exported`."""

    device: str | None
    threads: int
    precision: Precision | None


@dataclass(frozen=True)
class Engine:
    """An opened file.

    Attributes:
        metadata: The JSON that the file carries, not yet checked; None if it has none.
        outputs: Names of what `run` gives.
        run: Takes normalised images [B, C, H, W] in float32, on any device, and gives the outputs in float32.
        details: Versions, device and threads, for reports; "remark" where there is something to know of the numbers.
    """

    metadata: str | None
    outputs: tuple[str, ...]
    run: Callable[[Tensor], Sequence[Tensor]]
    details: dict[str, Any]


def require(module: str) -> None:
    """Refuse to go on without a library of the extra `export`.

    Raises:
        ValueError: If it is not installed.
    """
    if find_spec(module) is None:
        raise ValueError(f"{module} is not installed: pip install 'semask[export]'")


def onnx(path: Path, options: Options) -> Engine:
    """Open an ONNX file with onnxruntime; what could do more than compute is refused first."""
    for module in ("onnx", "onnxruntime"):
        require(module)
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    from semask.engines.onnx import check_file, has_wide_weights

    model = check_file(path)
    device = options.device or "cpu"
    kind, _, index = device.partition(":")
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(kind)
    if provider is None or provider not in onnxruntime.get_available_providers():
        raise ValueError(f"device {device} can't run {path}: give cpu, or cuda with onnxruntime-gpu installed")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 4  # what it says comes as an exception too
    remark = {}
    if device == "cpu" and products_saturate() and has_wide_weights(model, path):
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
        remark["remark"] = f"{WIDE}: computed in float32, which is exact and slower; export it again"
    which = {"device_id": index} if index else {}
    session = onnxruntime.InferenceSession(path, settings, providers=[(provider, which)])
    name = session.get_inputs()[0].name

    def run(image: Tensor) -> list[Tensor]:
        return [torch.from_numpy(x) for x in session.run(None, {name: image.cpu().numpy()})]

    return Engine(
        session.get_modelmeta().custom_metadata_map.get(KEY),
        tuple(x.name for x in session.get_outputs()),
        run,
        {"engine": f"onnxruntime {onnxruntime.__version__}", "device": device, "threads": options.threads, **remark},
    )


def openvino(path: Path, options: Options) -> Engine:
    """Open an OpenVINO model; 16 bits are a wish, which a machine without them meets in float32."""
    require("openvino")
    import openvino as ov

    from semask.engines.openvino import check_file, has_wide_weights

    check_file(path)
    core = ov.Core()
    device = (options.device or "cpu").upper()
    if device.split(".")[0] not in {name.split(".")[0] for name in core.available_devices}:
        raise ValueError(
            f"device {options.device} can't run {path}: OpenVINO finds {', '.join(core.available_devices)}"
        )
    model = core.read_model(path, path.with_suffix(".bin"))
    text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
    hint = inference_precision(text, options.precision, core.get_property(device, "OPTIMIZATION_CAPABILITIES"))
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    if device == "CPU":
        settings["INFERENCE_NUM_THREADS"] = options.threads
    remark = {}
    if device == "CPU" and products_saturate() and has_wide_weights(model):
        remark["remark"] = f"{WIDE}: scores are less accurate than on others; export it again"
        warnings.warn(f"{one_line(path)}: {remark['remark']}", stacklevel=2)
    compiled = core.compile_model(model, device, settings)
    request, lock = compiled.create_infer_request(), threading.Lock()

    def run(image: Tensor) -> list[Tensor]:
        with lock:  # the request holds the results until the next image
            request.infer([np.ascontiguousarray(image.cpu().numpy())])
            return [torch.from_numpy(np.array(x.data, dtype=np.float32)) for x in request.output_tensors]

    details = {"engine": f"openvino {ov.__version__.split('-')[0]}", "device": device.lower(), "computes in": hint}
    outputs = tuple(x.get_any_name() for x in compiled.outputs)
    return Engine(text, outputs, run, {**details, "threads": options.threads, **remark})


def inference_precision(text: str | None, wanted: Precision | None, capabilities: Sequence[str]) -> str:
    """Choose what OpenVINO computes in: as wanted, or as the metadata says, where the device can; else float32."""
    if wanted is None:
        try:
            wanted = json.loads(text or "{}")["precision"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return "f32"  # `metadata.read` tells what is wrong
    capability, hint = HINTS.get(str(wanted), ("FP32", "f32"))
    return hint if capability in capabilities else "f32"


def torch_program(path: Path, options: Options) -> Engine:
    """Open a torch.export program. It unpickles: only for trusted files."""
    device = options.device or "cpu"
    extra = {KEY: ""}
    program = torch.export.load(path, extra_files=extra)
    module = program.module().to(device)
    return Engine(extra[KEY], names(extra[KEY]), in_torch(module, device), torch_details(device))


def aot_inductor(path: Path, options: Options) -> Engine:
    """Open what AOTInductor compiled. It is machine code: only for trusted files."""
    compiled = torch._inductor.aoti_load_package(str(path))
    described = compiled.get_metadata()
    made_for, device = described["AOTI_DEVICE_KEY"], options.device or described["AOTI_DEVICE_KEY"]
    if device.split(":")[0] != made_for:
        raise ValueError(f"{path}: was compiled for {made_for}, not {device}: export it with --device {device}")
    text = described.get(KEY)
    return Engine(text, names(text), in_torch(compiled, device), torch_details(device))


def in_torch(module: Callable[[Tensor], Any], device: str) -> Callable[[Tensor], Sequence[Tensor]]:
    """Run what takes and gives tensors of one device."""

    def run(image: Tensor) -> Sequence[Tensor]:
        with torch.inference_mode():
            outputs = module(image.to(device))
        return [x.float() for x in (outputs if isinstance(outputs, tuple | list) else (outputs,))]

    return run


def torch_details(device: str) -> dict[str, Any]:
    """Version, device and threads of torch."""
    return {"engine": f"torch {torch.__version__}", "device": device, "threads": torch.get_num_threads()}


def names(text: str | None) -> tuple[str, ...]:
    """Names of the outputs, where the format keeps none: as the metadata says, which then can't contradict them."""
    try:
        return OUTPUTS[bool(json.loads(text or "{}")["makes_masks"])]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()  # `metadata.read` tells what is wrong


def tensorrt(path: Path, options: Options) -> Engine:
    """Open a TensorRT engine, with its metadata in PATH.json. It holds compiled code: only for trusted files."""
    if find_spec("tensorrt") is None or not torch.cuda.is_available():
        raise ValueError(f"{path}: needs an NVIDIA GPU and the package tensorrt: take the .onnx file instead")
    import tensorrt as trt

    beside = path.with_name(f"{path.name}.json")
    text = beside.read_text(encoding="utf-8") if beside.is_file() else None
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

    def run(image: Tensor) -> list[Tensor]:
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
