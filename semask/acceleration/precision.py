"""Which precision a model computes in, and what "auto" means on a device: the one place that knows."""

from typing import Any

import torch

from semask.settings.precision import Asked, Choice

SLOWER = "5 to 7 times slower than fp32"
"""bf16 on a processor that emulates it: predicting and training, measured on processors with AVX2 only."""


def choose(asked: Asked, device: torch.device | str) -> Choice:
    """Decide what a device computes in.

    Args:
        asked: auto: bf16 where the device computes in it, fp32 elsewhere; everything else stays what it is.
        device: Where the model runs.

    >>> choose("fp32", "cpu")
    Choice(precision='fp32', remark='precision fp32', warning=False)
    """
    device = torch.device(device)
    if asked == "fp32" or asked == "fp16":
        return Choice(asked, f"precision {asked}")
    native, name = computes_in_bf16(device), "this processor" if device.type == "cpu" else f"this {device.type} device"
    if asked == "bf16":
        if native:
            return Choice("bf16", "precision bf16")
        cost = f"it is {SLOWER} where that was measured" if device.type == "cpu" else "it may be slower than fp32"
        return Choice("bf16", f"precision bf16, but {name} only emulates it: {cost}; give auto or fp32", warning=True)
    if native:
        return Choice("bf16", f"precision bf16 (auto: {name} computes in it)")
    return Choice("fp32", f"precision fp32 (auto: {name} does not compute in bf16)")


def computes_in_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16 that torch uses, and does not emulate it."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not _onednn_takes_bf16():
        return False
    return processor_has_bf16(_capabilities(), kernels=torch.backends.cpu.get_cpu_capability())


def processor_has_bf16(capabilities: dict[str, Any], *, kernels: str) -> bool:
    """Whether a processor multiplies in bfloat16.

    Args:
        capabilities: What the processor has, as `torch.cpu.get_capabilities` names it.
        kernels: Which of torch's own kernels run, e.g. AVX2 or AVX512; ATEN_CPU_CAPABILITY chooses lesser ones.

    >>> processor_has_bf16({"avx2": True, "avx512_bf16": False}, kernels="AVX2")
    False
    >>> processor_has_bf16({"avx512_bf16": True}, kernels="AVX512")
    True
    """
    if capabilities.get("neon"):  # ARM
        return bool(capabilities.get("bf16"))
    return kernels.startswith("AVX512") and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))


def _capabilities() -> dict[str, Any]:
    """What the processor has; older versions of torch tell less."""
    if hasattr(torch.cpu, "get_capabilities"):
        return dict(torch.cpu.get_capabilities())
    names = {"avx512_bf16": "_is_avx512_bf16_supported", "amx_bf16": "_is_amx_tile_supported"}
    return {name: getattr(torch.cpu, function, bool)() for name, function in names.items()}


def _onednn_takes_bf16() -> bool:
    """Whether oneDNN, which multiplies, takes bfloat16 at all; ONEDNN_MAX_CPU_ISA can forbid it."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a torch without that question
        return True
