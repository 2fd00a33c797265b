"""ONNX: one file for onnxruntime and many others, and what OpenVINO and TensorRT are made from."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semask.engines import digest
from semask.engines.description import KEY
from semask.engines.format import Engine, Format, Options, Request
from semask.engines.processor import WIDE, products_saturate
from semask.engines.quantize import WIDEST, quantized
from semask.engines.telemetry import declined
from semask.extras import require
from semask.files.atomic import temporary_folder
from semask.files.text import one_line

if TYPE_CHECKING:
    from torch import Tensor

    from semask.model import SeMask

OPSET = 20
LARGEST = 2**31 - 2**20
"""Bytes of weights that fit into a protobuf file, with room for the graph."""
EXACT = ("GridSample", "LayerNormalization", "Range", "ReduceMean", "Resize", "Softmax")
"""Operations that stay in float32 where others are in float16: they place things, or sum up much."""
NEVER = "which our exports never have: don't trust it, or export it again"


def save(request: Request) -> list[Path]:
    """Write FILE.onnx and, for more than 2 GB of weights, FILE.onnx.data next to it.

    In fp16 images and outputs stay float32; in int8 weights are scaled by channel, activations by tensor. The metadata
    is the property "semask".

    Raises:
        ValueError: If a package is missing, or the precision is not for this format.
    """
    graph = make(request)
    check_operators(graph, request.path)  # what could not be opened again is not written
    graph.metadata_props.add(key=KEY, value=digest.blank(request.described))
    files = write(graph, request.path)
    digest.seal(files)
    return files


def make(request: Request, *, symmetric: bool = False) -> Any:
    """Make the ONNX graph of a model, in the precision that is asked for; see `save` and `quantized`."""
    require("onnx")
    require("onnxruntime")
    graph = record(request.model, request.sample, labels=request.labels)
    if request.precision == "int8":
        return quantized(graph, request.calibration, symmetric=symmetric)
    if request.precision == "fp16":
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights that are smaller than float16 can be, which become 0
            return convert_float_to_float16(graph, keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *EXACT])
    return graph


def record(model: "SeMask", sample: "Tensor", *, labels: bool = False) -> Any:
    """Record the graph of a model in float32, for images of any size and number.

    torch's older exporter does it, which follows one pass: what is computed from a size stays so. The newer one has to
    prove things about sizes first, which takes it longer than anybody waits for some decoders.

    Args:
        model: In evaluation mode.
        sample: See `example`.
        labels: Whether the graph gives the label map, and no scores.

    Returns:
        An `onnx.ModelProto`.
    """
    import onnx
    import torch

    from semask.engines.graph import Graph, example, image_axes, outputs, recording
    from semask.engines.symbolics import register

    register(OPSET)
    names = outputs(model, labels=labels)
    with temporary_folder() as folder, recording(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the exporter is the older one, and what it takes for constant
        file = folder / "graph.onnx"
        torch.onnx.export(
            Graph(model, labels=labels),
            (example(model, sample),),
            file,
            dynamo=False,
            input_names=["image"],
            output_names=list(names),
            dynamic_axes=image_axes(names),
            opset_version=OPSET,
        )
        return onnx.load(file)


def write(graph: Any, path: Path, *, largest: int = LARGEST) -> list[Path]:
    """Write a graph, its weights in a second file if they take more than `largest` bytes."""
    import onnx

    if sum(len(tensor.raw_data) for tensor in graph.graph.initializer) <= largest:
        onnx.save(graph, path)
        return [path]
    weights = companion(path)
    onnx.save(graph, path, save_as_external_data=True, all_tensors_to_one_file=True, location=weights.name)
    return [path, weights]


def open_file(path: Path, options: Options) -> Engine:
    """Open an ONNX file with onnxruntime; what could do more than compute is refused first."""
    for package in ("onnx", "onnxruntime"):
        require(package)
    with declined():
        import onnxruntime

    onnxruntime.disable_telemetry_events()
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
    if device == "cpu" and has_wide_weights(model, path) and products_saturate():
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
        remark["remark"] = f"{WIDE}: computed in float32, which is exact and slower; export it again"
    which = {"device_id": index} if index else {}
    session = onnxruntime.InferenceSession(path, settings, providers=[(provider, which)])
    name = session.get_inputs()[0].name

    def run(image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        outputs: list[NDArray[np.float32]] = session.run(None, {name: image})
        return outputs

    details = {"engine": f"onnxruntime {onnxruntime.__version__}", "device": device, "threads": options.threads}
    return Engine(
        session.get_modelmeta().custom_metadata_map.get(KEY),
        tuple(x.name for x in session.get_outputs()),
        run,
        {**details, "opset": opset(model), **remark},
    )


def opset(model: Any) -> int | None:
    """Version of the operators in an `onnx.ModelProto`."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)


