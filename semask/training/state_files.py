"""The files of a state: tensors in safetensors files, one a process that has some, and all else in state.json.

torch.distributed.checkpoint writes and reads the tensors, so that another number of processes finds its parts in them.
Its own storage notes in a pickle what is where; its safetensors storage notes it in the headers of the files, and
whoever reads these runs no code of theirs.
"""

import contextlib
import json
import logging
import warnings
import zlib
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from semask.checkpoints.tensors import separated
from semask.files.atomic import move_folder, not_written, sync, temporary_folder
from semask.files.reading import parse_json, read_text, require_file
from semask.files.schema import Range
from semask.files.text import one_line, reason
from semask.prediction.processes import all_or_none, gathered, is_of_connection

MANIFEST = "state.json"
FORMAT = "semask-state-1"
SHARDING = "DCP_SHARDING_INFO"
"""Entry of a header that says which part of each tensor a file has; a file without it has whole ones."""
MOST_SHARDS = 2**16
MOST_JSON = 2**28
"""Bytes of a state.json: the losses since the last line of the log are in it."""
SIDE = Range(0, 2**40)
CHUNK = 2**22


def write_state_files(
    folder: Path, tensors: Mapping[str, Tensor], saved: Mapping[str, Any], *, keep: Path | None = None
) -> None:
    """Write a state, whole or not at all; all processes call it together.

    Args:
        folder: Folder to write, on a disk that all of them share.
        tensors: Tensors; each process writes its parts of those that are sharded, the first one all others.
        saved: JSON; numbers have to be finite.
        keep: Name that the folder of before gets; null replaces it.

    Raises:
        ValueError: If it can't be written; the folder is then what it was before.
    """
    rank, count = process()
    tensors = separated({name: x for name, x in tensors.items() if rank == 0 or isinstance(x, DTensor)})
    with contextlib.ExitStack() as stack:
        with all_or_none(count), _writing(folder):
            place = str(stack.enter_context(temporary_folder(folder))) if rank == 0 else ""
        part = Path(gathered(place, count)[0]) / "new"
        with all_or_none(count), _writing(folder):
            part.mkdir(exist_ok=True)
            writer = HuggingFaceStorageWriter(str(part), save_distributed=True)
            with _quiet():
                save(tensors, storage_writer=writer)
            own = part / f"shard-{rank + 1:05d}-model-00001-of-00001.safetensors"
            found = {own.name: [own.stat().st_size, crc32(own)]} if own.exists() else {}
        files = {name: entry for entries in gathered(found, count) for name, entry in entries.items()}
        with all_or_none(count), _writing(folder):
            if rank == 0:
                text = json.dumps({"files": files, "saved": saved}, ensure_ascii=False, allow_nan=False)
                content = json.dumps({"format": FORMAT, "digest": digest(text), "state": json.loads(text)})
                (part / MANIFEST).write_text(content, encoding="utf-8")
                sync(part / MANIFEST)
                sync(part)
                move_folder(part, folder, keep=keep)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn what may go wrong into one line."""
    try:
        yield
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        if is_of_connection(error):
            raise
        raise ValueError(f"{not_written(folder, _plain(cause))}; what was there before is untouched") from error
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{not_written(folder, error)}; what was there before is untouched") from error


def _plain(error: BaseException) -> Exception:
    """An exception that a message can be made of; one that ends the process goes on."""
    if not isinstance(error, Exception):
        raise error
    return error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that there is one process only, and the lines for each tensor that nobody reads."""
    logging.getLogger("c10d-NullHandler-dcp_logger").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield


