"""Whether the data side keeps up with training: images/s of decoding and augmentation, `run.py data`."""

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from semask import Augmentation, Data
from semask.data.dataset import SegmentationDataset
from semask.data.loader import training_loader
from semask.data.normalization import Normalization
from semask.data.transforms import Transform, training_transform
from semask.synthetic.dataset import write_synthetic


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Print what each step of a sample costs, and images/s against workers; returns the numbers."""
    torch.set_num_threads(1)  # as the workers of a loader have
    augmentation = Augmentation(scale=tuple(options.scale), crop=tuple(options.crop))
    transform = training_transform(augmentation, Normalization())
    with tempfile.TemporaryDirectory() as folder:
        dataset = find(options, Path(folder))
        costs = step_costs(dataset, transform, options.samples)
        rows = list(rates(dataset, transform, options))
    print_costs(costs)
    print_rates(rows, options)
    return {"seconds": costs, "rates": rows}


def find(options: argparse.Namespace, folder: Path) -> SegmentationDataset:
    """The data set of --data, or scenes drawn in a folder."""
    if options.data is None:
        size = (512, 683)  # the short side of the published recipe, and the usual shape of a photograph
        return Data(root=str(write_synthetic(folder / "scenes", train=8, val=1, size=size))).dataset("train")
    return Data(root=options.data, format=options.format).dataset("train")


def step_costs(dataset: SegmentationDataset, transform: Transform, samples: int) -> dict[str, float]:
    """Mean seconds of each step from the files to a training sample, after one sample that is not counted."""
    totals: dict[str, float] = {}
    torch.manual_seed(0)
    for position in range(samples + 1):
        for name, seconds in sample_steps(dataset, transform, position % len(dataset)):
            totals[name] = totals.get(name, 0.0) + seconds if position else 0.0
    return {name: total / samples for name, total in totals.items()}


def sample_steps(dataset: SegmentationDataset, transform: Any, index: int) -> Iterator[tuple[str, float]]:
    """Name and seconds of each step of one sample."""
    start = time.perf_counter()
    image = dataset.image(index)
    yield "decode image", time.perf_counter() - start
    start = time.perf_counter()
    label = dataset.label(index)
    yield "decode mask", time.perf_counter() - start
    for step in transform.transforms:
        start = time.perf_counter()
        image, label = step(image, label)
        yield type(step).__name__, time.perf_counter() - start


def rates(
    dataset: SegmentationDataset, transform: Transform, options: argparse.Namespace
) -> Iterator[dict[str, float]]:
    """Images/s for each number of workers and, where a step's time is given, how long each step waits for data."""
    for workers in options.workers:
        skipped = max(2 * workers, 1)  # what workers have ready before anybody asks
        steps = skipped + math.ceil(options.samples / options.batch_size) * max(workers, 1)
        settings: dict[str, Any] = {"seed": 0, "batch_size": options.batch_size, "steps": steps, "workers": workers}
        seconds = waits(training_loader(dataset, transform, **settings), 0.0)[skipped:]
        row = {"workers": workers, "images/s": options.batch_size * len(seconds) / sum(seconds)}
        row["images/s per worker"] = row["images/s"] / max(workers, 1)
        if options.step_seconds:
            waited = waits(training_loader(dataset, transform, **settings), options.step_seconds)[skipped:]
            row["waits, s a step"] = sum(waited) / len(waited)
        yield row


def waits(loader: Any, step_seconds: float) -> list[float]:
    """Seconds that each batch was waited for, by somebody who is busy for `step_seconds` with each."""
    found, start = [], time.perf_counter()
    for _ in loader:
        found.append(time.perf_counter() - start)
        time.sleep(step_seconds)
        start = time.perf_counter()
    return found


def print_costs(costs: dict[str, float]) -> None:
    total = sum(costs.values())
    print("\n| step of a sample, one core | ms | share |\n|---|---|---|")
    for name, seconds in costs.items():
        print(f"| {name} | {1000 * seconds:.1f} | {seconds / total:.0%} |")
    print(f"| all | {1000 * total:.1f} | {1 / total:.1f} images/s |")


def print_rates(rows: list[dict[str, float]], options: argparse.Namespace) -> None:
    print(f"\n| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(f'{value:.3g}' for value in row.values())} |")
    wanted = options.batch_size / options.step_seconds if options.step_seconds else options.images_per_second
    if wanted:
        each = rows[0]["images/s per worker"]
        print(f"\nSteps that take {wanted:.3g} images/s need {math.ceil(wanted / each)} workers with a core each.")
