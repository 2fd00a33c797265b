"""Show the parameters, FLOPs and stages of a model."""

from typing import TYPE_CHECKING

from semask.commands.console import make_console
from semask.files.text import one_line

if TYPE_CHECKING:
    from semask.model import SeMask


def info(source: str, *, size: tuple[int, int] = (512, 512)) -> None:
    """Show the parameters of a model, its FLOPs at a size, and what each stage is.

    A multiplication and an addition count as 2 FLOPs; matrix products and convolutions are counted, norms, softmax and
    resizing are not.

    Args:
        source: Checkpoint, recipe (.yaml), or the name of an installed recipe such as ade20k/semask_tiny_fpn.
        size: Height and width of the image that FLOPs are counted for.

    Raises:
        ValueError: If the source can't be read or the size is not positive.
    """
    from rich.table import Table

    from semask import cost

    report = cost.info(open_model(source), size=size)
    console = make_console(stderr=False)
    parts = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in report["parts"].items())
    console.print(f"{report['parameters']:,} parameters ({parts})")
    console.print(f"{report['flops'] / 1e9:.2f} GFLOPs at {size[0]} x {size[1]}")
    table = Table(*report["stages"][0])
    for row in report["stages"]:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    console.print(table)


def open_model(source: str) -> "SeMask":
    """Load a checkpoint, or build the model of a recipe.

    Raises:
        ValueError: If there is neither.
    """
    from semask.builder import build_plan
    from semask.checkpoints.sources import load
    from semask.settings.model import settings_of_file
    from semask.settings.recipe import is_recipe, read_recipe

    if not is_recipe(source):
        return load(source)
    recipe = read_recipe(source)
    if "model" not in recipe:
        raise ValueError(f"{one_line(source)}: a recipe without a section `model`: give one that has it")
    settings = settings_of_file(recipe["model"], source)
    return build_plan(settings)  # shapes are enough, whatever size the recipe asks for
