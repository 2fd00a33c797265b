"""List the installed recipes, or print one."""

from semask.commands.console import make_console
from semask.files.text import one_line


def recipes(name: str | None = None) -> None:
    """List the installed recipes with the method, published mIoU, parameters and FLOPs of each; or print one as YAML.

    `semask train --config NAME` takes a recipe by its name. To change one for good, write it to a file first:
    `semask recipes NAME > recipe.yaml`.

    Args:
        name: Recipe to print, e.g. ade20k/semask_tiny_fpn; null for the list.

    Raises:
        ValueError: If there is no recipe of that name.
    """
    from semask.settings.recipe import RECIPES, recipe_names, suggested

    if name is None:
        print_table()
        return
    stem = name.removesuffix(".yaml")
    if stem not in recipe_names():
        raise ValueError(f"{one_line(name)}: no installed recipe has this name: {suggested(stem)}")
    print((RECIPES / f"{stem}.yaml").read_text(encoding="utf-8"), end="")


def print_table() -> None:
    """Print a row for each recipe; it fits into 80 columns."""
    from rich.table import Table

    from semask.checkpoints.recipe_table import recipe_rows

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("method")
    for heading in ("mIoU %", "params", "FLOPs", "at"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in recipe_rows():
        miou = "-" if row.miou is None else f"{row.miou:.2f}"
        cost = (f"{row.parameters / 1e6:.1f}M", f"{row.flops / 1e9:.1f}G", f"{row.size[0]}x{row.size[1]}")
        table.add_row(row.name, row.method, miou, *cost)
    console = make_console(stderr=False)
    console.print(table)
    console.print("mIoU: as published, one scale. FLOPs: of an image as large as the training crop.")
