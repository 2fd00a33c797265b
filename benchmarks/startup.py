"""How long commands take from the shell, as ratios to `import torch`, and the memory they need: `run.py startup`.

Each command runs in a process of its own, in turns with `python -c "import torch"`; a ratio is taken in each round. The
time is that of the whole process by the clock, memory its peak.
"""

import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semask.checkpoints.places import PHOTOS

TORCH = "import torch"
MISTYPED = "--scael"
WATCH = """
import os, subprocess, sys, time
begin = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), time.perf_counter() - begin, usage.ru_maxrss)
"""
"""Starts a command in a small process: the peak that Linux reports includes the memory of the starting process."""


@dataclass(frozen=True)
class Start:
    """What was measured of a command.

    Attributes:
        name: What was started.
        seconds: Time of each round.
        ratios: The same divided by that of `import torch` in that round.
        mebibytes: Peak memory in MiB.
    """

    name: str
    seconds: list[float]
    ratios: list[float]
    mebibytes: float


def commands(folder: Path) -> dict[str, list[str]]:
    """Commands to start, by name; a checkpoint, its export and a photo are made in the folder first."""
    checkpoint, exported, photo = prepared(folder)
    semask = [sys.executable, "-m", "semask.cli"]
    out = ["--out", str(folder / "masks")]
    return {
        TORCH: [sys.executable, "-c", TORCH],
        "import semask": [sys.executable, "-c", "import semask"],
        "semask --help": [*semask, "--help"],
        "semask --version": [*semask, "--version"],
        f"semask predict {MISTYPED} (a mistyped option)": [*semask, "predict", MISTYPED, "512"],
        "semask train --help": [*semask, "train", "--help"],
        "semask predict CHECKPOINT PHOTO": [*semask, "predict", str(checkpoint), str(photo), *out],
        "semask predict PHOTO (the model in the package)": [*semask, "predict", str(PHOTOS[0]), *out],
        "semask predict MODEL.onnx PHOTO": [*semask, "predict", str(exported), str(photo), *out],
    }


def prepared(folder: Path) -> tuple[Path, Path, Path]:
    """Write a nano model, its ONNX file and a synthetic photo."""
    import semask
    from semask.synthetic.scene import draw_scene

    checkpoint, exported, photo = folder / "model.safetensors", folder / "model.onnx", folder / "photo.jpg"
    semask.save(checkpoint, semask.build("swin_nano", num_classes=19, channels=64), {})
    semask.export(str(checkpoint), out=str(exported), checks=1)
    draw_scene(0, 1, size=(384, 512))[0].convert("RGB").save(photo)
    return checkpoint, exported, photo


def measure(folder: Path, *, rounds: int, warmups: int = 1) -> list[Start]:
    """Start every command in each round; the first rounds are not counted."""
    found = commands(folder)
    seconds: dict[str, list[float]] = {name: [] for name in found}
    peaks = dict.fromkeys(found, 0.0)
    for number in range(warmups + rounds):
        for name, command in found.items():
            taken, peak = start(command, status=2 if MISTYPED in command else 0)
            peaks[name] = max(peaks[name], peak)
            if number >= warmups:
                seconds[name].append(taken)
    first = seconds[TORCH]
    return [
        Start(name, taken, [a / b for a, b in zip(taken, first, strict=True)], peaks[name])
        for name, taken in seconds.items()
    ]


def start(command: Sequence[str], *, status: int = 0) -> tuple[float, float]:
    """Seconds and peak memory in MiB of one process.

    Raises:
        RuntimeError: If it ends with another exit status than this.
    """
    result = subprocess.run([sys.executable, "-I", "-c", WATCH, *command], check=True, capture_output=True, text=True)
    found, seconds, kibibytes = result.stdout.split()
    if int(found) != status:
        raise RuntimeError(f"{' '.join(command)} ended with {found}, not {status}")
    return float(seconds), int(kibibytes) / 1024


def print_starts(starts: Sequence[Start]) -> None:
    """Print a table in Markdown."""
    print("\n| command | seconds | ratio to import torch | peak MiB |\n|---|---|---|---|")
    for x in starts:
        ratios = f"{statistics.median(x.ratios):.2f} ({min(x.ratios):.2f}-{max(x.ratios):.2f})"
        print(f"| {x.name} | {statistics.median(x.seconds):.2f} | {ratios} | {x.mebibytes:.0f} |")
