"""Checkpoints: the weights and everything that is needed to use them, in one safetensors file.

The file's own header carries the JSON (recipe, classes, metrics, versions) and a digest of everything; a copy of the
JSON lies beside the file for people to read. Files are written beside their place and moved there when complete, so a
half-written one never replaces a good one. Nothing is ever unpickled.
"""

import difflib
import hashlib
import json
import os
import platform
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torchvision
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from semask.build import build_for, require_weights
from semask.files import parse_json, require_file, write_whole, written_whole
from semask.metadata import check
from semask.model import SeMask
from semask.text import one_line, reason

FORMAT = "semask-1"


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
    from semask.runtime import is_exported

    if is_exported(source):
        raise ValueError(
            f"{source}: an exported file, not a checkpoint: predict and evaluate take it, and semask.runtime.load does"
        )
    path = find(source)
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


def find(source: str | Path) -> Path:
    """Find the file of a checkpoint; see `load`. The name of a published model gets it: `semask.weights.published`."""
    from semask.weights import network
    from semask.weights.pretrained import IN_FOLDER
    from semask.weights.published import PUBLISHED

    path = Path(source)
    if str(source) in PUBLISHED and not path.exists():
        from semask.weights.fetch import published_checkpoint

        return published_checkpoint(PUBLISHED[str(source)])
    if path.is_dir():
        for name in IN_FOLDER:
            if (path / name).is_file():
                return path / name
        raise ValueError(f"{path}: no best.safetensors, model.safetensors or last.safetensors in this folder")
    if not is_hub_name(path):
        close = difflib.get_close_matches(str(source), PUBLISHED, n=1, cutoff=0.8)
        meant = f"that of a published model (did you mean {close[0]}?)" if close else "that of a published model"
        otherwise = f"give a .safetensors file, a folder, a name OWNER/NAME on the Hub, or {meant}"
        if not path.exists():
            raise ValueError(f"{one_line(path)}: no such checkpoint file: {otherwise}")
        return require_file(path, otherwise=otherwise)
    try:
        with network.hub():
            return Path(hf_hub_download(str(source), "model.safetensors"))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"{one_line(source)}: neither a local checkpoint nor one on the Hugging Face Hub ({reason(error)})"
        ) from error


def is_hub_name(path: Path) -> bool:
    """Whether OWNER/NAME on the Hub was meant: what lies in an existing folder, or has the ending, is a file."""
    return len(path.parts) == 2 and path.suffix != ".safetensors" and not path.exists() and not path.parent.is_dir()


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], *, keep: Path | None = None
) -> None:
    """Write tensors with a JSON header and a digest of both, whole or not at all.

    Args:
        path: File to write.
        tensors: Tensors in main memory.
        metadata: JSON; numbers have to be finite.
        keep: Name that the file of before gets; null replaces it. See `files.written_whole`.

    Raises:
        ValueError: If the file can't be written.
    """
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{one_line(path)}: not written, its metadata can't be JSON ({reason(error)})") from error
    places: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():  # one norm of FaPN has two names; safetensors wants a copy for each
        separate[name] = tensor.clone() if tensor.data_ptr() in places else tensor
        places.add(tensor.data_ptr())
    header = {"format": FORMAT, "semask": text, "digest": digest(separate, text)}
    with written_whole(path, keep=keep) as temporary:
        save_file(separate, temporary, metadata=header)
        with safe_open(temporary, framework="pt"):  # refuses a file that is shorter than its header says
            pass


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and the JSON header that `write_tensors` wrote, and check that nothing of them has changed.

    Raises:
        ValueError: If the file is missing, damaged, or was not written by semask.
    """
    require_file(path, otherwise="give a checkpoint that `semask train` wrote")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            metadata = read_metadata(path, header)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error
    written = header.get("digest")
    if written is not None and written != digest(tensors, header["semask"]):  # files of semask 0.1 have none
        raise ValueError(
            f"{one_line(path)}: damaged, it is not what was written (another digest): copy or train it again"
        )
    return tensors, metadata


def read_header(path: Path) -> dict[str, Any]:
    """Read only the JSON of a file that `write_tensors` wrote; the digest is not checked.

    Raises:
        ValueError: If the file is missing, damaged, or was not written by semask.
    """
    require_file(path, otherwise="give a checkpoint that `semask train` wrote")
    try:
        with safe_open(path, framework="pt") as file:
            return read_metadata(path, file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error


def read_metadata(path: Path, header: Mapping[str, str]) -> dict[str, Any]:
    """JSON in the header of a file.

    Raises:
        ValueError: If it is not of semask, or damaged.
    """
    if header.get("format") != FORMAT:
        raise ValueError(f"{one_line(path)}: not a semask checkpoint: give a file that `semask train` wrote")
    try:
        metadata = parse_json(header["semask"])
    except (KeyError, ValueError) as error:
        raise damaged(path, error) from error
    if not isinstance(metadata, dict):
        raise damaged(path, ValueError("its metadata are no JSON object"))
    return metadata


def damaged(path: Path, error: Exception) -> ValueError:
    """Say that a file can't be read."""
    return ValueError(
        f"{one_line(path)}: not a safetensors checkpoint, or damaged ({reason(error)}): copy or train it again"
    )


def digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """Digest of tensors (name, type, shape, bytes) and the text that belongs to them, e.g. "crc32:5f1c...".

    It tells damage, not forgery, so that each tensor's bytes are summed up by CRC-32: any flipped bit shows, and it
    costs less than half of what SHA-256 does. A few threads take the tensors, since zlib lets others run meanwhile.
    """
    workers = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    largest_first = sorted(tensors, key=lambda name: -tensors[name].nbytes)
    with ThreadPoolExecutor(workers) as pool:
        parts = pool.map(hash_tensors, [[(x, tensors[x]) for x in largest_first[i::workers]] for i in range(workers)])
        lines = sorted(line for part in parts for line in part)
    whole = hashlib.sha256("\n".join([*lines, text]).encode("utf-8", "surrogatepass"))
    return f"crc32:{whole.hexdigest()}"


def hash_tensors(tensors: Sequence[tuple[str, Tensor]]) -> list[str]:
    """One line for each tensor: JSON of name, type, shape and the sum of its bytes."""
    lines = []
    for name, tensor in tensors:
        content = tensor.detach().reshape(-1).view(torch.uint8).numpy().data
        lines.append(json.dumps([name, str(tensor.dtype), list(tensor.shape), zlib.crc32(content)]))
    return lines


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    from semask import __version__

    return {
        "semask": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
    }