def check_file(path: Path) -> Any:
    """Refuse an ONNX file of anybody that is damaged, or could do more than compute; gives its `onnx.ModelProto`.

    Weights that lie in other files are not read.

    Raises:
        ValueError: If it is no ONNX file, its bytes are not those that were exported, it has operators that our exports
            don't have, or names weights that are not a plain file in its own folder.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path, load_external_data=False)
        if not model.graph.node:
            raise ValueError("it has no graph")
    except (DecodeError, OSError, ValueError) as error:
        raise ValueError(f"{one_line(path)}: not an ONNX file, or damaged: copy or export it again") from error
    check_operators(model, path)
    digest.check([path, *check_external_data(model, path)])
    return model


def check_operators(model: Any, path: Path) -> None:
    """Refuse what could run for ever or run something else: loops and branches, functions, operators of others.

    Args:
        model: An `onnx.ModelProto`.
        path: The file, for messages.

    Raises:
        ValueError: If it has them.
    """
    if model.functions:
        raise ValueError(f"{one_line(path)}: has functions of its own ({one_line(model.functions[0].name)}), {NEVER}")
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            name = f"{node.domain}.{node.op_type}"
            raise ValueError(f"{one_line(path)}: has an operator of its own ({one_line(name)}), {NEVER}")
        if any(x.HasField("g") or x.graphs for x in node.attribute):  # all that loop or branch have graphs inside
            raise ValueError(f"{one_line(path)}: loops or branches ({one_line(node.op_type)}), {NEVER}")


def check_external_data(model: Any, path: Path) -> list[Path]:
    """Refuse an ONNX file of anybody that wants to read what does not lie next to it.

    Args:
        model: Its `onnx.ModelProto`.
        path: The file.

    Returns:
        Files that hold its weights, without itself; each once.

    Raises:
        ValueError: If it names weights that are not a plain file in its own folder.
    """
    import onnx

    files: dict[Path, None] = {}
    for tensor in tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        places = [entry.value for entry in tensor.external_data if entry.key == "location"]
        name = places[0] if len(places) == 1 else ""  # of several, readers take one or another
        weights = path.parent / name
        if name in ("", ".", "..") or {"/", "\\", "\0"} & set(name) or weights.is_symlink() or not weights.is_file():
            raise ValueError(
                f"{one_line(path)}: wants to read {one_line(name or places)!r}: its weights have to be a file next "
                "to it: copy both, or don't trust it"
            )
        files[weights] = None
    return list(files)


def has_wide_weights(model: Any, path: Path) -> bool:
    """Whether weights of a checked int8 file are beyond `quantize.WIDEST`, so that products may saturate."""
    from onnx import TensorProto, numpy_helper

    scaled = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return any(
        np.abs(numpy_helper.to_array(tensor, str(path.parent)).astype(np.int16)).max(initial=0) > WIDEST
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.INT8 and tensor.name in scaled
    )


def tensors(model: Any) -> Iterator[Any]:
    """Every tensor of an `onnx.ModelProto`, wherever it may be."""
    pending = [model]
    while pending:
        message = pending.pop()
        for field, value in message.ListFields():
            if field.message_type is None or field.name in ("metadata_props", "external_data"):
                continue
            values = [value] if hasattr(value, "ListFields") else list(value)
            if field.message_type.name == "TensorProto":
                yield from values
            else:
                pending.extend(values)


def companion(path: Path) -> Path:
    """Where weights of more than 2 GB lie."""
    return path.with_name(f"{path.name}.data")


FORMAT = Format(
    name="onnx",
    ending=".onnx",
    save=save,
    open=open_file,
    precisions=("fp32", "fp16", "int8"),
    arrays=True,
    companion=companion,
)
