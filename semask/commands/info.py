"""The verb `info`: what a model is made of, and what it costs."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from semask.builder import build
from semask.checkpoints.sources import load
from semask.cost import flops, parameters, stages
from semask.files.schema import Sides, require
from semask.files.text import make_console, one_line
from semask.model import SeMask
from semask.settings.model import settings_of_file
from semask.settings.recipe import read_recipe


def info(source: str | SeMask, *, size: tuple[int, int] = (512, 512)) -> dict[str, Any]:
    """Describe a model: parameters, FLOPs at a size, and what each stage is; prints a table.

    A multiplication and an addition count as 2 FLOPs; matrix products and convolutions are counted, norms, softmax and
    resizing are not.

    Args:
        source: Checkpoint, recipe (.yaml), or in Python a model.
        size: Height and width of the image that FLOPs are counted for.

    Returns:
        The same as a dictionary.

    Raises:
        ValueError: If the source can't be read or the size is not positive.
    """
    require(size, Sides, "size")
    model = source if isinstance(source, SeMask) else open_model(source)
    report: dict[str, Any] = {
        "parameters": parameters(model),
        "parts": {name: parameters(part) for name, part in model.named_children() if parameters(part)},
        "size": size,
        "flops": flops(model, size),
        "stages": stages(model, size),
    }
    console = make_console(stderr=False)
    parts = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in report["parts"].items())
    console.print(f"{report['parameters']:,} parameters ({parts})", highlight=False)
    console.print(f"{report['flops'] / 1e9:.2f} GFLOPs at {size[0]} x {size[1]}", highlight=False)
    table = Table(*report["stages"][0])
    for row in report["stages"]:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    console.print(table)
    return report


def open_model(source: str) -> SeMask:
    """Load a checkpoint, or build the model of a recipe.

    Raises:
        ValueError: If there is neither.
    """
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        return load(source)
    recipe = read_recipe(path)
    if "model" not in recipe:
        raise ValueError(f"{one_line(path)}: a recipe without a section `model`: give one that has it")
    settings = settings_of_file(recipe["model"], path)
    with torch.device("meta"):  # shapes are enough, whatever size the recipe asks for
        return build(**asdict(settings))
