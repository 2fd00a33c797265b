"""Checkpoints: the weights and all that using them takes, in one safetensors file.

The header of the file carries the JSON (recipe, classes, metrics, versions) and a digest of everything; a copy of the
JSON is next to the file for people to read. Files are written next to their place and moved there when complete, so a
half-written one never replaces a good one.
"""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from semask.checkpoints.metadata import check
from semask.checkpoints.tensors import read_tensors, write_tensors
from semask.files.atomic import write_whole
from semask.model import SeMask


def save(path: str | Path, model: SeMask, metadata: Mapping[str, Any]) -> Path:
    """Write a checkpoint, PATH.safetensors and PATH.json.

    Args:
        path: File to write, ending in .safetensors; an existing one is replaced only by a complete new one.
        model: Model whose weights and constructor arguments are saved.
        metadata: What else to store, as JSON: "classes", "recipe", "step", "metrics".

    Raises:
        ValueError: If it can't be written (no space, no permission), the metadata is not of its form, or a weight is
            not finite; the old file is then untouched.
    """
    path = require_checkpoint_name(path)
    metadata = {**metadata, "recipe": {**metadata.get("recipe", {}), "model": model.config}, "versions": versions()}
    check(json.loads(json.dumps(metadata)), path)  # or it could be written, but never read again
    require_finite(path, model)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_tensors(path, tensors, metadata)
    write_whole(path.with_suffix(".json"), json.dumps(metadata, indent=1, ensure_ascii=False))
    return path


def save_calibrated(path: str | Path, source: Path | SeMask, calibration: Mapping[str, Any]) -> Path:
    """Write a copy of a checkpoint that holds a temperature too; weights and everything else stay as they are.

    Args:
        path: File to write, ending in .safetensors.
        source: The checkpoint, or a model that is loaded already.
        calibration: See `metadata.CALIBRATION`.

    Raises:
        ValueError: If it can't be read or written.
    """
    path = require_checkpoint_name(path)
    if not isinstance(source, Path):
        return save(path, source, {**source.metadata, "calibration": dict(calibration)})
    tensors, metadata = read_tensors(source)
    metadata = check({**metadata, "calibration": dict(calibration)}, path)
    write_tensors(path, tensors, metadata)
    write_whole(path.with_suffix(".json"), json.dumps(metadata, indent=1, ensure_ascii=False))
    return path


def require_checkpoint_name(path: str | Path) -> Path:
    """Refuse a name that no checkpoint can have.

    Raises:
        ValueError: If it does not end in .safetensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: checkpoints are .safetensors files: give such a name")
    return path


def require_finite(path: Path, model: SeMask) -> None:
    """Refuse to go on to a checkpoint of a model whose training went wrong.

    Raises:
        ValueError: If a weight is not finite.
    """
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"{path}: not written, because {name} is not finite any more: lower training.lr or set "
                "training.clip_norm; what was there before is untouched"
            )


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    from semask import __version__

    return {
        "semask": __version__,
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "python": platform.python_version(),
    }
