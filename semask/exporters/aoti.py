"""AOTInductor: a compiled library for one kind of processor, for torch in Python or C++."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semask.exporters.metadata import KEY, Precision
from semask.exporters.torch_program import program
from semask.model import SeMask


def save(
    model: SeMask,
    path: Path,
    *,
    precision: Precision,
    metadata: dict[str, Any],
    calibration: Iterable[Tensor] | None,
    sample: Tensor,
) -> list[Path]:
    """Write FILE.aoti.pt2: a library compiled for the device of `sample`.

    Images need at least two cells of the coarsest map a side, e.g. 64 x 64 pixels: the compiler takes a side of one
    cell for a case of its own.

    Args:
        model: In evaluation mode.
        path: File to write, ending in .aoti.pt2.
        precision: fp32, fp16 or bf16.
        metadata: JSON that the file carries, as the entry "semask" of its metadata.
        calibration: Not used: there is no int8.
        sample: A normalised image [1, C, H, W].

    Returns:
        The file.

    Raises:
        ValueError: If the precision is not for this format, or there is no C++ compiler.
    """
    if not any(shutil.which(compiler) for compiler in ("g++", "clang++", "cl")):
        raise ValueError("AOTInductor needs a C++ compiler, e.g. g++: install one, or take --format torch")
    exported = program(model, precision, sample, least=2 * model.encoder.backbone.strides[-1])
    settings = {"aot_inductor.metadata": {KEY: json.dumps(metadata, ensure_ascii=False)}}
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(exported, package_path=str(path), inductor_configs=settings)
    return [path]
