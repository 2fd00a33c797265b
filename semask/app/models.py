"""The models of the app: opened once, and shared by everybody who uses the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from semask.checkpoints.places import DEFAULT, EMBEDDED
from semask.files.text import one_line
from semask.prediction.opening import open_predictor
from semask.settings.precision import Precision

if TYPE_CHECKING:
    from semask.prediction.array_predictor import ArrayPredictor
    from semask.prediction.predictor import Predictor

NO_LAYERS = "This model has no semantic layers, so it has no priors to show."
EXPORTED = "An exported file gives no priors. Open the checkpoint to see them."
OTHER_CLASSES = "The priors of this model have other classes than its prediction, so they are not shown."
TILES = "Priors are not made in tiles. Start the app without --tile to see them."
PARTS = 2
"""Last parts of a path that the page shows: enough to tell models apart, and no map of the machine."""


class AppModel(NamedTuple):
    """A model that the page offers."""

    name: str
    """What the page calls it."""
    predictor: "Predictor | ArrayPredictor"
    without_priors: str | None
    """Why the page shows no priors; None if it shows them."""


def open_models(
    sources: Sequence[str],
    *,
    tile: int | None = None,
    device: str | None = None,
    precision: Precision = "auto",
    trust: bool = False,
) -> list[AppModel]:
    """Open the models.

    Args:
        sources: Checkpoints or exported files; none for the model in the package.
        tile: Side of the tiles in which images are segmented; None for the image in one piece.
        device: Where to run; None for the GPU if there is one (an exported file: the CPU).
        precision: fp32, bf16 or auto.
        trust: Open exported files that hold code too.

    Raises:
        ValueError: If one can't be read, or there is no such device.
    """
    named = list(dict.fromkeys(sources)) or [DEFAULT]
    names = titles(named)
    models = []
    for source, name in zip(named, names, strict=True):
        opened = open_predictor(
            source if sources else str(EMBEDDED[DEFAULT]),
            tiles=tile is not None,
            device=device,
            precision=precision,
            trust=trust,
        )
        models.append(AppModel(name, opened.predictor, _without_priors(opened.predictor, tile)))
    return models


def titles(sources: Sequence[str]) -> list[str]:
    """Name models after the ends of their paths, with a number where these are alike.

    >>> titles(["street", "/runs/a/best.safetensors", "/other/a/best.safetensors"])
    ['street', 'a/best.safetensors', 'a/best.safetensors (2)']
    """
    found: list[str] = []
    for source in sources:
        parts = [part for part in Path(source).parts if part != Path(source).anchor]
        name = one_line("/".join(parts[-PARTS:]), longest=80) or "model"
        count = sum(other == name or other.startswith(f"{name} (") for other in found)
        found.append(f"{name} ({count + 1})" if count else name)
    return found


def _without_priors(predictor: "Predictor | ArrayPredictor", tile: int | None) -> str | None:
    config = predictor.model.config
    depths = config["semantic_depths"]
    if not hasattr(predictor.model, "encoder"):
        return EXPORTED
    if not (any(depths) if isinstance(depths, list | tuple) else depths):
        return NO_LAYERS
    if config["prior_classes"] not in (None, config["num_classes"]):
        return OTHER_CLASSES
    return TILES if tile is not None else None
