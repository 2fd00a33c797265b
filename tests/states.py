"""States of runs: read, changed and damaged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semask.training.state import read_saved
from semask.training.state_files import MANIFEST, read_into, read_shapes, write_state_files

__all__ = ["MANIFEST", "read_saved", "read_whole", "rewrite", "shard_of"]


def read_whole(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON of a state, whatever number of processes wrote it."""
    shapes, saved = read_shapes(folder)
    tensors = {name: torch.zeros_like(x, device="cpu") for name, x in shapes.items()}
    read_into(folder, tensors)
    return tensors, saved


def rewrite(folder: Path, change: Callable[[dict[str, Tensor], dict[str, Any]], None]) -> None:
    """Change a state as nothing that is damaged would be: with the right digests."""
    tensors, saved = read_whole(folder)
    change(tensors, saved)
    write_state_files(folder, tensors, saved)


def shard_of(folder: Path, number: int = 1) -> Path:
    """File with the tensors of a process."""
    return folder / f"shard-{number:05d}-model-00001-of-00001.safetensors"
