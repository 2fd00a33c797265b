"""Throughput from files and from shards side by side: images/s that reach a training, with equal batches.

    python benchmarks/shards.py                              # synthetic scenes; files, shards, HTTP on loopback, cache
    python benchmarks/shards.py --data FOLDER --format ade20k --remote s3://bucket/folder

Sides take turns in each round, and the order changes from round to round. Batches of all sides are compared first.
Between rounds the system's own cache of files is as it is: give more data than memory to measure the disk.
"""

import argparse
import json
import math
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from semask.data.dataset import SegmentationDataset
from semask.data.loader import Batch, training_loader
from semask.data.normalization import Normalization
from semask.data.packing import pack
from semask.data.source import Data
from semask.data.transforms import Augmentation, training_transform
from semask.synthetic.dataset import write_synthetic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of a data set; default: synthetic scenes of 512 x 683 pixels")
    parser.add_argument("--format", default="folder", help="its layout")
    parser.add_argument("--scenes", type=int, default=64, help="number of synthetic scenes")
    parser.add_argument("--remote", help="URL that a pack of the same data was copied to, as a further side")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that the server on loopback waits first")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=16, help="batches of a round that are timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--crop", type=int, default=512, help="side of the training crop")
    parser.add_argument("--json", help="file to write the numbers to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = Data(options.data, format=options.format, check="none") if options.data else scenes(folder, options)
        packed = pack(data, folder / "pack", splits=("train",), check="none")
        print(f"{packed.samples['train']:,} images, {packed.bytes / 1e6:,.1f} MB in {packed.shards} tar files")
        url = stack.enter_context(serving(folder / "pack", options.latency))
        local, remote = {"format": "shards", "check": "none"}, options.remote
        sides = {"files": data, "shards": Data(str(folder / "pack"), **local), "HTTP": Data(url, **local)}
        sides["HTTP, cache"] = Data(url, **local, cache=str(folder / "cache"))
        if remote is not None:
            sides |= {
                "remote": Data(remote, **local),
                "remote, cache": Data(remote, **local, cache=str(folder / "far")),
            }
        rows = list(measure({name: side.dataset("train") for name, side in sides.items()}, options))
    print_table(rows)
    if options.json:
        Path(options.json).write_text(json.dumps({"settings": vars(options), "cores": os.cpu_count(), "rows": rows}))


def scenes(folder: Path, options: argparse.Namespace) -> Data:
    """Synthetic scenes as large as photographs of ADE20K."""
    return Data(str(write_synthetic(folder / "scenes", train=options.scenes, val=1, size=(512, 683))), check="none")


def measure(sides: dict[str, SegmentationDataset], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of the table: for each number of workers and side, images/s and the ratio to files in the same round."""
    first = next(iter(sides.values()))
    for name, side in sides.items():
        for ours, theirs in zip(batches(side, options, 0, 2), batches(first, options, 0, 2), strict=True):
            if not torch.equal(ours.image, theirs.image) or not torch.equal(ours.label, theirs.label):
                raise ValueError(f"{name}: batches differ from those of the files")
    for side in sides.values():  # caches are filled
        for _ in batches(side, options, 0, math.ceil(len(side) / options.batch_size)):
            pass
    for workers in options.workers:
        rates: dict[str, list[float]] = {name: [] for name in sides}
        names = list(sides)
        for _ in range(options.rounds):
            for name in names:
                rates[name].append(rate(sides[name], options, workers))
            names = [*names[1:], names[0]]
        for name, found in rates.items():
            ratios = [ours / files for ours, files in zip(found, rates["files"], strict=True)]
            yield {
                "workers": workers,
                "side": name,
                "images/s": statistics.median(found),
                "lowest": min(found),
                "highest": max(found),
                "ratio": statistics.median(ratios),
            }


def rate(side: SegmentationDataset, options: argparse.Namespace, workers: int) -> float:
    """Images/s, without the batches that workers have ready before anybody asks."""
    skipped = max(2 * workers, 1)
    start = 0.0
    for number, _ in enumerate(batches(side, options, workers, skipped + options.steps), 1):
        if number == skipped:
            start = time.perf_counter()
    return float(options.batch_size * options.steps / (time.perf_counter() - start))


def batches(side: SegmentationDataset, options: argparse.Namespace, workers: int, steps: int) -> Iterator[Batch]:
    """The first batches of a training."""
    transform = training_transform(Augmentation(scale=None, crop=(options.crop, options.crop)), Normalization())
    yield from training_loader(side, transform, seed=0, batch_size=options.batch_size, steps=steps, workers=workers)


def print_table(rows: list[dict[str, Any]]) -> None:
    print("\n| workers | read from | images/s (lowest to highest) | ratio to files |\n|---|---|---|---|")
    for row in rows:
        spread = f"{row['images/s']:.1f} ({row['lowest']:.1f} to {row['highest']:.1f})"
        print(f"| {row['workers']} | {row['side']} | {spread} | {row['ratio']:.2f} |")


@contextmanager
def serving(folder: Path, latency: float) -> Iterator[str]:
    """A server of ranges on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            time.sleep(latency)
            path = folder / Path(self.path).name
            size = path.stat().st_size
            first, last = self.headers.get("Range", f"bytes=0-{size - 1}").removeprefix("bytes=").split("-")
            start, end = int(first), min(int(last) + 1, size)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            with open(path, "rb") as file:
                file.seek(start)
                self.wfile.write(file.read(end - start))

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    main()
