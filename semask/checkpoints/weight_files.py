"""Reads weight files of others: .safetensors here, everything that may be a pickle in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from semask.checkpoints import unpickle
from semask.files.atomic import temporary_folder
from semask.files.text import reason

TOO_LONG = "not a readable weight file (it takes too long): convert it to .safetensors where it was made"


class WeightFile(NamedTuple):
    """What a weight file holds.

    Attributes:
        tensors: Its state dict; a leading "module." that all names share is removed.
        about: Plain JSON values next to the tensors, e.g. {"meta": {"CLASSES": [...]}, "iter": 1}; of a
            .safetensors file the texts of its header.
    """

    tensors: dict[str, Tensor]
    about: dict[str, Any]


def read_file(path: Path) -> WeightFile:
    """Read a weight file of any origin without running anything in it.

    Args:
        path: A .safetensors file; or any file with a state dict that torch.save or pickle made (.pth, .pt, .bin, .pkl,
            .ckpt), alone or as "state_dict" or "model" of a training checkpoint.

    Returns:
        Tensors in main memory, with the types that they have in the file, and what is said about them.

    Raises:
        ValueError: If there is no such file, it is damaged, or holds more than tensors, arrays and plain values.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file: give a .safetensors, .pth, .pt, .bin, .pkl or .ckpt file")
    tensors, about = read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path)
    if not tensors:
        raise ValueError(f"{path}: no tensors in it: give a file with a state dict")
    if all(name.startswith("module.") for name in tensors):  # as DistributedDataParallel names them
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return WeightFile(tensors, about)


def read_safetensors(path: Path) -> WeightFile:
    """Read a .safetensors file; `about` is what its header says."""
    try:
        with safe_open(path, framework="pt") as file:
            return WeightFile({name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: not a readable weight file ({reason(error)}): download or convert it again"
        ) from error


def read_pickle(path: Path) -> WeightFile:
    """Read a file that may be a pickle, through a process that can do nothing else; see `weights.unpickle`."""
    with temporary_folder() as folder:
        converted = folder / "weights.safetensors"
        if fault := convert(path, converted):
            raise ValueError(f"{path}: {fault}")
        try:
            tensors, header = read_safetensors(converted)
        except ValueError as error:
            raise ValueError(f"{path}: not a readable weight file: convert it where it was made") from error
    return WeightFile(tensors, json.loads(header["about"]))


def convert(source: Path, target: Path) -> str:
    """Run `weights.unpickle` on a file, in the folder of the target.

    Returns:
        Why there is no target: one line, which says what to do; empty if there is one.
    """
    log = target.with_name("log")
    command = [sys.executable, "-P", "-B", "-W", "ignore", str(Path(unpickle.__file__).resolve())]
    try:
        with open(source, "rb") as stdin, open(target, "wb") as stdout, open(log, "wb") as stderr:
            seconds = unpickle.time_limit(source.stat().st_size)
            code = subprocess.run(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=target.parent,
                env=environment(),
                timeout=seconds,
                check=False,
            ).returncode
        said = log.read_text(encoding="utf-8", errors="replace")[-2000:].strip().splitlines() or [""]
    except OSError as error:
        return f"could not be read ({error.strerror})"
    except subprocess.TimeoutExpired:
        return TOO_LONG
    if code == unpickle.REFUSED:
        return said[-1]
    if code == 0:
        return ""
    reason = said[-1] or f"its reader stopped with code {code}"
    if code < 0 and signal.Signals(-code).name == "SIGXCPU":
        return TOO_LONG
    if code < 0:
        reason = f"its reader died of {signal.Signals(-code).name}"
    return f"not a readable weight file ({reason}): convert it to .safetensors where it was made"


def environment() -> dict[str, str]:
    """The variables that Python and the loader need to find their libraries; nothing that torch would obey."""
    kept = ("PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "TMPDIR")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    places = [os.path.abspath(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    found["PYTHONPATH"] = os.pathsep.join(places)  # read in another folder: no relative ones
    return {**found, "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
