"""The installed recipes with what is known of their models: published scores, parameters, FLOPs."""

import csv
from typing import NamedTuple

from semask.checkpoints.published import PUBLISHED, Published
from semask.settings.recipe import RECIPES, read_recipe, recipe_names

COSTS = RECIPES / "costs.csv"
"""Parameters and FLOPs of each recipe's model; `tests/recipe_costs.py` writes and checks it."""


class RecipeRow(NamedTuple):
    """An installed recipe."""

    name: str
    """What `--config` takes, DATASET/ENCODER_DECODER."""
    method: str
    """SeMask, or plain: the backbone without semantic layers."""
    miou: float | None
    """Published mIoU in percent, one scale; None if there is no published model."""
    parameters: int
    flops: int
    """Of one image of `size`."""
    size: tuple[int, int]
    """Height and width of the training crop."""


def recipe_rows() -> list[RecipeRow]:
    """Describe all installed recipes, in the order of their names."""
    with COSTS.open(encoding="utf-8", newline="") as file:
        costs = {row["name"]: row for row in csv.DictReader(file)}
    published = {model.config.removesuffix(".yaml"): model for model in PUBLISHED.values()}
    return [_row(name, costs[name], published.get(name)) for name in recipe_names()]


def _row(name: str, cost: dict[str, str], published: Published | None) -> RecipeRow:
    return RecipeRow(
        name=name,
        method="SeMask" if read_recipe(name)["model"]["semantic_depths"] else "plain",
        miou=published.miou if published else None,
        parameters=int(cost["parameters"]),
        flops=int(cost["flops"]),
        size=(int(cost["height"]), int(cost["width"])),
    )
