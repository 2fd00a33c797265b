"""OpenVINO: the fastest on a CPU; FILE.xml with the graph and FILE.bin with the weights."""

import json
import logging
import re
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from semask.engines import digest
from semask.engines.description import KEY, Precision
from semask.engines.format import Engine, Format, Options, Request
from semask.engines.formats import onnx
from semask.engines.processor import WIDE, products_saturate
from semask.engines.quantize import LAST, WIDEST
from semask.engines.telemetry import declined
from semask.extras import require
from semask.files.atomic import temporary_folder
from semask.files.reading import require_file
from semask.files.text import one_line, reason

if TYPE_CHECKING:
    from torch import Tensor

HINTS = {"fp16": ("FP16", "f16"), "bf16": ("BF16", "bf16"), "int8": ("BF16", "bf16")}
"""For each precision the capability of a device that it needs, and OpenVINO's name for it; int8 leaves a rest."""
LARGEST = 2**26
"""Bytes of the graph; a thousand layers take about half a million."""
DEEPEST = 32
"""Levels of nesting in the graph's XML."""
PRODUCTS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
SCALING = ("Convert", "Subtract", "Multiply", "Reshape", "Transpose")
"""What makes weights of a constant of 8 bits; what is looked up in one (biases of attention) is added only."""
LOOPS = ("If", "Loop", "TensorIterator")
NEVER = "which our exports never have: don't trust it, or export it again"


def save(request: Request) -> list[Path]:
    """Write FILE.xml and FILE.bin.

    In fp16 and bf16 weights are stored in float16, and the metadata, which is the runtime information "semask", says
    what to compute in.

    Raises:
        ValueError: If a package is missing.
    """
    require("openvino")
    with declined():
        import openvino as ov

    with temporary_folder() as folder:
        files = onnx.write(onnx.make(replace(request, precision="fp32")), folder / "graph.onnx")
        converted = ov.convert_model(files[0])
        if request.precision == "int8":
            converted = quantized(converted, request.calibration)
        converted.set_rt_info(digest.blank(request.described), [KEY])
        ov.save_model(converted, request.path, compress_to_fp16=request.precision != "fp32")
    saved = [request.path, companion(request.path)]
    check_operators(request.path)  # what could not be opened again is not written
    digest.seal(saved)
    return saved


def quantized(model: Any, calibration: "Iterable[Tensor]") -> Any:
    """Quantize an `openvino.Model` on normalized images [1, C, H, W].

    Weights are from -64 to 64, for the reason that `quantize.quantized` gives: OpenVINO's products saturate as well.
    """
    require("nncf")
    with declined():
        import nncf

    nncf.set_log_level(logging.ERROR)
    images = [image.cpu().numpy() for image in calibration]
    return nncf.quantize(
        model,
        nncf.Dataset(images),
        subset_size=len(images),
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER,
        ignored_scope=nncf.IgnoredScope(names=products(model), patterns=[LAST], validate=False),
        advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
    )


def products(model: Any) -> list[str]:
    """Names of the products of activations in an `openvino.Model`: all of attention, and matrices without weights."""
    return [
        op.get_friendly_name()
        for op in model.get_ops()
        if op.get_type_name() in ("MatMul", "ScaledDotProductAttention")
        and not any(x.get_node().get_type_name() == "Constant" for x in op.input_values()[:2])
    ]


