"""What the processor is: how many cores it has, and whether it adds products of bytes exactly. Without torch."""

import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
WIDE = "int8 weights of all 8 bits, whose products overflow on this processor (it has no VNNI)"


def products_saturate(cpuinfo: Path = CPUINFO) -> bool:
    """Whether this processor adds products of an unsigned and a signed byte in 16 bits, as those without VNNI do.

    Where it is not known, what is safe is said: true for a processor with x86 instructions.
    """
    lines = _lines(cpuinfo)
    if lines is None:
        return platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    return "ssse3" in flags and not {"avx512_vnni", "avx_vnni"} & flags


def default_threads(cpuinfo: Path = CPUINFO) -> int:
    """How many threads compute: as OMP_NUM_THREADS says, else one for each core that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, _cores(_lines(cpuinfo) or []) or allowed)


def _cores(lines: list[str]) -> int:
    """Count the cores, each of which may be several processors; 0 where they are not told."""
    ids = [[line.partition(":")[2].strip() for line in lines if line.startswith(x)] for x in ("physical id", "core id")]
    return len(set(zip(*ids, strict=False)))


def _lines(cpuinfo: Path) -> list[str] | None:
    try:
        return cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return None
