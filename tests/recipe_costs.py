"""Parameters and FLOPs of the installed recipes; `python tests/recipe_costs.py` writes semask/recipes/costs.csv."""

import csv
from typing import Any

from semask.builder import build_plan
from semask.checkpoints.recipe_table import COSTS
from semask.cost import flops, parameters
from semask.settings.model import settings_of_file
from semask.settings.recipe import read_recipe, recipe_names


def cost(name: str) -> dict[str, Any]:
    """Row of a recipe: its model's parameters, and FLOPs for an image as large as the training crop."""
    recipe = read_recipe(name)
    model = build_plan(settings_of_file(recipe["model"], name))
    height, width = recipe["augmentation"]["crop"]
    return {
        "name": name,
        "parameters": parameters(model),
        "flops": flops(model, (height, width)),
        "height": height,
        "width": width,
    }


def main() -> None:
    """Write the table."""
    rows = [cost(name) for name in recipe_names()]
    with COSTS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