def open_file(path: Path, options: Options) -> Engine:
    """Open an OpenVINO model; 16 bits are a wish, which a machine without them meets in float32."""
    require("openvino")
    with declined():
        import openvino as ov

    check_file(path)
    core = ov.Core()
    device = (options.device or "cpu").upper()
    if device.split(".")[0] not in {name.split(".")[0] for name in core.available_devices}:
        raise ValueError(
            f"device {options.device} can't run {path}: OpenVINO finds {', '.join(core.available_devices)}"
        )
    model = core.read_model(path, companion(path))
    text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
    hint = inference_precision(text, options.precision, core.get_property(device, "OPTIMIZATION_CAPABILITIES"))
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    if device == "CPU":
        settings["INFERENCE_NUM_THREADS"] = options.threads
    remark = {}
    if device == "CPU" and has_wide_weights(model) and products_saturate():
        remark["remark"] = f"{WIDE}: scores are less accurate than on others; export it again"
        warnings.warn(f"{one_line(path)}: {remark['remark']}", stacklevel=2)
    compiled = core.compile_model(model, device, settings)
    request, lock = compiled.create_infer_request(), threading.Lock()

    def run(image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        with lock:  # the request holds the results until the next image
            request.infer([np.ascontiguousarray(image)])
            return [np.array(x.data).astype(np.float32, copy=False) for x in request.output_tensors]

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


def check_file(path: Path) -> None:
    """Refuse an OpenVINO model of anybody that is damaged, or could do more than compute.

    Raises:
        ValueError: If it is no such model or has no .bin, its bytes are not those that were exported, or it has
            operators that our exports don't have.
    """
    weights = require_file(companion(path), otherwise=f"it has to lie next to {one_line(path.name)}")
    check_operators(path)
    digest.check([path, weights])


def check_operators(path: Path) -> None:
    """Refuse a graph that could run for ever or run something else: loops and branches, operators of others.

    Args:
        path: The .xml.

    Raises:
        ValueError: If it has them, is larger than any of ours, or is no OpenVINO model.
    """
    content = require_file(path).open("rb")
    with content:
        text = content.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise ValueError(f"{one_line(path)}: its graph is larger than {LARGEST:,} bytes, {NEVER}")
    depth, parser = 0, expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"{one_line(path)}: its graph is nested more than {DEEPEST} levels deep, {NEVER}")
        if depth == 1 and tag != "net":
            raise ValueError(f"{one_line(path)}: not an OpenVINO model: copy or export it again")
        if tag == "layer":
            check_layer(attributes, path)
        if tag == "body" or (tag == "net" and depth > 1):
            raise ValueError(f"{one_line(path)}: has a graph in its graph, {NEVER}")

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1

    def doctype(*_: object) -> None:
        raise ValueError(f"{one_line(path)}: defines entities, {NEVER}")

    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = start, end, doctype
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise ValueError(
            f"{one_line(path)}: not an OpenVINO model, or damaged ({reason(error)}): copy or export it again"
        ) from error


def check_layer(attributes: Mapping[str, str], path: Path) -> None:
    """Refuse one layer; see `check_operators`.

    Raises:
        ValueError: If it loops or branches, or is not from one of OpenVINO's own sets of operators.
    """
    kind, version = attributes.get("type", ""), attributes.get("version", "")
    if kind in LOOPS:
        raise ValueError(f"{one_line(path)}: loops or branches ({one_line(kind)}), {NEVER}")
    if not re.fullmatch(r"opset\d{1,2}", version):
        raise ValueError(f"{one_line(path)}: has an operator of its own ({one_line(f'{version}.{kind}')}), {NEVER}")


def has_wide_weights(model: Any) -> bool:
    """Whether weights of an int8 `openvino.Model` are beyond `quantize.WIDEST`, so that products may saturate."""
    return any(
        np.abs(op.data.astype(np.int16)).max(initial=0) > WIDEST
        for op in model.get_ops()
        if op.get_type_name() == "Constant" and op.get_element_type().get_type_name() == "i8" and multiplies(op)
    )


def multiplies(constant: Any) -> bool:
    """Whether the values of a constant of 8 bits, once they are scaled, go into a convolution or a product."""
    pending, seen = [constant], set()
    while pending:
        nodes = {x.get_node().get_name(): x.get_node() for x in pending.pop().output(0).get_target_inputs()}
        if any(node.get_type_name() in PRODUCTS for node in nodes.values()):
            return True
        pending.extend(x for name, x in nodes.items() if x.get_type_name() in SCALING and name not in seen)
        seen |= set(nodes)
    return False


def companion(path: Path) -> Path:
    """Where the weights lie."""
    return path.with_suffix(".bin")


FORMAT = Format(
    name="openvino",
    ending=".xml",
    save=save,
    open=open_file,
    precisions=("fp32", "fp16", "bf16", "int8"),
    arrays=True,
    companion=companion,
)
