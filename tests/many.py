"""A training of a tiny model, without BatchNorm and without chance, that any number of processes can share.

    torchrun --nproc-per-node 3 tests/many.py SCENES OUT '{"steps": 50, "parallel": "fsdp"}'

The weights are float64, so that what is not equal in the end is a fault and not rounding that AdamW made large: of
gradients that are zero but for rounding, such as those of a key's bias, it makes steps as long as `lr`.
"""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from torch import nn

from semask import Augmentation, Data
from semask.cli import fail
from semask.decoders.segmenter import Segmenter
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.swin import Swin, SwinSize
from semask.model import SeMask
from semask.settings.training import Training
from semask.synthetic.dataset import write_synthetic
from semask.training.loop import train
from semask.training.run import Run
from semask.training.state import holds_run

SIZE = (32, 32)
CLASSES = 11
LIMIT = 300.0
"""Seconds that a training may take."""
context = multiprocessing.get_context("forkserver")  # what is imported once need not be imported for each process
context.set_forkserver_preload(
    ["many", "semask.training.loop", "torch.distributed.fsdp", "torch.distributed.checkpoint"]
)


def tiny(dtype: torch.dtype) -> SeMask:
    """A SeMask of a few thousand parameters."""
    torch.manual_seed(0)
    encoder = SemanticEncoder(
        Swin(SwinSize(4, (1, 1, 1, 1), (1, 1, 1, 1), 4, 0.0)), num_classes=CLASSES, semantic_window=(4, 4, None, None)
    )
    decoder = Segmenter(encoder.channels, encoder.strides, num_classes=CLASSES, channels=8, layers=1, dropout=0.0)
    model = SeMask(encoder, decoder).to(dtype)
    model.register_forward_pre_hook(lambda _, arguments: (arguments[0].to(dtype),))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def write_scenes(folder: Path) -> Path:
    """Twelve scenes, the same for all tests."""
    return write_synthetic(folder, train=12, val=5, size=SIZE)


def die_when_done(rank: int, step: int) -> None:
    """Let a process end as a machine does that loses its power, after some steps; not when the job is restarted."""
    finish_step = Run.finish_step

    def finish(run: Run, lr: float) -> None:
        finish_step(run, lr)
        first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        if first and run.step == step and run.accelerator.process_index == rank:
            os.kill(os.getpid(), signal.SIGKILL)

    Run.finish_step = finish  # type: ignore[method-assign]


def train_tiny(
    scenes: Path,
    out: Path,
    *,
    dtype: str = "float64",
    changed: bool = False,
    die_at: Sequence[int] | None = None,
    **settings: Any,
) -> None:
    """Train in this process, one of as many as torchrun started; goes on with what is in the folder.

    Args:
        scenes: Data.
        out: Folder of the run.
        dtype: Type of the weights.
        changed: Whether it may go on with another number of processes.
        die_at: Rank and step at which the process of this rank is killed, in a job that was not restarted.
        settings: Of the training.
    """
    if die_at is not None:
        die_when_done(*die_at)
    values = {"steps": 6, "batch_size": 12, "lr": 1e-3, "warmup_steps": 0, "log_every": 1, "precision": "fp32"}
    values |= {"cpu": True, "samples": 0, "log_with": (), "save_every": 1000}
    there = holds_run(out)
    train(
        tiny(getattr(torch, dtype)),
        Data(root=str(scenes), workers=0, check="none"),
        out=str(out),
        augmentation=Augmentation(scale=None, crop=SIZE),
        training=Training(**{**values, **settings}),
        resume=there,
        resume_changed=there and changed,
    )


def command(processes: int, scenes: Path, out: Path, *options: str, **settings: Any) -> list[str]:
    """The command line that lets so many processes train."""
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", *options]
    launcher += [] if "--rdzv-endpoint" in " ".join(options) else ["--standalone"]
    return [*launcher, __file__, str(scenes), str(out), json.dumps(settings)]


def environment() -> dict[str, str]:
    """One thread a process, and a store for each start: in the one that torchrun shares, old addresses stay."""
    root = str(Path(__file__).resolve().parent.parent)
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": root, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return {**os.environ, **own}


def launch(processes: int, scenes: Path, out: Path, *options: str, **settings: Any) -> str:
    """Train with so many processes that torchrun starts; returns what they said."""
    done = subprocess.run(
        command(processes, scenes, out, *options, **settings),
        env=environment(), timeout=LIMIT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def start_processes(
    processes: int, said: Path, scenes: Path, out: Path, settings: dict[str, Any]
) -> list[ForkServerProcess]:
    """Start processes that train together, and write what they say to a file."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    job = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        context.Process(
            target=child, args=({**job, "RANK": str(rank), "LOCAL_RANK": str(rank)}, said, scenes, out, settings)
        )
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    return started


def train_together(processes: int, scenes: Path, out: Path, *, code: int = 0, **settings: Any) -> str:
    """Train with so many processes, started as torchrun does but sooner; returns what they said.

    Args:
        processes: Number of processes.
        scenes: Data.
        out: Folder of the run.
        code: Exit code of each process that is not killed.
        settings: Of `train_tiny`.
    """
    said = out.with_name(f"{out.name}-said")
    said.unlink(missing_ok=True)
    started = start_processes(processes, said, scenes, out, settings)
    until = time.monotonic() + LIMIT
    for process in started:
        process.join(max(0, until - time.monotonic()))
        process.kill()
        process.join()
    text = said.read_text(encoding="utf-8")
    killed = [settings["die_at"][0]] if "die_at" in settings else []
    expected = [-signal.SIGKILL if rank in killed else code for rank in range(processes)]
    assert [process.exitcode for process in started] == expected, text[-3000:]
    return text


def child(job: dict[str, str], said: Path, scenes: Path, out: Path, settings: dict[str, Any]) -> None:
    """Be one of several processes."""
    os.environ.update(job)
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(1)
    train_or_fail(scenes, out, settings)


def train_or_fail(scenes: Path, out: Path, settings: dict[str, Any]) -> None:
    """Train; an error that a user is told of is one line, as on the command line."""
    try:
        train_tiny(scenes, out, **settings)
    except ValueError as error:
        fail(str(error))


if __name__ == "__main__":
    train_or_fail(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
