"""Fuzzing: files that are nearly right, for every reader; anything but an answer or one line is a finding.

    python -m tests.fuzz --minutes 10                      all targets in turn, findings in fuzz-findings/
    python -m tests.fuzz --target checkpoint --seed 7      one round again, the same files

Each round runs in a process of its own with limits on time and memory, so that a crash, a hang or an explosion is a
finding too: its file is the last one that was tried.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from semask.builder import build

CASES, SECONDS = 200, 600
MEMORY = 6 * 2**30
"""Bytes of address space; torch alone maps several."""
TOKENS = [
    b"\0", b"\xff" * 8, b"\x1b[2J", b"-1", b"1e999", b"null", b"NaN", b"[[[[[[[[[", b"{", b"}", b'"', b"9" * 40,
    b"&a *a", b"!!python/object:os.system", b"true", b"\xef\xbb\xbf", b"\r\n\r\n", b"../../x", b"trust_remote_code",
    b"http://127.0.0.1:9/",
]  # fmt: skip


@st.composite
def mutated(draw: Callable[..., Any], originals: list[bytes]) -> bytes:
    """One of the originals with up to 6 edits."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 6))):
        # Heads hold what readers believe, so half of the edits are there.
        within = max(min(len(data), 4096 if draw(st.booleans()) else len(data)), 1)
        at = draw(st.integers(0, within - 1))
        kind = draw(st.sampled_from(["flip", "write", "delete", "repeat", "insert", "cut"]))
        length = draw(st.integers(1, 64))
        if kind == "flip" and data:
            data[at % len(data)] ^= 1 << draw(st.integers(0, 7))
        elif kind == "write":
            part = draw(st.binary(min_size=1, max_size=8))
            data[at : at + len(part)] = part
        elif kind == "delete":
            del data[at : at + length]
        elif kind == "repeat":
            data[at:at] = data[at : at + length] * draw(st.integers(1, 8))
        elif kind == "insert":
            data[at:at] = draw(st.sampled_from(TOKENS))
        else:
            del data[at:]
    return bytes(data)


