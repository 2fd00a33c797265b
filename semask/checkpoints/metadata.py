"""What a file says of itself besides its weights: checked, every value, before anything else looks at it.

Checkpoints and exported files may come from anybody. Known entries have to be of their form; entries that this version
does not know are kept as they are and not used.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from semask.data.classes import Classes
from semask.data.source import Data
from semask.files.schema import Range, from_plain, require, require_known
from semask.files.text import one_line, reason
from semask.settings.inference import Inference
from semask.settings.model import ModelSettings

_Share = Annotated[float, Range(0, 1)] | None
_Percent = Annotated[float, Range(0, 100)]
FACTS: dict[str, Any] = {
    "step": Annotated[int, Range(0, 10**12)] | None,
    "licence": str | None,
    "sha256": str | None,
}
"""Single values."""
PUBLISHED: dict[str, Any] = {"name": str, "miou": _Percent, "miou_multiscale": _Percent, "licence": str, "url": str}
"""What is known of a published model."""
_Pair = tuple[Annotated[float, Range(0, 1e3)], Annotated[float, Range(0, 1e3)]]
CALIBRATION: dict[str, Any] = {
    "temperature": Annotated[float, Range(0.01, 100)],
    "ece": _Pair,
    "nll": _Pair,
    "data": str,
    "split": str | None,
    "images": Annotated[int, Range(1, 10**9)],
    "pixels": Annotated[int, Range(1, 10**12)],
}
"""The temperature of `semask evaluate --calibrate`, what it was fitted to, and errors before and after."""
METRICS: dict[str, Any] = {"miou": _Share, "mean_accuracy": _Share, "overall_accuracy": _Share}


def check(values: Any, file: str | Path) -> dict[str, Any]:
    """Check what a checkpoint says of itself.

    Args:
        values: JSON of its header: "recipe" (with "model", and if known "data", "evaluation", "training" ...),
            "classes", "step", "metrics", "licence", "published".
        file: The file, for messages.

    Returns:
        The same.

    Raises:
        ValueError: If an entry is not of its form, or two contradict each other.
    """
    try:
        if not isinstance(values, dict):
            raise ValueError("it is no object")
        recipe = values.get("recipe")
        if not isinstance(recipe, dict) or not isinstance(recipe.get("model"), dict):
            raise ValueError("it has no recipe with a model")
        check_recipe(recipe)
        check_classes(values.get("classes"), recipe["model"].get("num_classes"))
        check_facts(values)
    except ValueError as error:
        raise ValueError(
            f"{one_line(file)}: its description is wrong ({reason(error)}): was it made by another version?"
        ) from error
    return values


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Check the sections of a recipe that prediction and evaluation follow; the model has a check of its own.

    Raises:
        ValueError: If a setting is unknown or not admitted.
    """
    for name, section in recipe.items():
        if not isinstance(section, dict):
            raise ValueError(f"recipe.{one_line(name, longest=80)} is no object with settings")
    require(recipe.get("training", {}).get("pretrained"), str | None, "training.pretrained")
    evaluation_of(recipe)
    data = recipe.get("data", {})
    Data(**{"root": "", **from_plain(Data, data, "data")})


def measured_of(values: Mapping[str, Any], file: str | Path) -> dict[str, Any]:
    """Range of samples, mean and std of a checkpoint whose training measured them; nothing for others.

    Raises:
        ValueError: If they are not of their form.
    """
    recipe = values.get("recipe") or {}
    model = recipe.get("model") or {}
    if not (recipe.get("data") or {}).get("measure"):
        return {}
    found = {name: model[name] for name in ("mean", "std", "value_range") if model.get(name) is not None}
    try:
        ModelSettings(**from_plain(ModelSettings, {**found, "in_channels": model.get("in_channels")}, "model"))
    except ValueError as error:
        raise ValueError(f"{one_line(file)}: its recipe does not describe a model ({reason(error)})") from error
    return found


def evaluation_of(recipe: Mapping[str, Any]) -> Inference:
    """How a recipe evaluates its model; the defaults where it does not say.

    Raises:
        ValueError: If a setting is unknown or not admitted.
    """
    return Inference(**from_plain(Inference, recipe.get("evaluation", {}), "evaluation"))


def check_classes(values: Any, count: object) -> None:
    """Check names and colors of classes, if there are any.

    Raises:
        ValueError: If they are no such list, or not one for each class of the model.
    """
    if values is None:
        return
    if not isinstance(values, dict):
        raise ValueError("classes is no object with names and colors")
    found = len(Classes.from_dict(values))
    if found != count:
        raise ValueError(f"it names {found} classes, but its model has {one_line(repr(count), longest=40)}")


def check_facts(values: Mapping[str, Any]) -> None:
    """Check step, license, scores, calibration, and what is known of a published model.

    Raises:
        ValueError: If one is of another form.
    """
    for name, hint in FACTS.items():
        require(values.get(name), hint, name)
    published, metrics = values.get("published"), values.get("metrics") or {}
    if published is not None:
        require_known(published, PUBLISHED, "published")
        if missing := [name for name in ("name", "miou", "miou_multiscale") if name not in published]:
            raise ValueError(f"published lacks {', '.join(missing)}")
    if (calibration := values.get("calibration")) is not None:
        require_known(calibration, CALIBRATION, "calibration")
        if "temperature" not in calibration:
            raise ValueError("calibration lacks temperature")
    check_changes(values.get("changes") or [])
    if not isinstance(metrics, dict):
        raise ValueError("metrics is no object with scores")
    for name, hint in METRICS.items():
        require(metrics.get(name), hint, f"metrics.{name}")


def check_changes(values: Any) -> None:
    """Check what is noted of a run that went on with other settings: [{"step": 5, "changes": {NAME: [before, now]}}].

    Raises:
        ValueError: If it is of another form.
    """
    if not isinstance(values, list):
        raise ValueError("changes is no list")
    for entry in values:
        if not isinstance(entry, dict) or not isinstance(entry.get("changes"), dict):
            raise ValueError("an entry of changes is no object with changes")
        require(entry.get("step"), FACTS["step"], "the step of changes")
        for name, pair in entry["changes"].items():
            if not isinstance(pair, list) or len(pair) != 2:
                raise ValueError(f"changes does not say what {one_line(name, longest=80)} was and is")
            if name == "training.pretrained":
                require(pair, tuple[str | None, str | None], name)
