"""Prediction in tiles: time and peak memory of large files, and what the seams cost, as tables in Markdown.

    python benchmarks/tiles.py size --sizes 2048 8192 20000
    python benchmarks/tiles.py size --sizes 20000 --decoders fpn --kill-after 600
    python benchmarks/tiles.py seams --weights demo/run/best.safetensors

`size` draws an N x N GeoTIFF and PNG, runs `semask predict --tile` on each in a process of its own, and gives seconds
and peak resident memory (of the whole process, with Python and torch). With --kill-after the verb is killed (SIGKILL)
after so many seconds and started again, which goes on; seconds are then the sum, the peak the larger. `seams` compares,
on one drawn image, class probabilities in tiles with those of the image in one piece: everywhere, and for pixels within
16 of a seam's middle.
Without --weights the model has random weights, which say much about memory and little about seams.
"""

import argparse
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Timer

import numpy as np
import torch
from torch import Tensor

from semask import Predictor, SeMask
from semask.builder import build
from semask.checkpoints.saving import save
from semask.checkpoints.sources import load
from semask.data.geo_files import import_rasterio
from semask.prediction.blending import Span, blend, spans
from semask.prediction.recipe import recipe_inference
from semask.prediction.score_maps import probabilities
from semask.synthetic.scene import draw_scene

SCENE = 256
SCENES = 64


