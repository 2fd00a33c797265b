"""The table of all images: how much of each every class covers. A CSV that spreadsheets open too."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from semask.data.classes import Classes
from semask.files.atomic import write_whole
from semask.prediction.areas import Areas

COLUMNS = ("image", "class", "pixels", "share", "square_meters", "failure")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a cell begins with that a spreadsheet would compute."""


class Row(NamedTuple):
    """An image of the table."""

    image: Path
    areas: Areas | None
    """None if it could not be segmented."""
    failure: str | None = None
    """Why it could not."""


class Total(NamedTuple):
    """What a class covers in all images."""

    name: str
    pixels: int
    share: float
    square_meters: float | None
    """None if the area of an image is not known."""


def write_summary(path: str | Path, rows: Iterable[Row], classes: Classes) -> None:
    """Write a line for each class of each image, and one for each image that failed.

    Raises:
        ValueError: If it can't be written; what was there before is untouched.
    """
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in rows:
        image = harmless(row.image.as_posix())
        if row.areas is None:
            table.writerow([image, "", "", "", "", harmless(row.failure or "")])
            continue
        meters = row.areas.square_meters
        for index, name in enumerate(classes.names):
            area = "" if meters is None else f"{meters[index]:.6g}" if meters[index] < 1e5 else f"{meters[index]:.1f}"
            share = f"{row.areas.share(index):.6f}"
            table.writerow([image, harmless(name), row.areas.pixels[index], share, area, ""])
    write_whole(Path(path), buffer.getvalue().encode("utf-8", "replace"))  # a name of a file may be no UTF-8


def harmless(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would take for a formula.

    >>> harmless("=1+1"), harmless("road")
    ("'=1+1", 'road')
    """
    return f"'{text}" if text.startswith(FORMULA) else text


def totals(areas: Sequence[Areas], classes: Classes) -> list[Total]:
    """Add up what each class covers in all images."""
    valid = max(sum(sum(x.pixels) for x in areas), 1)
    meters = [x.square_meters for x in areas]
    known = [x for x in meters if x is not None]
    complete = bool(areas) and len(known) == len(meters)
    return [
        Total(
            name,
            pixels := sum(x.pixels[index] for x in areas),
            pixels / valid,
            sum(x[index] for x in known) if complete else None,
        )
        for index, name in enumerate(classes.names)
    ]
