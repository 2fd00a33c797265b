"""What a kind of output is: a row that says all of it. Each is a file in outputs/, found by its name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from semask.data.classes import Classes
from semask.extras import require
from semask.files.text import one_line
from semask.prediction.segmentation import Segmentation

FOLDER = Path(__file__).parent / "outputs"


class Written(NamedTuple):
    """An image whose outputs were written."""

    image: Path
    stem: Path
    """Path of its outputs without ending."""


@dataclass(frozen=True)
class Output:
    """A kind of output: `OUTPUT` of a file in outputs/.

    Attributes:
        write: Writes it for one image.
        endings: What the names of its files next to each other end in.
        join: Writes what is of all images of a run, once, into the folder of the outputs; None: there is nothing.
        packages: What has to be installed.
        placed: Whether it is of georeferenced images only.
        whole: Why it is not written in tiles, as the message says it; None: it is.
    """

    write: Callable[[Segmentation], None]
    endings: tuple[str, ...] = ()
    join: Callable[[Path, Sequence[Written], Classes], None] | None = None
    packages: tuple[str, ...] = ()
    placed: bool = False
    whole: str | None = None


def names() -> tuple[str, ...]:
    """Names of the outputs; none of their files is imported."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__"))


def find(name: str) -> Output:
    """Import the file of an output.

    Raises:
        ValueError: If there is no output of that name; nothing is imported then.
    """
    if name not in names():
        raise ValueError(f"no output is called {one_line(repr(name), longest=80)}: write one of {', '.join(names())}")
    found: Output = import_module(f"semask.prediction.outputs.{name}").OUTPUT
    return found


def check(kinds: Sequence[str], *, tiles: bool) -> None:
    """Refuse outputs that there are not, that need what is not installed, or that tiles can't give.

    Raises:
        ValueError: The first that is wrong.
    """
    for name in kinds:
        row = find(name)
        if tiles and row.whole is not None:
            raise ValueError(row.whole)
        for package in row.packages:
            require(package)


def write_all(segmentation: Segmentation) -> tuple[str, ...]:
    """Write all outputs of an image, the mask last, so that where it is all others are.

    Returns:
        Names of those that an image without a place on earth does not have.

    Raises:
        ValueError: If one can't be written.
    """
    skipped = []
    for name in sorted(segmentation.kinds, key=lambda name: name == "mask"):
        row = find(name)
        if row.placed and not segmentation.georeferenced:
            skipped.append(name)
        else:
            row.write(segmentation)
    return tuple(skipped)


def join_all(kinds: Sequence[str], out: Path, images: Sequence[Written], classes: Classes) -> None:
    """Write what is of all images of a run, once all of them are done.

    Args:
        kinds: Names of the outputs that were written.
        out: Folder of the outputs.
        images: Images that could be segmented, in order.
        classes: Names and colors of the classes.

    Raises:
        ValueError: If it can't be written, or a part of it is missing.
    """
    for name in kinds:
        join = find(name).join
        if join is not None:
            join(out, images, classes)
