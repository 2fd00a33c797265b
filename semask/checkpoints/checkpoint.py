"""Checkpoints: the weights and everything that is needed to use them, in one safetensors file.

The file's own header carries the JSON (recipe, classes, metrics, versions) and a digest of everything; a copy of the
JSON lies beside the file for people to read. Files are written beside their place and moved there when complete, so a
half-written one never replaces a good one. Nothing is ever unpickled.
"""

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision

from semask.builder import build_for, require_weights
from semask.checkpoints.metadata import check
from semask.checkpoints.sources import find_checkpoint
from semask.checkpoints.tensors import read_tensors, write_tensors
from semask.files.atomic import write_whole
from semask.files.text import reason
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
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: checkpoints are .safetensors files: give such a name")
    metadata = {**metadata, "recipe": {**metadata.get("recipe", {}), "model": model.config}, "versions": versions()}
    check(json.loads(json.dumps(metadata)), path)  # or it could be written, but never read again
    require_finite(path, model)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_tensors(path, tensors, metadata)
    write_whole(path.with_suffix(".json"), json.dumps(metadata, indent=1, ensure_ascii=False))
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


def load(source: str | Path, *, device: torch.device | str = "cpu", into: SeMask | None = None) -> SeMask:
    """Load a model for use.

    Args:
        source: A .safetensors checkpoint, a folder with best.safetensors or model.safetensors in it, the name
            "owner/name" of a repository on the Hugging Face Hub that holds model.safetensors, or the name of a
            published model, e.g. semask-tiny-fpn-ade20k, which is downloaded and converted the first time.
        device: Where to put the model.
        into: Model to fill, for one with an encoder or decoder object of your own, which no recipe can build.

    Returns:
        The model in evaluation mode; `metadata` holds what the checkpoint says beside the weights.

    Raises:
        ValueError: If there is no such checkpoint, it is damaged or not one of ours, or there is no such device.
    """
    from semask.engines.runtime import is_exported

    if is_exported(source):
        raise ValueError(
            f"{source}: an exported file, not a checkpoint: predict and evaluate take it, and semask.load_exported does"
        )
    path = find_checkpoint(source)
    tensors, found = read_tensors(path)
    metadata = check(found, path)
    model = build_for(metadata["recipe"]["model"], tensors, path) if into is None else into
    require_weights(model.state_dict(), tensors, path)
    model.load_state_dict(tensors)
    model.metadata = metadata
    try:
        if torch.device(device).type == "meta":
            raise RuntimeError("it holds no numbers")
        return model.to(device).eval()
    except (AssertionError, RuntimeError) as error:  # what torch raises differs from build to build
        raise ValueError(f"device {device} can't be used ({reason(error)}): try cpu") from error


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    from semask import __version__

    return {
        "semask": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
    }
