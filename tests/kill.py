"""Kills trainings and resumes them: what they leave has to be that of a training without a stop, bit for bit.

    python -m tests.kill --kills 100 --seed 0

Half of the kills come at a chance moment, half at a chance one of the calls that touch the run's folder (or a few
milliseconds after it), which is where something could be lost: opening, flushing, renaming. A run is killed up to three
times. After every kill each file in the folder that has its final name has to be whole, and there has to be a state if
there is anything else of a run.
"""

import argparse
import contextlib
import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from semask.checkpoints.tensors import read_tensors
from semask.synthetic.dataset import write_synthetic
from semask.training.state import EARLIER, STATE
from semask.training.state_files import MANIFEST, read_manifest, read_shapes

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate")
CHECKPOINTS = ("best.safetensors", "last.safetensors")
STATES = (STATE, EARLIER)
SETTINGS = (
    {"log_every": 1},
    {"log_every": 4, "ema": 0.9},  # losses of a step before a save are logged after it
    {"log_every": 3, "batch_size": 4, "accumulate": 2, "save_every": 3, "evaluate_every": 2},
)
LIMIT = 300.0
"""Seconds that a training may take."""
context = multiprocessing.get_context("forkserver")  # what is imported once need not be imported for each kill
context.set_forkserver_preload(["semask.cli", "semask.training.loop", "tensorboard.summary.writer.event_file_writer"])


class Kill(NamedTuple):
    """When to kill.

    Attributes:
        call: At which call that touches the folder, from 1; 0 for none.
        seconds: After how long, from the start or from that call.
    """

    call: int
    seconds: float


class Whole(NamedTuple):
    """A training without a stop.

    Attributes:
        out: Its folder.
        calls: Calls that touched the folder.
        seconds: How long it took.
    """

    out: Path
    calls: int
    seconds: float


def arguments(scenes: Path, out: Path, **settings: object) -> list[str]:
    """The command line of a tiny training."""
    values = {
        "model.encoder": "swin_nano",
        "model.channels": 16,
        "model.num_classes": 11,
        "data.root": scenes,
        "data.workers": 0,
        "augmentation.scale": "null",
        "augmentation.crop": [32, 32],
        "training.steps": 6,
        "training.batch_size": 2,
        "training.lr": 1e-3,
        "training.warmup_steps": 2,
        "training.save_every": 2,
        "training.evaluate_every": 3,
        "training.cpu": "true",
    }
    values |= {f"training.{name}": value for name, value in settings.items()}
    return ["train", *(f"--{name}={value}" for name, value in values.items()), f"--out={out}"]


