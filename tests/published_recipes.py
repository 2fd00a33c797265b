"""The goldens of the published models, with the recipes at the place where they are now."""

import json
from pathlib import Path
from typing import Any

FOLDERS = {"cocostuff10k": "coco_stuff"}
"""Folders of recipes that the goldens know by an earlier name."""


def current(recipe: str) -> str:
    """Path of a recipe below semask/recipes."""
    folder, _, name = recipe.partition("/")
    return f"{FOLDERS.get(folder, folder)}/{name}"


_TEXT = (Path(__file__).parent / "goldens" / "manifests.json").read_text(encoding="utf-8")
MANIFESTS: dict[str, Any] = {
    name: {**entry, "config": current(entry["config"])} if "config" in entry else entry
    for name, entry in json.loads(_TEXT).items()
}
