"""What the processor can't do exactly: products of bytes."""

from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")


def products_saturate(cpuinfo: Path = CPUINFO) -> bool:
    """Whether this processor adds products of an unsigned and a signed byte in 16 bits, as those without VNNI do.

    False too where it is not known.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return torch.backends.cpu.get_cpu_capability() == "AVX2"
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    return "ssse3" in flags and not {"avx512_vnni", "avx_vnni"} & flags
