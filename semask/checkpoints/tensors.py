"""Tensors with a JSON header and a digest of both, in one safetensors file: written whole, checked when read."""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from semask.files.atomic import written_whole
from semask.files.reading import parse_json, require_file
from semask.files.text import one_line, reason

FORMAT = "semask-1"


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
    separate = separated(tensors)
    header = {"format": FORMAT, "semask": text, "digest": digest(separate, text)}
    with written_whole(path, keep=keep) as temporary:
        save_file(separate, temporary, metadata=header)
        with safe_open(temporary, framework="pt"):  # refuses a file that is shorter than its header says
            pass


def separated(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of which no two have the same memory: one norm of FaPN has two names; safetensors wants a copy each."""
    places: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        separate[name] = tensor.clone() if tensor.data_ptr() in places else tensor
        places.add(tensor.data_ptr())
    return separate


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
