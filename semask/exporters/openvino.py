"""OpenVINO: the quickest on a CPU; FILE.xml with the graph and FILE.bin with the weights."""

import json
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from semask.exporters.metadata import KEY, Precision
from semask.exporters.quantize import SENSITIVE
from semask.model import SeMask
from semask.runtime.engines import require


def save(
    model: SeMask,
    path: Path,
    *,
    precision: Precision,
    metadata: dict[str, Any],
    calibration: Iterable[Tensor] | None,
    sample: Tensor,
) -> list[Path]:
    """Write FILE.xml and FILE.bin.

    Args:
        model: In evaluation mode.
        path: File to write, ending in .xml.
        precision: fp32; fp16 or bf16 (weights are stored in float16, and the metadata says what to compute in); int8.
        metadata: JSON that the file carries, as its runtime information "semask".
        calibration: Normalised images [1, C, H, W], for int8.
        sample: A normalised image [1, C, H, W].

    Returns:
        The files.

    Raises:
        ValueError: If a package is missing.
    """
    require("openvino")
    import openvino as ov

    from semask.exporters import onnx

    with tempfile.TemporaryDirectory() as folder:
        files = onnx.write(onnx.make(model, "fp32", None, sample), Path(folder) / "graph.onnx")
        converted = ov.convert_model(files[0])
        if precision == "int8":
            converted = quantized(converted, calibration or ())
        converted.set_rt_info(json.dumps(metadata, ensure_ascii=False), [KEY])
        ov.save_model(converted, path, compress_to_fp16=precision != "fp32")
    return [path, path.with_suffix(".bin")]


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
        ignored_scope=nncf.IgnoredScope(patterns=[SENSITIVE], validate=False),
    )
