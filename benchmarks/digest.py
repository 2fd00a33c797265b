"""What the digest of a checkpoint costs, as a share of loading it.

    python benchmarks/digest.py --rounds 7
    python benchmarks/digest.py --encoder swin_nano --channels 16     # whether it runs

Writes a checkpoint (SeMask-T FPN as default) and the state of a run of it. Each round times loading (`semask.load`, and
`read_tensors` for the state), the digest of what was read, which is a part of loading, and other hashes of the same
bytes in one thread. Times are the median with the least and greatest; a share is taken in each round, and its median
given. The files are in the page cache: with a disk to wait for the share is smaller.
"""

import argparse
import hashlib
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from harness import Settings, machine, spread
from torch import Tensor

import semask
from semask.builder import build
from semask.checkpoints.tensors import digest, read_tensors


def write(folder: Path, options: argparse.Namespace) -> Path:
    """A checkpoint."""
    model = build(options.encoder, "fpn", num_classes=150, channels=options.channels)
    path = semask.save(folder / "last.safetensors", model, {"step": 1})
    return path


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def other_hashes(tensors: dict[str, Tensor]) -> dict[str, Callable[[], object]]:
    """Other hashes of the same bytes, in one thread."""
    parts = [memoryview(x.reshape(-1).view(torch.uint8).numpy()) for x in tensors.values()]
    return {
        "sha256, one thread": lambda: [hashlib.sha256(x).digest() for x in parts],
        "blake2b, one thread": lambda: [hashlib.blake2b(x).digest() for x in parts],
        "crc32, one thread": lambda: [zlib.crc32(x) for x in parts],
    }


def measure(path: Path, loading: Callable[[], object], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way and round; the first round warms up."""
    tensors, _ = read_tensors(path)
    ways = {"load": loading, "digest": lambda: digest(tensors, ""), **other_hashes(tensors)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, call in ways.items():
            times[name].append(timed(call))
    return {name: values[1:] for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="swin_tiny")
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(machine(Settings(threads=torch.get_num_threads())))
    print("\n| file | MB | what | ms | share of loading, % |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), options)
        times = measure(path, lambda: semask.load(path), options.rounds)
        for name, values in times.items():
            shares = [100 * x / whole for x, whole in zip(values, times["load"], strict=True)]
            size, ms = path.stat().st_size / 1e6, [1000 * x for x in values]
            print(f"| {path.name} | {size:.0f} | {name} | {spread(ms, '.1f')} | {statistics.median(shares):.1f} |")


if __name__ == "__main__":
    main()
