"""OpenVINO: the quickest on a CPU; FILE.xml with the graph and FILE.bin with the weights."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from semask.exporters.metadata import KEY
from semask.exporters.quantize import LAST
from semask.exporters.request import Request
from semask.files import temporary_folder
from semask.runtime.engines import require


def save(request: Request) -> list[Path]:
    """Write FILE.xml and FILE.bin.

    In fp16 and bf16 weights are stored in float16, and the metadata, which is the runtime information "semask", says
    what to compute in.

    Raises:
        ValueError: If a package is missing.
    """
    require("openvino")
    import openvino as ov

    from semask.exporters import onnx

    with temporary_folder() as folder:
        files = onnx.write(onnx.make(replace(request, precision="fp32")), folder / "graph.onnx")
        converted = ov.convert_model(files[0])
        if request.precision == "int8":
            converted = quantized(converted, request.calibration)
        converted.set_rt_info(request.described, [KEY])
        ov.save_model(converted, request.path, compress_to_fp16=request.precision != "fp32")
    return [request.path, request.path.with_suffix(".bin")]


def quantized(model: Any, calibration: Iterable[Tensor]) -> Any:
    """Quantise an `openvino.Model` on normalised images [1, C, H, W]."""
    require("nncf")
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
    )


def products(model: Any) -> list[str]:
    """Names of the products of activations in an `openvino.Model`: all of attention, and matrices without weights."""
    return [
        op.get_friendly_name()
        for op in model.get_ops()
        if op.get_type_name() in ("MatMul", "ScaledDotProductAttention")
        and not any(x.get_node().get_type_name() == "Constant" for x in op.input_values()[:2])
    ]