def read_manifest(folder: Path) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Read what is in a state besides its tensors; those are not looked at.

    Returns:
        JSON of the state, and size and CRC-32 of each of its files.

    Raises:
        ValueError: If it is missing, damaged, or of something else.
    """
    path = folder / MANIFEST
    text = read_text(path, most=MOST_JSON, otherwise="give the folder of a run")
    try:
        content = parse_json(text)
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {one_line(content['format'], longest=40)}")
        state = content["state"]
        same = text == json.dumps(content)  # 1e-05 and 1E-05 are one number, but one of them was not written
        if not same or content["digest"] != digest(json.dumps(state, ensure_ascii=False, allow_nan=False)):
            raise ValueError("it is not what was written (another digest)")
        saved, files = state["saved"], state["files"]
        if not isinstance(saved, dict) or not isinstance(files, dict) or len(files) > MOST_SHARDS:
            raise ValueError("it does not list its files")
        for name, (size, crc) in files.items():
            if Path(name).name != name or size not in Range(0, 2**62) or crc not in Range(0, 2**32):
                raise ValueError("it does not list its files")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{one_line(path)}: not a state of semask, or damaged ({reason(error)})") from error
    return saved, files


def read_shapes(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Check that nothing of a state has changed, and read all but the numbers; all processes call it together.

    Returns:
        Tensors without memory that have the types and shapes of those in the files, and the JSON of the state.

    Raises:
        ValueError: If a file is missing, damaged or not of this state, in any of the processes.
    """
    rank, count = process()
    fault: str | None = None
    shapes: dict[str, Tensor] = {}
    saved: dict[str, Any] = {}
    try:
        saved, files = read_manifest(folder)
        _require_only(folder, files)
        for index, (name, (size, crc)) in enumerate(files.items()):
            path = require_file(folder / name, otherwise="it belongs to the state: copy the whole folder")
            # Each process reads some of the files, all sizes are looked at by all.
            if path.stat().st_size != size or (index % count == rank and crc32(path) != crc):
                raise ValueError(f"{one_line(path)}: damaged, it is not what was written (another digest)")
        shapes = _shapes([folder / name for name in files])
    except (ValueError, OSError) as error:
        fault = reason(error, longest=500)
    faults = [x for x in gathered(fault, count) if x is not None]
    if faults:
        raise ValueError(faults[0])
    return shapes, saved


def _require_only(folder: Path, files: Mapping[str, object]) -> None:
    """Refuse files that the reader would take for parts of the state."""
    for path in folder.iterdir():
        if path.suffix == ".safetensors" and path.name not in files:
            raise ValueError(f"{one_line(path)}: does not belong to this state: remove it")


def _shapes(paths: list[Path]) -> dict[str, Tensor]:
    """Types and shapes of the tensors whose parts are in files, from their headers.

    Raises:
        ValueError: If a header is damaged, or there are not all parts of a tensor.
    """
    shapes: dict[str, list[int]] = {}
    dtypes: dict[str, torch.dtype] = {}
    numbers: dict[str, int] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                text = (file.metadata() or {}).get(SHARDING)
                parts = None if text is None else parse_json(text)
                for name in file.keys():  # noqa: SIM118
                    part = file.get_slice(name)
                    sides = part.get_shape()
                    kind = (part[:0] if sides else file.get_tensor(name)).dtype
                    starts = [0] * len(sides) if parts is None else parts[name]["saved_offsets"]
                    if len(starts) != len(sides) or not all(isinstance(x, int) and x in SIDE for x in starts):
                        raise ValueError(f"the place of {one_line(name, longest=80)} is wrong")
                    ends = [start + side for start, side in zip(starts, sides, strict=True)]
                    shapes[name] = [max(pair) for pair in zip(shapes.get(name, ends), ends, strict=True)]
                    numbers[name] = numbers.get(name, 0) + torch.Size(sides).numel()
                    if dtypes.setdefault(name, kind) != kind:
                        raise ValueError(f"{one_line(name, longest=80)} has two types")
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{one_line(path)}: not a part of a state, or damaged ({reason(error)})") from error
    for name, shape in shapes.items():
        if torch.Size(shape).numel() != numbers[name]:
            raise ValueError(f"{one_line(paths[0].parent)}: parts of {one_line(name, longest=80)} are missing")
    return {name: torch.empty(shape, dtype=dtypes[name], device="meta") for name, shape in shapes.items()}


def read_into(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors that have the names, types and shapes of `read_shapes`; all processes call it together.

    Raises:
        RuntimeError: If they can't be read.
    """
    try:
        with _quiet():
            load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(folder)))
    except CheckpointException as error:
        cause = _plain(next(iter(error.failures.values()))[0])
        raise RuntimeError(reason(cause, longest=300)) from error


def process() -> tuple[int, int]:
    """Number of this process, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def digest(text: str) -> str:
    """Digest of the JSON of a state."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def crc32(path: Path) -> int:
    """CRC-32 of a file: it tells damage, not forgery."""
    value = 0
    with open(path, "rb") as file:
        while content := file.read(CHUNK):
            value = zlib.crc32(content, value)
    return value
