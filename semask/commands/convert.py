"""Convert a checkpoint of the published code."""

import difflib
from pathlib import Path

from semask.checkpoints.download import fetch, published_checkpoint
from semask.checkpoints.official import Scope, convert_file, convert_published
from semask.checkpoints.published import PUBLISHED, find
from semask.checkpoints.sources import load
from semask.data.classes import TableName
from semask.files.schema import require
from semask.files.text import make_console, one_line, shown
from semask.model import SeMask


def convert(
    source: str,
    *,
    out: str | None = None,
    published: str | None = None,
    semantic_window: Scope | None = None,
    format: TableName | None = None,
) -> Path:
    """Convert a checkpoint of the published SeMask code (its mmsegmentation or detectron2 form).

    Sizes are read from the file. The scope of the semantic attention leaves no trace in it, so it has to be known: from
    the registry for a published model, else from you.

    Args:
        source: Name of a published model, which is fetched (see docs/published.md), or a .pth or .pkl file.
        out: File to write, ending in .safetensors; null for a new SOURCE with that ending, or the cache.
        published: Name of the published model that the file is, when it was downloaded by hand.
        semantic_window: Scope of the semantic attention of each stage of a model of your own, e.g. [7,7,null,null]:
            side of its windows in cells, null for global.
        format: Data set whose class names and colors the model has; null for those that the file names, if any.

    Returns:
        The file that was written.

    Raises:
        ValueError: If the file can't be read, is no SeMask, has tensors that have no place, or the scope is not known.
    """
    require(format, TableName | None, "format")
    file, known = Path(source), find(published) if published is not None else None
    if known is not None and (semantic_window is not None or format is not None):
        raise ValueError(f"{known.name} has its own scope and data: leave semantic_window and format out")
    if file.exists():
        target = Path(out) if out is not None else file.with_suffix(".safetensors")
        if target.resolve() == file.resolve():
            raise ValueError(f"{target}: would replace the source: give another --out")
        if out is None and target.exists():
            raise ValueError(f"{target}: is there already: give it as --out to replace it, or another name")
        if known is not None:
            convert_published(file, known, out=target)
        else:
            convert_file(file, semantic_window=semantic_window, format=format, out=target)
    elif source in PUBLISHED:
        target = published_checkpoint(PUBLISHED[source]) if out is None else Path(out)
        if out is not None:
            convert_published(fetch(PUBLISHED[source]), PUBLISHED[source], out=target)
    else:
        close = difflib.get_close_matches(source, PUBLISHED, n=1, cutoff=0.8)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(
            f"{one_line(source)}: no such file: give a .pth or .pkl file, or the name of a published model{hint}"
        )
    make_console(stderr=False).print(f"{shown(target)}: {describe(load(target))}", soft_wrap=True)
    return target


def describe(model: SeMask) -> str:
    """Say what was converted, in a line."""
    config = model.config
    scope = ", ".join("global" if window is None else str(window) for window in config["semantic_window"])
    priors = config["prior_classes"] or config["num_classes"]
    scales = [x.item() for name, x in model.state_dict().items() if name.endswith(".scale")]
    learnt = f", its learnt scale {', '.join(f'{scale:.3g}' for scale in scales)}" if scales else ""
    return (
        f"{config['encoder']} with {config['decoder']}, {config['num_classes']} classes, priors of {priors}, "
        f"semantic scope {scope}{learnt}"
    )
