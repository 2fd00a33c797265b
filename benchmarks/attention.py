"""Time and peak memory of global semantic attention against the number of cells, as a table in Markdown.

    python benchmarks/attention.py --threads 2

Two forms: "plain" holds the N x N weights, as the published code does; "ours" is `semask.semantic.attention.attend`.
Without gradients (prediction), and with them, forward and backward (training). Every case runs in a process of its own,
so that its peak memory (growth of ru_maxrss) is its own; the forms take turns, and the median time is given.
"""

import argparse
import multiprocessing
import platform
import resource
import statistics
import time
from typing import Any

import torch
from torch import Tensor

from semask.semantic.attention import attend


def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.softmax(query @ key.transpose(-2, -1), dim=-1) @ value


FORMS = {"plain": plain, "ours": attend}


def measure(form: str, training: bool, cells: int, options: argparse.Namespace) -> tuple[float, float]:
    """Seconds and MiB of one case."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    widths = (options.classes, options.classes, options.channels)
    plain(*(torch.randn(1, 64, width) for width in widths))  # starts the threads
    tensors = [0.3 * torch.randn(1, cells, width) for width in widths]
    tensors = [tensor.requires_grad_(training) for tensor in tensors]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with torch.set_grad_enabled(training):
        mixed = FORMS[form](*tensors)
    if training:
        mixed.sum().backward()
    taken = time.perf_counter() - start
    return taken, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", type=int, default=[2048, 4096, 8192, 16384])
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--channels", type=int, default=384)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    machine = f"{platform.machine()} CPU, {options.threads} threads, torch {torch.__version__}"
    print(f"{machine}, fp32, K = {options.classes}, C = {options.channels}\n")
    print("| cells N | | plain s | ours s | ratio | plain MiB | ours MiB | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for training in (False, True):
        for cells in options.cells:
            results: dict[str, list[Any]] = {form: [] for form in FORMS}
            for _ in range(options.repeats):
                for form, found in results.items():
                    with context.Pool(1) as pool:
                        found.append(pool.apply(measure, (form, training, cells, options)))
            (s, m), (ours_s, ours_m) = (
                [statistics.median(values) for values in zip(*found, strict=True)] for found in results.values()
            )
            kind = "forward, backward" if training else "forward"
            print(f"| {cells:,} | {kind} | {s:.3f} | {ours_s:.3f} | {ours_s / s:.2f} | ", end="")
            print(f"{m:.0f} | {ours_m:.0f} | {ours_m / m:.2f} |", flush=True)


if __name__ == "__main__":
    main()
