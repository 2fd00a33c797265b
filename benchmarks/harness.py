"""Measuring: steps that take turns in one process, peak memory in a process of its own, the machine, tables.

A *side* is what is compared: a name and a function that builds a step for a case. The step is what is timed. Builders
and cases go to other processes, so they have to be functions of a module (or partials of them) and plain values.
"""

import contextlib
import gc
import itertools
import math
import multiprocessing
import os
import platform
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch

Step = Callable[[], object]
Builder = Callable[[Any], Step]
Order = Literal["rotated", "given", "shuffled"]
ORDERS = get_args(Order)
MIB = 2**20


@dataclass(frozen=True)
class Settings:
    """How is measured.

    Attributes:
        rounds: Timed rounds; every side has one turn in each.
        warmups: Rounds before them that are not counted.
        threads: Threads of torch on the CPU.
        device: cpu or cuda.
        order: Who begins a round: rotated moves the first side to the end after each round, given never does, shuffled
            draws the order.
        memory: Whether to measure the peak memory too, which takes a process for each side.
    """

    rounds: int = 5
    warmups: int = 2
    threads: int = 1
    device: str = "cpu"
    order: Order = "rotated"
    memory: bool = True


@dataclass(frozen=True)
class Result:
    """What was measured of a side in a case.

    Attributes:
        case: Name of the case.
        side: Name of the side.
        seconds: Time of each round; empty if it ran out of memory.
        ratios: The same divided by the first side's time in that round.
        peak: Peak memory in MiB: of the whole process on the CPU, of tensors on a GPU; None if not measured.
        growth: How far that is above what there was before the first step.
        values: What a subcommand adds.
    """

    case: str
    side: str
    seconds: list[float]
    ratios: list[float]
    peak: float | None
    growth: float | None
    values: dict[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Median time in seconds, NaN if there is none."""
        return statistics.median(self.seconds) if self.seconds else math.nan


def compare(name: str, case: Any, sides: Mapping[str, Builder], settings: Settings) -> list[Result]:
    """Measure all sides in one case; ratios are to the first one. What does not fit in memory has no numbers."""
    memory: dict[str, tuple[float, float] | None] = {}
    if settings.memory:
        memory = {side: apart(peak_memory, build, case, settings) for side, build in sides.items()}
    fitting = {side: build for side, build in sides.items() if memory.get(side, ()) is not None}
    times: dict[str, list[float]] = apart(take_turns, fitting, case, settings) or {}
    first = times.get(next(iter(sides)), [])
    results = []
    for side in sides:
        seconds = times.get(side, [])
        ratios = [a / b for a, b in zip(seconds, first, strict=True)] if seconds and first else []
        peak, growth = memory.get(side) or (None, None)
        results.append(Result(name, side, seconds, ratios, peak, growth))
    return results


def take_turns(sides: Mapping[str, Builder], case: Any, settings: Settings) -> dict[str, list[float]]:
    """Seconds of each side in each round, all in this process."""
    steps = {side: build(case) for side, build in sides.items()}
    times: dict[str, list[float]] = {side: [] for side in sides}
    order, chance = list(sides), random.Random(0)
    for number in range(settings.warmups + settings.rounds):
        gc.collect()  # or a step would pay for what another one left
        for side in order:
            seconds = clock(steps[side], settings.device)
            if number >= settings.warmups:
                times[side].append(seconds)
        if settings.order == "rotated":
            order = order[1:] + order[:1]
        elif settings.order == "shuffled":
            chance.shuffle(order)
    return times


def clock(step: Step, device: str) -> float:
    """Seconds of one step; on a GPU by its own clock, from an idle device to the end of the last kernel."""
    if not device.startswith("cuda"):
        start = time.perf_counter()
        step()
        return time.perf_counter() - start
    torch.cuda.synchronize()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


def peak_memory(build: Builder, case: Any, settings: Settings) -> tuple[float, float]:
    """Peak of a step that ran before, and its growth over what there was before the first step; MiB."""
    step = build(case)
    if settings.device.startswith("cuda"):
        before = torch.cuda.memory_allocated(settings.device)
        step()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats(settings.device)
        step()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated(settings.device)
        return peak / MIB, (peak - before) / MIB
    gc.collect()
    before = resident("VmRSS")
    step()
    with contextlib.suppress(
        OSError
    ):  # where it is not allowed, the peak is that of building, compiling and both steps
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to VmRSS
    step()
    peak = resident("VmHWM")
    return peak, peak - before


def resident(name: Literal["VmRSS", "VmHWM"]) -> float:
    """Resident memory of this process in MiB: now, or its peak.

    Raises:
        ValueError: If the system is not Linux.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError("peak memory is read from /proc, which only Linux has: give --no-memory") from error
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(name + ":"))


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a new process; its settings come last. None if it ran out of memory.

    Raises:
        ValueError: What the function raises for a wrong setting.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(within_memory, function, *arguments).result()
        except BrokenProcessPool:  # killed, which the system does when memory runs out
            return None


