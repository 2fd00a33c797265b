"""Trackers of experiments: Accelerate's, each with what it needs to know of a run."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from semask.extras import require
from semask.settings.training import Tracker

PROJECT = "semask"
PACKAGES = {"comet_ml": "comet-ml"}
"""What pip calls a tracker, where it is not the name of its module."""
PICTURES = ("tensorboard", "wandb", "swanlab")
"""Trackers that take a list of pictures."""


def require_trackers(names: tuple[Tracker, ...]) -> None:
    """Refuse to go on without the package of a tracker.

    Raises:
        ValueError: If one is not installed.
    """
    for name in names:
        if name == "tensorboard":
            require(name)
        elif importlib.util.find_spec(name) is None:
            raise ValueError(
                f"training.log_with is {name}, which is not installed: pip install {PACKAGES.get(name, name)}, or "
                "leave it out"
            )


def make_trackers(names: tuple[Tracker, ...], out: Path, *, first_step: int) -> list[GeneralTracker]:
    """Make trackers for `Accelerator.log_with`, each once.

    TensorBoard writes to OUT/tensorboard; the others have a project "semask", where the run has the name of its folder,
    and are told by their own environment variables where to write to.

    Args:
        names: Settings `training.log_with`.
        out: Folder of the run.
        first_step: TensorBoard shows the points of a stopped run from this step on no more.
    """
    name = out.resolve().name
    options: dict[str, dict[str, Any]] = {
        "tensorboard": {"logging_dir": out, "purge_step": first_step},
        "wandb": {"name": name, "dir": str(out)},
        "trackio": {"name": name},
        "mlflow": {"run_name": name},
        "aim": {"logging_dir": out},
        "dvclive": {"dir": str(out / "dvclive")},
        "swanlab": {"experiment_name": name, "logdir": str(out / "swanlab")},
    }
    return [
        LOGGER_TYPE_TO_CLASS[x]("tensorboard" if x == "tensorboard" else PROJECT, **options.get(x, {}))
        for x in dict.fromkeys(names)
    ]


def configure(trackers: list[GeneralTracker], recipe: Mapping[str, Mapping[str, Any]]) -> None:
    """Give trackers the recipe; TensorBoard would make a run of its own of it."""
    for tracker in trackers:
        if tracker.name != "tensorboard":
            tracker.store_init_configuration(flat(recipe))


def flat(recipe: Mapping[str, Mapping[str, Any]]) -> dict[str, str | float | bool | None]:
    """Settings as trackers take them.

    >>> flat({"training": {"lr": 0.1, "betas": (0.9, 0.99)}})
    {'training.lr': 0.1, 'training.betas': '[0.9, 0.99]'}
    """
    return {
        f"{group}.{name}": list_text(value) if isinstance(value, list | tuple | dict) else value
        for group, settings in recipe.items()
        for name, value in settings.items()
    }


def list_text(value: Any) -> str:
    """A list or an object as text; tuples as lists."""
    return str(list(value) if isinstance(value, tuple) else value)
