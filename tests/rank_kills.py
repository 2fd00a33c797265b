"""Kills a random process of trainings of several processes at random moments, and starts the job again.

    python -m tests.rank_kills --kills 20 --seed 0

Every job has to end within a minute of the kill with a line of each other process, and what the last one leaves has
to be, to the last bit, that of a training without a stop.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from many import start_processes, train_together, write_scenes
from states import read_whole

SECONDS = 60.0
"""Longest time from the kill of a process to the end of its job."""
LINE = "semask: error: another "
STEPS = {"steps": 40, "save_every": 4, "batch_size": 6, "log_every": 1}


class Killed(NamedTuple):
    """What became of a job whose process was killed.

    Attributes:
        rank: The process that was killed.
        step: Last step in the log.
        seconds: From the kill to the end of the job.
        said: Whether each of the others said in a line what happened.
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
    """Start a job, kill one of its processes at a random moment, and wait for the end; None if it was done before."""
    said = out.with_name("said")
    said.unlink(missing_ok=True)
    until = last_step(out) + chance.randint(1, 16)
    job = start_processes(processes, said, scenes, out, settings)
    while all(process.is_alive() for process in job) and last_step(out) < until:
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.3))  # within a step, or a save
    rank = chance.randrange(processes)
    alive = all(process.is_alive() for process in job)
    job[rank].kill()
    began = time.monotonic()
    for process in job:
        process.join(2 * SECONDS)
        process.kill()
    seconds = time.monotonic() - began
    codes = [process.exitcode for process in job]
    text = said.read_text(encoding="utf-8")
    if not alive or 0 in codes:  # the others were done, and had nothing left to ask of it
        return None
    others = [code for place, code in enumerate(codes) if place != rank]
    assert others == [2] * (processes - 1), text[-3000:]
    assert "Traceback" not in text, text[-3000:]
    return Killed(rank, last_step(out), seconds, text.count(LINE) == processes - 1)


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
