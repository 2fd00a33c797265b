"""What a model, or an exported file, says of itself that prediction follows. Without torch."""

from collections.abc import Mapping
from typing import Any, Protocol

from semask.data.bands import Reading
from semask.data.classes import Classes
from semask.settings.inference import Inference


class Described(Protocol):
    """A model or an exported file."""

    @property
    def config(self) -> Mapping[str, Any]:
        """What it was built with."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What a checkpoint says: "classes", "recipe" ..."""


def recipe_inference(model: Described) -> Inference:
    """How the recipe of a model evaluates it; the defaults for a model without one."""
    settings: dict[str, Any] = model.metadata.get("recipe", {}).get("evaluation", {})
    tuples: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in settings.items()}
    return Inference(**tuples)


def model_reading(model: Described) -> Reading:
    """How the files of images become the channels of a model: with bands and range as in its training."""
    data: dict[str, Any] = model.metadata.get("recipe", {}).get("data", {})
    channels = model.config["in_channels"]
    bands, band_files = (None if data.get(name) is None else tuple(data[name]) for name in ("bands", "band_files"))
    if bands is not None and len(bands) != channels:
        raise ValueError(
            f"the recipe of the model chooses {len(bands)} bands for its {channels} channels: it is damaged"
        )
    return Reading(channels, bands, band_files, nodata=data.get("nodata")).for_model(model.config)


def model_classes(model: Described) -> Classes:
    """Names and colors of the classes of a model; numbers for a model that was not trained."""
    if "classes" in model.metadata:
        return Classes.from_dict(model.metadata["classes"])
    return Classes(tuple(f"class {i}" for i in range(model.config["num_classes"])))


def temperature_of(model: Described) -> float | None:
    """What the logarithms of a model's probabilities are divided by to be calibrated; None if that is not known."""
    found: float | None = (model.metadata.get("calibration") or {}).get("temperature")
    return found
