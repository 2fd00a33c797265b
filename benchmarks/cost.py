"""Latency, peak memory and training step of SeMask FPN on this machine, as a table in Markdown.

    python benchmarks/cost.py                     # SeMask-T: 512 x 512, 1024 x 2048, training step
    python benchmarks/cost.py --threads 4 --encoder swin_small --repeats 5

Every case runs in a process of its own, so that its peak memory (ru_maxrss, whole process) is its own.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from semask import PixelLoss, SeMask
from semask.outputs import resize

CASES = {
    "predict 512 x 512": ("predict", 1, (512, 512)),
    "predict 1024 x 2048": ("predict", 1, (1024, 2048)),
    "training step, batch 2, 512 x 512": ("train", 2, (512, 512)),
}


def predict(model: SeMask, image: torch.Tensor) -> Callable[[], Any]:
    """Class scores at the image's size, as the published code was measured."""
    model.eval()

    def step() -> None:
        with torch.inference_mode():
            resize(model(image).logits, image.shape[-2:])

    return step


def train(model: SeMask, image: torch.Tensor) -> Callable[[], Any]:
    """Forward, backward and AdamW, with dropout and stochastic depth."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    label = torch.randint(0, model.config["num_classes"], (len(image), *image.shape[-2:]))
    loss = PixelLoss(average="all")

    def step() -> None:
        loss(model(image), label).total.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(case: str, encoder: str, threads: int, repeats: int, precision: str) -> dict[str, Any]:
    """Run one case and return seconds and MiB."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    kind, batch, size = CASES[case]
    model = SeMask(encoder=encoder)
    image = torch.randn(batch, 3, *size)
    step = {"predict": predict, "train": train}[kind](model, image)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            step()
        seconds.append(time.perf_counter() - start)
    timed = seconds[2:]  # the first two warm up
    return {
        "case": case, "precision": precision,
        "min_s": min(timed), "median_s": statistics.median(timed), "max_s": max(timed),
        "before_mib": before, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="swin_tiny")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=["fp32", "bf16"])
    parser.add_argument("--json", help="also write the numbers to this file")
    args = parser.parse_args()
    print(f"{args.encoder} FPN, 150 classes, {args.threads} threads, torch {torch.__version__}, {cpu()}\n")
    print("| case | precision | seconds: min | median | max | peak MiB | MiB before |\n|---|---|---|---|---|---|---|")
    rows = []
    for case in CASES:
        for precision in args.precision:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                row = pool.apply(measure, (case, args.encoder, args.threads, args.repeats, precision))
            rows.append(row)
            print(
                f"| {case} | {precision} | {row['min_s']:.3f} | {row['median_s']:.3f} | {row['max_s']:.3f} "
                f"| {row['peak_mib']:.0f} | {row['before_mib']:.0f} |",
                flush=True,
            )
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"machine": cpu(), "rows": rows}, file, indent=1)


def cpu() -> str:
    """Name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        return f"{len(names)} x {names[0]}"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
