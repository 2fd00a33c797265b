"""Kills a random process of trainings of several processes at random moments, and lets the job start again.

    python -m tests.rank_kills --kills 20 --seed 0

Every job has to end within a minute of the kill with a line that says what happened, and what the last one leaves has
to be, to the last bit, that of a training without a stop.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from many import command, environment, train_together, write_scenes
from states import read_whole

SECONDS = 60.0
"""Longest time from the kill of a process to the end of its job."""
LINE = "processes died or can't be reached"
STEPS = {"steps": 200, "save_every": 10, "batch_size": 6, "log_every": 1}


class Killed(NamedTuple):
    """What became of a job whose process was killed.

    Attributes:
        rank: The process that was killed.
        step: Last step in the log.
        seconds: From the kill to the end of the job.
        said: Whether a line says what happened.
    """

    rank: int
    step: int
    seconds: float
    said: bool


def last_step(out: Path) -> int:
    """Step of the last line of the log; 0 if there is none."""
    lines = (out / "log.csv").read_text(encoding="utf-8").splitlines() if (out / "log.csv").exists() else []
    numbers = [line.split(",")[0] for line in lines]
    return int(numbers[-1]) if numbers and numbers[-1].isdigit() else 0


def kill_one(processes: int, scenes: Path, out: Path, chance: random.Random, **settings: object) -> Killed | None:
    """Start a job, kill one of its processes after a random time, and wait for the end; None if it was done before."""
    before, said = last_step(out), out.with_name("said")
    with open(said, "wb") as file:
        job = subprocess.Popen(
            command(processes, scenes, out, **settings), env=environment(), stdout=file, stderr=subprocess.STDOUT
        )
        # A random moment of the training, its first save and its later ones among them; it takes long to start.
        until = before + chance.randint(1, 40)
        while job.poll() is None and last_step(out) < until:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.3))
        workers = [x for x in psutil.Process(job.pid).children() if x.status() != psutil.STATUS_ZOMBIE]
        if job.poll() is not None or len(workers) < processes:
            job.wait(SECONDS)
            return None
        rank = chance.randrange(processes)
        os.kill(workers[rank].pid, signal.SIGKILL)
        began = time.monotonic()
        job.wait(2 * SECONDS)
    seconds = time.monotonic() - began
    assert job.returncode != 0
    return Killed(rank, last_step(out), seconds, LINE in said.read_text(encoding="utf-8"))


def run(kills: int, seed: int, folder: Path) -> Iterator[Killed]:
    """Kill so many times; after each kill the same job goes on.

    Raises:
        AssertionError: If a job took longer than a minute to end, or the result is another one.
    """
    chance, scenes, done, number = random.Random(seed), write_scenes(folder / "scenes"), 0, 0
    wholes: dict[tuple[int, str], Path] = {}
    while done < kills:
        processes, parallel = chance.choice([2, 3]), chance.choice(["ddp", "fsdp"])
        settings = {**STEPS, "parallel": parallel, "ema": 0.9}
        whole = wholes.setdefault((processes, parallel), folder / f"whole-{processes}-{parallel}")
        if not whole.exists():
            train_together(processes, scenes, whole, **settings)
        out, number = folder / f"job{number}" / "run", number + 1
        out.parent.mkdir()
        while done < kills and (found := kill_one(processes, scenes, out, chance, **settings)) is not None:
            assert found.seconds < SECONDS, found
            done += 1
            yield found
        train_together(processes, scenes, out, **settings)
        for name in ("resume", "resume.previous"):
            (expected, said), (tensors, other) = read_whole(whole / name), read_whole(out / name)
            assert said == other
            assert [key for key in expected if not torch.equal(expected[key], tensors[key])] == []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for killed in run(options.kills, options.seed, Path(folder)):
            found.append(killed)
            print(len(found), killed, flush=True)
    said = sum(x.said for x in found)
    print(f"{len(found)} kills, slowest end {max(x.seconds for x in found):.1f} s, {said} with the line, all equal")


if __name__ == "__main__":
    main()
