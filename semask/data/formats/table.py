"""A table of paths: a row for each image, with its mask and perhaps its split.

pairs.csv                   image,mask,split
                            photos/yard_1.jpg,masks/yard_1.png,train

CSV (also with tabs or semicolons), JSON lines or Parquet; root is the table, or a folder with one such table. Paths
are relative to the table. In a table that lies in the root folder they must stay below it; a table that is given
itself may name any file. Without names of columns the first is the image, the second the mask, the third the split.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from semask.data.dataset import SegmentationDataset
from semask.data.format import Format, Split
from semask.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from semask.data.listing import Listing
from semask.data.pairs import listed
from semask.data.tables import TABLE_SUFFIXES, Table, column_of, paths_of, read_table
from semask.files.text import one_line

IMAGE = ("image", "images", "img", "pixel_values", "photo", "picture", "rgb", "input", "file", "filename", "path", "x")
MASK = (
    "mask", "masks", "label", "labels", "annotation", "annotations", "segmentation", "segmentation_mask", "seg",
    "seg_map", "label_map", "ground_truth", "gt", "target", "y",
)  # fmt: skip
SPLIT = ("split", "set", "subset", "partition")
"""Names of columns, as `column_of` compares them."""
SIDES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "validation", "valid", "dev", "test"),
}
"""Names of splits, in lower case, the first that is there."""
OF_HUGGINGFACE = "metadata"
"""Stem of tables of another format."""


class Columns(NamedTuple):
    """Places of the columns of a table.

    Args:
        image: Paths of images.
        mask: Paths of masks.
        split: Names of splits; None if there is no such column.
    """

    image: int
    mask: int
    split: int | None


def table(root: str | Path, split: str | None, *, channels: int = 3) -> SegmentationDataset:
    """Find the pairs of a split; all rows if it is None.

    Args:
        root: The table, or a folder with one table of paths.
        split: What the column of splits has; upper and lower case are the same.
        channels: Channels to read the images with: 1, 3 or 4.

    Raises:
        ValueError: There is no such table, it has no such columns, or a file is missing.
    """
    path = table_in(Path(root))
    content = read_table(path)
    columns = _columns(content)
    if columns is None:
        raise ValueError(
            f"{one_line(path)}: no columns of images and masks; it has {listed(content.columns)}: name them image and "
            "mask"
        )
    content = _with_first_row(content)
    rows = [row for row in range(len(content.rows)) if split is None or _split(content, columns, row) == split.lower()]
    if not rows:
        raise ValueError(f"{one_line(path)}: no rows{'' if split is None else f' of the split {one_line(split)}'}")
    given = Path(root).is_file()
    found = [list(paths_of(content, rows, at, path.parent, anywhere=given)) for at in (columns.image, columns.mask)]
    require_files(path, found[0], "images")
    require_files(path, found[1], "masks")
    pairs = dict.fromkeys(zip(*found, strict=True))
    require_once(path, [image for image, _ in pairs])
    return SegmentationDataset(list(pairs), None, name=path.stem, channels=channels)


def table_in(root: Path) -> Path:
    """The table of a root.

    Raises:
        ValueError: If there is none, or more than one.
    """
    if not root.is_dir():
        return root
    tables = [path for path in _candidates(root) if _has_pairs(path)]
    if len(tables) != 1:
        found = f"{len(tables)} tables: {listed([path.name for path in tables])}" if tables else "no table"
        raise ValueError(
            f"{one_line(root)}: {found} with columns image and mask there: give the path of one as data.root"
        )
    return tables[0]


def require_files(table: Path, files: Sequence[Path], what: str) -> None:
    """Check that the files that a table names are there.

    Raises:
        ValueError: Which are not, and how many.
    """
    lost = [path for path in files if not path.is_file()]
    if lost:
        raise ValueError(
            f"{one_line(table)}: {len(lost)} of {len(files)} {what} are missing: {listed([*map(str, lost)])}; "
            "paths are relative to the folder of the table"
        )


def require_once(table: Path, images: Sequence[Path]) -> None:
    """Check that no image is named twice with different masks.

    Raises:
        ValueError: Which one is.
    """
    seen: set[Path] = set()
    for image in images:
        if image in seen:
            raise ValueError(f"{one_line(table)}: {one_line(image)} has two rows with different masks: keep one")
        seen.add(image)


def _candidates(root: Path) -> list[Path]:
    files = sorted(path for path in root.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)
    return [path for path in files if path.stem.lower() != OF_HUGGINGFACE and not path.name.startswith(".")]


def _has_pairs(path: Path) -> bool:
    """Whether the first row of a table names an image and a mask."""
    try:
        content = read_table(path, head=True)
    except ValueError:
        return False
    columns = _columns(content)
    rows = _with_first_row(content).rows
    return columns is not None and bool(rows) and _names_files(rows[0][columns.image], rows[0][columns.mask])


def _names_files(image: str, mask: str) -> bool:
    return Path(image).suffix.lower() in IMAGE_SUFFIXES and Path(mask).suffix.lower() in MASK_SUFFIXES


def _columns(content: Table) -> Columns | None:
    """Places of the columns; None if there are none of images and masks."""
    if _headless(content):
        return Columns(0, 1, 2 if len(content.columns) > 2 else None)
    image, mask = column_of(content.columns, IMAGE), column_of(content.columns, MASK)
    if image is None or mask is None:
        return None
    return Columns(image, mask, column_of(content.columns, SPLIT))


def _headless(content: Table) -> bool:
    """Whether what should be the names of the columns is a row."""
    return len(content.columns) in (2, 3) and _names_files(content.columns[0], content.columns[1])


def _with_first_row(content: Table) -> Table:
    return content._replace(rows=[content.columns, *content.rows]) if _headless(content) else content


def _split(content: Table, columns: Columns, row: int) -> str:
    return content.rows[row][columns.split].strip().lower() if columns.split is not None else ""


def splits(root: Path) -> dict[Split, str]:
    """Names of the splits for training and validation in the table; {} if one is missing."""
    content = read_table(table_in(root))
    columns = _columns(content)
    if columns is None:
        return {}
    content = _with_first_row(content)
    found = {_split(content, columns, row) for row in range(len(content.rows))}
    return sides_in(found)


def sides_in(names: set[str]) -> dict[Split, str]:
    """The names of the splits for training and validation among some; {} if one is missing."""
    sides = {side: next(name for name in known if name in names) for side, known in SIDES.items() if names & set(known)}
    return sides if len(sides) == len(SIDES) else {}


def recognize(listing: Listing) -> str | None:
    """Say what shows that a folder has a table of paths."""
    tables = [path for path in _candidates(listing.root) if _has_pairs(path)]
    return f"{one_line(tables[0].name)} names images and masks" if len(tables) == 1 else None


FORMAT = Format(find=table, splits=splits, recognize=recognize)
