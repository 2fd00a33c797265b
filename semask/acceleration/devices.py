"""Devices: which to use, and what they are called."""

import platform

import torch


def default_device() -> str:
    """Choose the GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def machine(device: torch.device) -> str:
    """Name the hardware of a measurement."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
