"""Settings of a model (a recipe's `model:`), and models built of them, also where anybody's file says them."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from semask.files.text import one_line, reason
from semask.settings.model import ModelSettings, settings_of_file

if TYPE_CHECKING:
    from semask.model import SeMask  # which checks its arguments here

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of weights that are as good as the model's own."""


def build_for(values: Any, tensors: Mapping[str, Tensor], file: str | Path) -> "SeMask":
    """Build the model that a file describes, for the weights that it holds.

    First it is built without memory and compared with the weights, so that nothing is allocated that the file does not
    hold itself.

    Args:
        values: The `model` of its recipe.
        tensors: Its weights, by the names of the model's state.
        file: The file, for messages.

    Returns:
        The model with fresh weights.

    Raises:
        ValueError: If the settings are wrong, or describe another model than that of the weights.
    """
    from semask.model import SeMask

    settings = settings_of_file(values, file)
    arguments = asdict(settings)
    if settings.encoder.startswith("transformers/"):
        from semask.encoders.library import without_network

        arguments["encoder_options"] = without_network(settings.encoder, settings.encoder_options, file)
    try:
        with torch.device("meta"):
            plan = SeMask(**arguments)
        require_weights(plan.state_dict(), tensors, file)
        return SeMask(**arguments)
    except ValueError as error:
        if str(error).startswith(one_line(file)):
            raise
        raise ValueError(
            f"{one_line(file)}: its recipe does not describe a model ({reason(error)}): was it made by another version?"
        ) from error
    except Exception as error:  # what libraries raise when numbers do not fit together
        raise ValueError(
            f"{one_line(file)}: its recipe describes a model that cannot be built ({reason(error)})"
        ) from error


def require_memory(settings: ModelSettings) -> None:
    """Refuse to build a model for training whose weights alone are too many for this machine.

    Raises:
        ValueError: If weights, gradients and the optimizer's two moments would take more than all its memory.
    """
    from semask.model import SeMask

    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in SeMask(**asdict(settings)).parameters())
    needed, there = 16 * weights, machine_memory()
    if there is not None and needed > there:
        raise ValueError(
            f"the model has {weights:,} weights, which take {needed / 2**30:,.1f} GiB in training, and this machine "
            f"has {there / 2**30:,.1f} GiB: set model.channels and the like lower"
        )


def machine_memory() -> int | None:
    """Bytes of memory of this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None


def require_weights(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], file: str | Path) -> None:
    """Refuse weights that are not those of a model.

    Args:
        expected: State of the model; its values do not matter.
        found: Tensors of the file.
        file: The file, for messages.

    Raises:
        ValueError: If a tensor is missing, unknown, or of another shape or kind of numbers.
    """
    wrong = sorted(expected.keys() ^ found.keys()) or [n for n in expected if expected[n].shape != found[n].shape]
    if wrong:
        raise ValueError(
            f"{one_line(file)}: the weights belong to another model than its recipe: {len(wrong)} tensors are missing, "
            f"unknown or of another shape, e.g. {one_line(wrong[0])}"
        )
    for name, tensor in expected.items():
        same = found[name].dtype == tensor.dtype
        if not (same or (tensor.is_floating_point() and found[name].dtype in FLOATS)):
            raise ValueError(
                f"{one_line(file)}: {one_line(name)} holds {found[name].dtype} where the model has {tensor.dtype}: "
                "such weights would be rounded or wrong; save them as float32"
            )