def child(command: list[str], out: str, kill: Kill, said: str, counted: str) -> None:
    """Train in this process, which ends itself at a call if it is to; notes how many calls there were."""
    import torch

    from semask.cli import main

    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(1)
    calls = 0

    def watch(event: str, parameters: tuple[object, ...]) -> None:
        nonlocal calls
        if event not in EVENTS or not str(parameters[0]).startswith(out):
            return
        calls += 1
        if calls == kill.call:
            if kill.seconds == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Timer(kill.seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()

    sys.addaudithook(watch)
    try:
        main(command)
    finally:
        Path(counted).write_text(str(calls))


def train(command: list[str], out: Path, kill: Kill | None) -> int:
    """Train in a process of its own; gives its exit code, -9 if it was killed."""
    said, counted = out.with_name("said"), out.with_name("calls")
    out.parent.mkdir(exist_ok=True)
    said.unlink(missing_ok=True)
    process = context.Process(
        target=child, args=(command, str(out), kill or Kill(0, 0), str(said), str(counted)), daemon=True
    )
    process.start()
    process.join(kill.seconds if kill is not None and kill.call == 0 else LIMIT)
    if process.is_alive():
        process.kill()
        process.join()
    code = process.exitcode
    assert code in (0, -signal.SIGKILL), said.read_text(encoding="utf-8")[-2000:]
    return code


def undisturbed(scenes: Path, out: Path, settings: dict[str, object]) -> Whole:
    """Train without a stop."""
    start = time.perf_counter()
    assert train(arguments(scenes, out, **settings), out, None) == 0
    return Whole(out, int(out.with_name("calls").read_text()), time.perf_counter() - start)


def disturbed(scenes: Path, out: Path, settings: dict[str, object], kills: list[Kill]) -> int:
    """Train with kills, resuming after each; gives how many of them came before the end."""
    done = 0
    for kill in [*kills, None]:
        command = arguments(scenes, out, **settings)
        if (out / STATE).exists() or (out / EARLIER).exists():
            command.append("--resume")
        if train(command, out, kill) != 0:
            done += 1
            require_whole(out)
    return done


def require_whole(out: Path) -> None:
    """Refuse a folder in which something was lost: a damaged file, or weights without a state to go on from."""
    found = [name for name in (*CHECKPOINTS, *STATES) if (out / name).exists()]
    for name in found:
        (read_tensors if name in CHECKPOINTS else read_shapes)(out / name)
    for path in out.glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    if any(name in found for name in CHECKPOINTS) or list(out.glob("*.csv")):
        assert STATE in found or EARLIER in found, f"{out}: {found} without a state"


def differences(whole: Path, other: Path) -> list[str]:
    """Names of what is not the same in the folders of two runs."""
    names = {
        str(path.relative_to(out))
        for out in (whole, other)
        for path in out.rglob("*")
        if path.is_file() and "tensorboard" not in path.parts
    }
    return sorted(name for name in names if content(whole / name) != content(other / name))


def content(path: Path) -> object:
    """Everything in a file but the time that something took; None if there is none."""
    if not path.is_file():
        return None
    if path.name == MANIFEST:
        return read_manifest(path.parent)[0]  # the digests of the files beside it depend on the order below
    if path.suffix == ".safetensors":  # whose library writes the entries of the header in any order
        content = path.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        return json.loads(content[8:end]), content[end:]
    if path.name != "log.csv":
        return path.read_bytes()
    with open(path, encoding="utf-8", newline="") as file:
        return [{name: x for name, x in row.items() if name != "images/s"} for row in csv.DictReader(file)]


def draw(chance: random.Random, whole: Whole) -> Kill:
    """A moment to kill at."""
    if chance.random() < 0.5:
        return Kill(0, chance.uniform(0.1, 1.0) * whole.seconds)
    return Kill(chance.randint(1, whole.calls), chance.choice([0, 0, 0.001, 0.005, 0.02]))


def run(kills: int, seed: int, folder: Path) -> Iterator[tuple[int, list[str]]]:
    """Kill so many times; gives for each run how often it was killed, and what was not the same in the end."""
    chance = random.Random(seed)
    scenes = write_synthetic(folder / "scenes", train=6, val=3, size=(48, 64))
    wholes = [undisturbed(scenes, folder / f"whole{i}" / "run", settings) for i, settings in enumerate(SETTINGS)]
    number, done = 0, 0
    while done < kills:
        which = number % len(SETTINGS)
        out = folder / f"killed{number}" / "run"
        moments = [draw(chance, wholes[which]) for _ in range(min(chance.choice([1, 1, 2, 3]), kills - done))]
        killed = disturbed(scenes, out, SETTINGS[which], moments)
        found = differences(wholes[which].out, out)
        yield killed, [f"{SETTINGS[which]}, {moments}: {name}" for name in found]
        if not found:
            shutil.rmtree(out.parent)
        number, done = number + 1, done + killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    runs = equal = killed = 0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for count, found in run(options.kills, options.seed, folder):
            runs, killed, equal = runs + 1, killed + count, equal + (not found)
            print(f"{killed} kills, {runs} runs, {equal} equal", *found, sep="\n  ", flush=True)
    sys.exit(equal != runs)


if __name__ == "__main__":
    main()
