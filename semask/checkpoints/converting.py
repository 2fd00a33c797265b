"""Checkpoints of the published code -> checkpoints of ours; by the name of a published model, or from its file."""

import difflib
from pathlib import Path

from semask.checkpoints.download import fetch, published_checkpoint
from semask.checkpoints.official import Scope, convert_file, convert_published
from semask.checkpoints.published import PUBLISHED, find
from semask.data.catalog import TableName
from semask.files.schema import require
from semask.files.text import one_line


def convert(
    source: str | Path,
    *,
    out: str | Path | None = None,
    published: str | None = None,
    semantic_window: Scope | None = None,
    format: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Convert a checkpoint of the published SeMask code (its mmsegmentation or detectron2 form).

    Sizes are read from the file. The scope of the semantic attention leaves no trace in it, so it has to be known: from
    the registry for a published model, else from you.

    Args:
        source: Name of a published model, which is fetched (see docs/published.md), or a .pth or .pkl file.
        out: File to write, ending in .safetensors; None for SOURCE with that ending, or the cache.
        published: Name of the published model that the file is, when it was downloaded by hand.
        semantic_window: Scope of the semantic attention of each stage of a model of your own, e.g. (7, 7, None, None):
            side of its windows in tokens, None for global.
        format: Data set whose class names and colors the model has; None for those that the file names, if any.
        overwrite: Replace the file of that name next to SOURCE if it exists; one given as `out` is replaced anyway.

    Returns:
        The file that was written.

    Raises:
        ValueError: If the file can't be read, is no SeMask, has tensors that have no place, the scope is not known, or
            there is a file of the name that was not given.
    """
    require(format, TableName | None, "format")
    file, known = Path(source), find(published) if published is not None else None
    if known is not None and (semantic_window is not None or format is not None):
        raise ValueError(f"{known.name} has its own scope and data: leave semantic_window and format out")
    if not file.exists() and str(source) not in PUBLISHED:
        close = difflib.get_close_matches(str(source), PUBLISHED, n=1, cutoff=0.8)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(
            f"{one_line(source)}: no such file: give a .pth or .pkl file, or the name of a published model{hint}"
        )
    if out is None and not file.exists():
        return published_checkpoint(PUBLISHED[str(source)])
    target = Path(out) if out is not None else file.with_suffix(".safetensors")
    if target.resolve() == file.resolve():
        raise ValueError(f"{one_line(target)}: would replace the source: give another --out")
    if out is None and target.exists() and not overwrite:  # a file that was named is meant
        raise ValueError(f"{one_line(target)}: already exists; pass --overwrite to replace it, or give another --out")
    if not file.exists():
        convert_published(fetch(PUBLISHED[str(source)]), PUBLISHED[str(source)], out=target)
    elif known is not None:
        convert_published(file, known, out=target)
    else:
        convert_file(file, semantic_window=semantic_window, format=format, out=target)
    return target
