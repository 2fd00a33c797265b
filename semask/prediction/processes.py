"""Several processes that share images, as torchrun starts them; torch is imported only where there are several."""

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple, TypeVar

PATIENCE = timedelta(hours=6)
"""How long a process that is done waits for the others, whose images may be larger; a dead one is noticed at once."""
T = TypeVar("T")
_GONE = re.compile(r"gloo|NCCL|Connection (closed|reset|refused)|Broken pipe|Timed out waiting", re.IGNORECASE)
"""What gloo and NCCL say in a RuntimeError of no kind of its own."""


class Processes(NamedTuple):
    """The processes that do something together, seen from one of them."""

    rank: int
    """Which one this is; it takes the images rank, rank + world_size, ...; 0 prints and writes what is of all."""
    world_size: int
    """How many there are."""
    device: str | None
    """Where this one runs: what was asked for, or the GPU that is its own."""


def started() -> int:
    """How many processes were started together; torchrun tells each of them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that prints and writes what is of all."""
    return os.environ.get("RANK", "0") == "0"


def require_one(command: str) -> None:
    """Refuse to do the same thing in several processes.

    Raises:
        ValueError: If several were started.
    """
    if started() > 1:
        raise ValueError(f"{command} runs in one process, but {started()} were started: leave torchrun out")


@contextlib.contextmanager
def joined(device: str | None) -> Iterator[Processes]:
    """Join the processes that torchrun started, and part from them at the end; alone without it.

    Args:
        device: Where to run; None or cuda gives each process a GPU of its own, if there are any.

    Raises:
        ValueError: If there are more processes than GPUs.
    """
    count = started()
    if count == 1:
        yield Processes(0, 1, device)
        return
    import torch
    import torch.distributed as dist

    own = device == "cuda" or (device is None and torch.cuda.is_available())
    if own:
        device = f"cuda:{_own_gpu()}"
        torch.cuda.set_device(device)
    join = not dist.is_initialized()
    if join:
        dist.init_process_group("cpu:gloo,cuda:nccl" if own else "gloo", timeout=PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), device)
    finally:
        if join:
            dist.destroy_process_group()


def _own_gpu() -> int:
    """Number of the GPU of this process.

    Raises:
        ValueError: If there is none left for it.
    """
    import torch

    index, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if index >= gpus:
        raise ValueError(f"more processes than GPUs ({gpus}) on this machine: start {gpus}, or give --device cpu")
    return index


@contextlib.contextmanager
def all_or_none(count: int) -> Iterator[None]:
    """Do something in each of `count` processes; if it fails in one, it fails in all, and none waits for ever.

    Raises:
        ValueError: If it failed in another process.
    """
    fault = None
    try:
        yield
    except Exception as error:
        if count == 1:
            raise
        fault = error
    if count == 1:
        return
    import torch
    import torch.distributed as dist

    failed = torch.tensor(int(fault is not None), device="cpu" if "gloo" in dist.get_backend_config() else "cuda")
    try:
        dist.all_reduce(failed)
    except RuntimeError as error:
        raise fault or ValueError("another process died: the work is not complete, start it again") from error
    if fault is not None:
        raise fault
    if failed:
        raise ValueError("another process could not do its part: its own line says why")


def is_of_connection(error: BaseException) -> bool:
    """Whether an error of torch.distributed says that another process is gone; its kinds differ by its engine."""
    import torch.distributed as dist
    from torch.distributed.checkpoint.api import CheckpointException

    if isinstance(error, CheckpointException):
        return any(is_of_connection(cause) for cause, _ in error.failures.values())
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and bool(_GONE.search(str(error))))


def gathered(value: T, count: int) -> list[T]:
    """What each process has, in the order of their ranks."""
    values: list[T] = [value] * count
    if count > 1:
        import torch.distributed as dist

        dist.all_gather_object(values, value)
    return values
