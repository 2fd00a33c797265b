"""Convert a checkpoint of the published code to one of ours."""

from typing import TYPE_CHECKING

from semask.commands.console import make_console
from semask.data.catalog import TableName
from semask.files.text import shown

if TYPE_CHECKING:
    from semask.model import SeMask

Window = int | None


def convert(
    source: str,
    *,
    out: str | None = None,
    published: str | None = None,
    semantic_window: tuple[Window, Window, Window, Window] | None = None,
    format: TableName | None = None,
    overwrite: bool = False,
) -> None:
    """Convert a checkpoint of the published SeMask code (its mmsegmentation or detectron2 form).

    Sizes are read from the file. The scope of the semantic attention leaves no trace in it, so it has to be known: from
    the registry for a published model, else from you.

    Args:
        source: Name of a published model, which is fetched (see docs/published.md), or a .pth or .pkl file.
        out: File to write, ending in .safetensors; null for SOURCE with that ending, or the cache.
        published: Name of the published model that the file is, when it was downloaded by hand.
        semantic_window: Scope of the semantic attention of each stage of a model of your own, e.g. [7,7,null,null]:
            side of its windows in tokens, null for global.
        format: Data set whose class names and colors the model has; null for those that the file names, if any.
        overwrite: Replace the file of that name next to SOURCE if it exists; one given as --out is replaced anyway.

    Raises:
        ValueError: If the file can't be read, is no SeMask, has tensors that have no place, the scope is not known, or
            there is a file of the name that was not given.
    """
    from semask.checkpoints import converting
    from semask.checkpoints.sources import load

    target = converting.convert(
        source,
        out=out,
        published=published,
        semantic_window=semantic_window,
        format=format,
        overwrite=overwrite,
    )
    make_console(stderr=False).print(f"{shown(target)}: {describe(load(target))}", soft_wrap=True)


def describe(model: "SeMask") -> str:
    """Say what was converted, in a line."""
    config = model.config
    scope = ", ".join("global" if window is None else str(window) for window in config["semantic_window"])
    priors = config["prior_classes"] or config["num_classes"]
    scales = [x.item() for name, x in model.state_dict().items() if name.endswith(".scale")]
    learned = f", its learned scale {', '.join(f'{scale:.3g}' for scale in scales)}" if scales else ""
    return (
        f"{config['encoder']} with {config['decoder']}, {config['num_classes']} classes, priors of {priors}, "
        f"semantic scope {scope}{learned}"
    )