def images() -> list[bytes]:
    """Small images of every format and of many modes."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    found = []
    for mode in ("RGB", "L", "P", "RGBA", "1", "I;16"):
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 200) if mode == "I;16" else None
        picture = picture or Image.fromarray(pixels).convert(mode)
        for form in ("PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG"):
            buffer = io.BytesIO()
            with contextlib.suppress(OSError, ValueError):  # not every format has every mode
                picture.save(buffer, form)
                found.append(buffer.getvalue())
    return found


def checkpoint_file() -> bytes:
    """A checkpoint of a small model."""
    from tests.hostile.corpus import metadata, write_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        return write_checkpoint(Path(folder) / "x.safetensors", metadata()).read_bytes()


def exported_description() -> bytes:
    """The JSON of an exported file."""
    from semask.engines.description import metadata
    from tests.hostile.corpus import SMALL

    return json.dumps(metadata(build(**SMALL), precision="fp32")).encode()


def recipes() -> list[bytes]:
    """Ours."""
    root = Path(__file__).parents[1] / "semask" / "recipes"
    return [path.read_bytes() for path in sorted(root.rglob("*tiny*.yaml"))]


def read_checkpoint(path: Path) -> None:
    """Load and use it."""
    import semask

    model = semask.load(path)
    with contextlib.suppress(torch.OutOfMemoryError):
        semask.Predictor(model)(np.zeros((20, 20, model.config["in_channels"]), np.uint8), confidence=False)


def read_image(path: Path) -> None:
    """Read it as an image of each number of channels."""
    from semask.data.images import read_image as read

    for channels in (1, 3, 4):
        np.array(read(path, channels=channels))


def read_raster(path: Path) -> None:
    """Read it by windows."""
    from semask.data.geo_files import gdal
    from semask.prediction.raster import Raster

    with gdal(), contextlib.closing(Raster(path, channels=3)) as raster:
        for _ in raster.windows([range(raster.height)]):
            pass


def read_mask(path: Path) -> None:
    """Read it as a mask."""
    from semask.data.images import read_mask as read

    read(path)


def read_classes(path: Path) -> None:
    """Read it as classes.json."""
    from semask.data.formats.folder import read_classes as read

    read(path)


def read_description(path: Path) -> None:
    """Read it as the description of an exported file."""
    from semask.engines.description import read

    read(path.read_bytes().decode("utf-8", errors="replace"), path)


def read_a_recipe(path: Path) -> None:
    """Read it as `info` does."""
    from semask.commands.info import open_model

    open_model(str(path))


def train_recipe(path: Path) -> None:
    """Read it as `train --print_config` does."""
    from semask.cli import main

    sink = io.StringIO()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), contextlib.suppress(SystemExit):
        main(["train", "--config", str(path), "--print_config", "--out", "x"])
    if "Traceback" in sink.getvalue():
        raise AssertionError(sink.getvalue())


CLASSES = b'{"name": "x", "classes": ["road", "sky"], "palette": [[1, 2, 3], [4, 5, 6]], "ignore_index": 255}'
TARGETS: dict[str, tuple[str, Callable[[], list[bytes]], Callable[[Path], None]]] = {
    "image": ("x.png", images, read_image),
    "raster": ("x.tif", images, read_raster),
    "mask": ("x.png", images, read_mask),
    "classes": ("classes.json", lambda: [CLASSES], read_classes),
    "checkpoint": ("x.safetensors", lambda: [checkpoint_file()], read_checkpoint),
    "description": ("x.onnx", lambda: [exported_description()], read_description),
    "recipe": ("x.yaml", recipes, read_a_recipe),
    "training recipe": ("x.yaml", recipes, train_recipe),
}
"""Name of the file, what it is made of, and what reads it."""


def round_of(target: str, number: int, scratch: Path) -> None:
    """Try some files; raises what a reader should not have raised."""
    name, originals, read = TARGETS[target]
    path = scratch / name

    @seed(number)
    @settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(mutated(originals()))
    def attempt(content: bytes) -> None:
        path.write_bytes(content)
        said = None
        try:
            read(path)
        except (ValueError, OSError) as error:
            said = str(error)
        if said is not None and ("\n" in said or len(said) > 3000 or not said.isprintable()):
            raise AssertionError(f"not one line: {said[:500]!r}")

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    attempt()


def run(target: str, number: int, out: Path) -> str | None:
    """Run a round in a process of its own; returns what was found."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.fuzz", "--target", target, "--seed", str(number), "--worker", folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
            said = None if done.returncode == 0 else f"exit code {done.returncode}\n{done.stderr[-6000:]}"
        except subprocess.TimeoutExpired:
            said = f"not done after {SECONDS} s"
        if said is not None:
            out.mkdir(parents=True, exist_ok=True)
            kept = out / f"{target.replace(' ', '-')}-{number}"
            for file in Path(folder).iterdir():
                kept.with_name(f"{kept.name}-{file.name}").write_bytes(file.read_bytes())
            kept.with_name(f"{kept.name}.txt").write_text(said)
    return said


def main() -> int:
    """Fuzz for some minutes, or one round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--target", choices=TARGETS)
    parser.add_argument("--seed", type=int, help="one round with this seed; else rounds with new ones")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        round_of(options.target, options.seed, options.worker)
        return 0
    end, number, found, rounds = time.monotonic() + 60 * options.minutes, options.seed or int(time.time()), 0, 0
    targets = [options.target] if options.target else list(TARGETS)
    while rounds == 0 or (options.seed is None and time.monotonic() < end):
        for target in targets:
            said = run(target, number, options.out)
            found += said is not None
            rounds += 1
            print(f"{target}, seed {number}: {'FOUND' if said else 'nothing'}", flush=True)
            if options.seed is None and time.monotonic() > end:
                break
        number += 1
    print(f"{rounds} rounds of up to {CASES} files, {found} findings{f' in {options.out}' if found else ''}")
    return 1 if found else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
