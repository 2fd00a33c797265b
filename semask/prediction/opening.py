"""A checkpoint or an exported file, ready to predict."""

from pathlib import Path

from semask.acceleration.devices import default_device
from semask.acceleration.precision import Choice, Precision, choose
from semask.checkpoints.sources import load
from semask.engines.catalog import is_exported
from semask.engines.runtime import Runtime, load_exported
from semask.model import SeMask


def open_model(
    source: str | Path, *, device: str | None, trust: bool, precision: Precision
) -> tuple[SeMask | Runtime, Choice]:
    """Load a checkpoint, on the GPU if there is one and no device is given, or open an exported file.

    Returns:
        The model, and what it computes in.

    Raises:
        ValueError: See `load` and `runtime.load_exported`; if a precision is given for an exported file.
    """
    if is_exported(source):
        if precision != "auto":
            raise ValueError(f"{source}: computes in what it was exported for: leave out --precision {precision}")
        runtime = load_exported(source, device=device, trust=trust)
        exported = runtime.description["precision"]
        return runtime, Choice(exported, f"precision {exported} (as the file was exported)")
    model = load(source, device=device or default_device())
    chosen = choose(precision, next(model.parameters()).device)
    return (model.use_bfloat16() if chosen.precision == "bf16" else model), chosen