def within_memory(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with no more memory than is free now, so that the system need not kill anything."""
    settings = arguments[-1]
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    if settings.device == "cpu":
        with contextlib.suppress(OSError, StopIteration):
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]  # is left, for processes that this one starts
            resource.setrlimit(resource.RLIMIT_DATA, (int(free_memory()), hard))
    try:
        return function(*arguments)
    except (MemoryError, torch.OutOfMemoryError):
        return None
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "bad_alloc" in str(error):
            return None
        raise


def free_memory() -> float:
    """Bytes that programs can still take."""
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return next(1024 * float(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def exponent(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Fit y = a x^p by least squares in logarithms; returns p, and its least and greatest value between neighbors.

    >>> [round(p, 3) for p in exponent([1, 2, 4], [3, 12, 48])]
    [2.0, 2.0, 2.0]
    """
    points = [(math.log(a), math.log(b)) for a, b in zip(x, y, strict=True)]
    fitted = statistics.linear_regression(*zip(*points, strict=True)).slope
    steps = [(d - b) / (c - a) for (a, b), (c, d) in itertools.pairwise(points)]
    return fitted, min(steps), max(steps)


def matmul_rate(dtype: torch.dtype, settings: Settings) -> float:
    """FLOP/s of a square matrix product: the median of several."""
    n = 8192 if settings.device.startswith("cuda") else 2048
    a, b = (torch.randn(n, n, device=settings.device).to(dtype) for _ in range(2))
    times = [clock(lambda: a @ b, settings.device) for _ in range(settings.warmups + settings.rounds)]
    return 2 * n**3 / statistics.median(times[settings.warmups :])


def machine(settings: Settings) -> dict[str, Any]:
    """What the numbers were measured on."""
    found: dict[str, Any] = {"cpu": cpu(), "cores": os.cpu_count(), "threads": settings.threads}
    with contextlib.suppress(OSError):
        found["load before"] = round(os.getloadavg()[0], 2)
    if settings.device.startswith("cuda"):
        found |= {"gpu": torch.cuda.get_device_name(settings.device), "cuda": torch.version.cuda}
    return found | {"torch": torch.__version__, "python": platform.python_version()}


def cpu() -> str:
    """Name of the processor, with what of its instructions matters here."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


Columns = Mapping[str, Callable[[Result, Result], str]]


def number(value: float | None, form: str = ".0f") -> str:
    """A number as text, nothing for none."""
    return "" if value is None or math.isnan(value) else format(value, form)


def spread(values: Sequence[float], form: str) -> str:
    """Median and, in brackets, least and greatest; "out of memory" for none."""
    if not values:
        return "out of memory"
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def times(value: float | None, first: float | None) -> str:
    """A value as a multiple of the first side's."""
    return number(value / first if value is not None and first else None, ".2f")


COLUMNS: Columns = {
    "case": lambda x, first: x.case,
    "side": lambda x, first: x.side,
    "seconds": lambda x, first: spread(x.seconds, ".3f"),
    "ratio": lambda x, first: spread(x.ratios, ".2f") if x.ratios else "",
    "peak MiB": lambda x, first: number(x.peak),
    "ratio of peak": lambda x, first: times(x.peak, first.peak),
    "adds MiB": lambda x, first: number(x.growth),
    "ratio of added": lambda x, first: times(x.growth, first.growth),
}


def print_table(groups: Iterator[list[Result]], columns: Columns = COLUMNS) -> list[Result]:
    """Print a table in Markdown, each group of results as soon as it is measured; returns all."""
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    everything = []
    for group in groups:
        for result in group:
            print(f"| {' | '.join(column(result, group[0]) for column in columns.values())} |", flush=True)
        everything.extend(group)
    return everything
