"""A checkpoint or an exported file, ready to predict. Without torch until a model that needs it is opened."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from semask.engines.catalog import format_of, is_exported
from semask.prediction.recipe import recipe_inference
from semask.settings.inference import Given, inference_of
from semask.settings.precision import Choice, Precision

if TYPE_CHECKING:
    from semask.engines.runtime import Runtime
    from semask.model import SeMask
    from semask.prediction.array_predictor import ArrayPredictor
    from semask.prediction.predictor import Predictor


class Opened(NamedTuple):
    """What predicts, and what it computes in."""

    predictor: "Predictor | ArrayPredictor"
    choice: Choice


def open_predictor(
    source: "str | Path | SeMask | Runtime",
    *,
    inference: Given = None,
    tiles: bool = False,
    device: str | None = None,
    precision: Precision = "auto",
    trust: bool = False,
) -> Opened:
    """Open a checkpoint or an exported file for prediction.

    Args:
        source: Checkpoint, exported file, or a model that is loaded already, which stays where it is.
        inference: How images are put through it: all settings, or those in place of the recipe's, e.g. {"flip": True}.
        tiles: Whether images go through it in tiles, at their own size: the recipe's scale and windows are left out.
        device: Where to run; None for the GPU if there is one (an exported file: the CPU).
        precision: fp32, bf16 or auto: bf16 where the device computes in it, else fp32.
        trust: Open exported files that hold code too (.pt2, .engine): only those of your own making.

    Raises:
        ValueError: If it can't be read, a setting is wrong, or there is no such device.
    """
    if not tiles and precision == "auto" and device in (None, "cpu") and isinstance(source, str | Path):
        row = format_of(source)
        if row is not None and row.arrays:
            return open_arrays(source, inference=inference, trust=trust)
    from semask.prediction.predictor import Predictor

    model, choice = open_model(source, device=device, trust=trust, precision=precision)
    recipe = recipe_inference(model)
    if tiles:
        recipe = inference_of(recipe, {"scale": None, "mode": "whole"})
    return Opened(Predictor(model, inference_of(recipe, inference)), choice)


def open_arrays(source: str | Path, *, inference: Given, trust: bool) -> Opened:
    """Open an exported file whose engine takes arrays: without torch.

    Raises:
        ValueError: If it can't be read, or a setting is wrong.
    """
    from semask.prediction.array_predictor import open_array_predictor

    predictor = open_array_predictor(source, trust=trust)
    predictor.inference = inference_of(predictor.inference, inference)
    return Opened(predictor, exported_choice(predictor.model.description["precision"]))


def open_model(
    source: "str | Path | SeMask | Runtime", *, device: str | None, trust: bool, precision: Precision
) -> "tuple[SeMask | Runtime, Choice]":
    """Load a checkpoint, on the GPU if there is one and no device is given, or open an exported file.

    Returns:
        The model, and what it computes in.

    Raises:
        ValueError: See `load` and `load_exported`; if a precision is given for an exported file or a loaded model.
    """
    from semask.acceleration.bfloat16 import use_bfloat16
    from semask.acceleration.devices import default_device
    from semask.acceleration.precision import choose
    from semask.checkpoints.sources import load
    from semask.engines.runtime import load_exported

    if not isinstance(source, str | Path):
        if precision != "auto" or device is not None:
            raise ValueError("device and precision are for a checkpoint: move the model itself, or give its file")
        return source, _choice(source)
    if is_exported(source):
        if precision != "auto":
            raise ValueError(f"{source}: computes in what it was exported for: leave out --precision {precision}")
        runtime = load_exported(source, device=device, trust=trust)
        return runtime, _choice(runtime)
    model = load(source, device=device or default_device())
    chosen = choose(precision, next(model.parameters()).device)
    return (use_bfloat16(model) if chosen.precision == "bf16" else model), chosen


def exported_choice(precision: Any) -> Choice:
    """What an exported file computes in."""
    return Choice(precision, f"precision {precision} (as the file was exported)")


def _choice(model: "SeMask | Runtime") -> Choice:
    """What a model that is open already computes in."""
    described: Any = getattr(model, "description", None)
    if described is not None:
        return exported_choice(described["precision"])
    kinds = {str(parameter.dtype) for parameter in model.parameters()}
    if "torch.bfloat16" in kinds:
        return Choice("bf16", "precision bf16 (as the model was given)")
    return Choice("fp32", "precision fp32 (as the model was given)")
