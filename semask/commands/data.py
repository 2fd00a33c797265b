"""Pack a data set into tar files that are trained on from a disk or an object store."""

from pathlib import Path
from typing import Annotated, Any, Literal

from semask.commands.console import ConsoleReporter, make_console
from semask.data.catalog import FormatName
from semask.data.dataset import CheckLevel
from semask.files.schema import Range
from semask.files.text import shown


def data(
    action: Literal["pack"],
    folder: str,
    out: str,
    *,
    config: str | None = None,
    format: FormatName | None = None,
    split: Literal["train", "val"] | None = None,
    object_255: bool | None = None,
    shard_mib: Annotated[int, Range(1, 65_536)] = 256,
    check: CheckLevel = "full",
) -> None:
    """Pack FOLDER into OUT: tar files of images and labels, their classes, and an index with sizes and digests.

    Train and evaluate with --data.format shards --data.root OUT, or the URL that OUT is copied to: http, https, s3 or
    gs. The numbers are those of the folder, to the last bit. The tar files can be read by the webdataset library.

    Args:
        action: What to do: pack.
        folder: Images and masks in one of the layouts of docs/formats.md.
        out: Folder to write, which must not exist.
        config: Recipe whose section data says how the folder is read, such as the recipe.yaml of a run; null to
            recognize the layout.
        format: Layout of the folder; null for the recipe's, or to recognize it.
        split: The only split to pack; null for both.
        object_255: For two classes, whether the value 255 of a mask is class 1 (true) or ignored (false).
        shard_mib: Size of a tar file in MiB after which the next one begins.
        check: What to read before: "full" every image and mask, "labels" every mask, "none" nothing.

    Raises:
        ValueError: If the folder can't be read, holds more than photos, or OUT can't be written.
    """
    from semask.data.catalog import recognize
    from semask.data.packing import pack
    from semask.data.source import Data
    from semask.files.schema import from_plain
    from semask.settings.recipe import find_recipe, read_recipe

    settings: dict[str, Any] = {}
    if config is not None:
        settings = from_plain(Data, read_recipe(find_recipe(config)).get("data", {}), "data")
    settings["root"] = folder
    if format is not None:
        settings["format"] = format
    if object_255 is not None:
        settings["object_255"] = object_255
    settings.setdefault("format", recognize(Path(folder).expanduser()).format)
    packed = pack(
        Data(**settings),
        Path(out).expanduser(),
        splits=("train", "val") if split is None else (split,),
        shard_mib=shard_mib,
        check=check,
        track=ConsoleReporter().track,
    )
    counts = " and ".join(f"{count:,} of {name}" for name, count in packed.samples.items())
    console = make_console(stderr=False)
    console.print(
        f"{counts} in {packed.shards:,} tar files, {packed.bytes / 1e6:,.1f} MB: {shown(out)}. Train on it with "
        f"--data.format shards --data.root {shown(out)}",
        soft_wrap=True,
    )