def mosaic(side: int, *, rows: range | None = None) -> np.ndarray:
    """Rows of a square of drawn scenes, [3, len(rows), side]; the scenes repeat."""
    rows = range(side) if rows is None else rows
    across = -(-side // SCENE)
    lines = []
    for line in range(rows.start // SCENE, -(-rows.stop // SCENE)):
        scenes = [np.array(draw(2 * ((line * across + i) % SCENES) + 1)) for i in range(across)]
        lines.append(np.concatenate(scenes, axis=1)[:, :side])
    first = rows.start - rows.start // SCENE * SCENE
    return np.concatenate(lines)[first : first + len(rows)].transpose(2, 0, 1)


DRAWN: dict[int, np.ndarray] = {}


def draw(index: int) -> np.ndarray:
    if index not in DRAWN:
        DRAWN[index] = np.array(draw_scene(0, index, size=(SCENE, SCENE))[0].convert("RGB"))
    return DRAWN[index]


def write_images(folder: Path, side: int) -> list[Path]:
    """A GeoTIFF and a PNG of the same pixels, drawn by windows."""
    rasterio = import_rasterio()
    tiff = folder / f"tiff{side}.tif"
    place = rasterio.transform.from_origin(400_000, 5_000_000, 0.5, 0.5)
    with rasterio.open(
        tiff, "w", driver="GTiff", dtype="uint8", count=3, height=side, width=side, tiled=True, blockxsize=256,
        blockysize=256, compress="deflate", photometric="rgb", interleave="pixel", crs="EPSG:32633", transform=place,
    ) as file:  # fmt: skip
        for first in range(0, side, SCENE):
            rows = range(first, min(first + SCENE, side))
            file.write(mosaic(side, rows=rows), window=((rows.start, rows.stop), (0, side)))
    png = folder / f"png{side}.png"
    rasterio.shutil.copy(tiff, png, driver="PNG", ZLEVEL=1)
    return [tiff, png]


def random_model(options: argparse.Namespace, decoder: str) -> SeMask:
    torch.manual_seed(0)
    return build(encoder=options.encoder, decoder=decoder, num_classes=options.classes).eval()


def size(options: argparse.Namespace) -> None:
    """Seconds and peak memory of the verb."""
    print("| file | decoder | seconds | s/megapixel | peak MiB |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for decoder in options.decoders:
            weights = options.weights or str(Path(folder) / f"{decoder}.safetensors")
            if not options.weights:
                save(weights, random_model(options, decoder), {})
            for side in options.sizes:
                # In a process of its own: a child's peak counts what its parent held when it was started.
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                    images = pool.submit(write_images, Path(folder), side).result()
                for image in images:
                    seconds, peak = run(weights, image, Path(folder) / "out", options)
                    print(
                        f"| {side} x {side} {image.suffix} | {decoder} | {seconds:.1f} "
                        f"| {seconds / side**2 * 1e6:.2f} | {peak:.0f} |",
                        flush=True,
                    )
                    image.unlink()


def run(weights: str, image: Path, out: Path, options: argparse.Namespace) -> tuple[float, float]:
    """Seconds and peak MiB of one `semask predict`, or of one that is killed and the one that goes on."""
    command = [sys.executable, "-m", "semask.cli", "predict", weights, str(image), f"--out={out}", "--device=cpu"]
    command += [f"--tile={options.tile}", f"--overlap={options.overlap}", "--confidence"]
    killed = start(command, options, kill_after=options.kill_after) if options.kill_after else (0.0, 0.0)
    ended = start(command, options)
    return killed[0] + ended[0], max(killed[1], ended[1])


def start(command: list[str], options: argparse.Namespace, *, kill_after: float | None = None) -> tuple[float, float]:
    """Seconds and peak MiB of a command, which may be killed after some seconds and must succeed otherwise."""
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | {"OMP_NUM_THREADS": str(options.threads)}
        )
        killer = Timer(kill_after or 0, process.kill)
        if kill_after:
            killer.start()
        _, status, usage = os.wait4(process.pid, 0)  # ru_maxrss of this child alone
        killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode()
        if process.returncode not in (0, -signal.SIGKILL if kill_after else 0):
            raise SystemExit(said)
        print(said, end="", file=sys.stderr)
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def seams(options: argparse.Namespace) -> None:
    """Tiles against the image in one piece."""
    torch.set_num_threads(options.threads)
    side, tile = options.side, options.tile
    image = torch.from_numpy(mosaic(side).copy())
    print("| decoder | overlap | other label % | mean difference | max | near seams: other label % | mean | max |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for decoder in options.decoders:
        model = load(options.weights) if options.weights else random_model(options, decoder)
        predictor = Predictor(model, replace(recipe_inference(model), scale=None, mode="whole"))
        whole = predictor.views(image)[0]
        for overlap in options.overlaps:
            grid = spans(side, tile, overlap)
            near = Totals()
            everywhere = Totals()
            for rows, columns, p in tiled(predictor, image, grid):
                with torch.inference_mode():
                    q = probabilities(whole, (side, side), rows)[..., columns.start : columns.stop]
                    other = (p.argmax(1) != q.argmax(1))[0]
                    difference = (p - q).abs().amax(1)[0]
                everywhere.add(other, difference)
                at_seam = middle(grid, rows)[:, None] | middle(grid, columns)
                near.add(other[at_seam], difference[at_seam])
            name = options.weights or decoder
            print(f"| {name} | {overlap} | {everywhere} | {near} |", flush=True)


def tiled(predictor: Predictor, image: Tensor, grid: list[Span]):  # noqa: ANN201
    """Class probabilities of all rows of tiles of a square image."""
    bands: dict[tuple[int, int], dict[str, Tensor]] = {}
    for row, span in enumerate(grid):
        yield from blend(predictor, image[:, span.tile.start : span.tile.stop], grid, grid, row, bands)


def middle(grid: list[Span], pixels: range, *, reach: int = 16) -> Tensor:
    """Whether pixels along an axis are within `reach` of the middle of a seam."""
    at = torch.arange(pixels.start, pixels.stop)
    centers = [(span.rise.start + span.rise.stop) / 2 for span in grid[1:]]
    return torch.stack([(at + 0.5 - center).abs() < reach for center in [*centers, -reach]]).any(0)


class Totals:
    """Share of other labels, mean and maximum of the largest difference of a probability in each pixel."""

    def __init__(self) -> None:
        self.pixels, self.other, self.sum, self.max = 0, 0, 0.0, 0.0

    def add(self, other: Tensor, difference: Tensor) -> None:
        if other.numel():
            self.pixels += other.numel()
            self.other += int(other.sum())
            self.sum += float(difference.double().sum())
            self.max = max(self.max, float(difference.max()))

    def __str__(self) -> str:
        pixels = max(self.pixels, 1)
        return f"{100 * self.other / pixels:.3f} | {self.sum / pixels:.5f} | {self.max:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["size", "seams"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[2048, 8192, 20000])
    parser.add_argument("--side", type=int, default=2048, help="of the image for the seams")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--overlap", type=int, default=128, help="for the sizes")
    parser.add_argument("--overlaps", nargs="+", type=int, default=[0, 64, 128, 256], help="for the seams")
    parser.add_argument("--decoders", nargs="+", default=["fpn", "mask2former"])
    parser.add_argument("--weights", help="checkpoint in place of random weights; give one decoder then")
    parser.add_argument("--encoder", default="swin_nano")
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--kill-after", type=float, help="seconds after which the verb is killed and started again")
    parser.add_argument("--folder", help="where images and results are written for the sizes; they are deleted")
    options = parser.parse_args()
    print(f"{platform.machine()} CPU, {options.threads} threads, torch {torch.__version__}, tiles of {options.tile}\n")
    {"size": size, "seams": seams}[options.what](options)


if __name__ == "__main__":
    main()
