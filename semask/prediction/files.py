"""Which images to predict, what is wrong with one, and what the files of the results are called."""

import glob as globbing
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from semask.data.film_files import FILM_SUFFIXES, film_format
from semask.data.geo_files import NoImage
from semask.data.images import IMAGE_SUFFIXES
from semask.files.text import one_line

BESIDE = re.compile(r"_(confidence|prior\d+)$")
"""Endings of what is written next to a mask and has the same suffix."""
WORLD_FILES = (".tfw", ".TFW", ".tifw", ".TIFW", ".wld", ".WLD")
"""Endings of files next to a TIFF that say where it lies."""


LONGEST_NAME = 200
"""Bytes of a name without its ending: file systems take 255, and a file has a longer name until it is whole."""


HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Kinds of characters that no name of an output has: control, direction and format, half pairs, line separators."""


class Unreadable(NoImage):
    """The image is at fault, not a setting."""


def has_world_file(path: Path) -> bool:
    """Whether a file next to an image says where on earth it lies."""
    return any(path.with_suffix(suffix).is_file() for suffix in WORLD_FILES)


def find_images(sources: Sequence[str | Path]) -> list[Path]:
    """List the files that files, folders and patterns stand for, each once, in order.

    A folder stands for its images; one without images for its films.

    Raises:
        ValueError: If a source stands for no image and no film.
    """
    found: dict[Path, Path] = {}
    for source in sources:
        path = Path(source)
        if str(source) == "":
            raise ValueError("an image has an empty name: give a file, a folder (. for this one), or a pattern")
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            files = files or films_in(path)
        elif path.exists():
            files = [path]
        else:
            files = sorted(Path(p) for p in globbing.glob(str(source), recursive=True) if Path(p).is_file())
        if not files:
            endings = ", ".join(IMAGE_SUFFIXES)
            raise ValueError(
                f"{one_line(source)}: no image there: give a file, a folder with images ({endings}) or films, or a "
                "pattern"
            )
        for file in files:
            found.setdefault(file.absolute(), file)
    return list(found.values())


def films_in(folder: Path) -> list[Path]:
    """Films in a folder and all below it: by their names, and .ts and .mts, which programs have too, by their bytes.

    A damaged film is among them, so that it is said that it failed, as it is of an image.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in FILM_SUFFIXES and p.is_file())
    return [file for file in files if file.suffix.lower() not in (".ts", ".mts") or film_format(file) is not None]


def left_out(sources: Sequence[str | Path], files: Sequence[Path]) -> list[Path]:
    """Films in folders that stand for their images."""
    films = [film for source in sources if Path(source).is_dir() for film in films_in(Path(source))]
    known = {file.absolute() for file in files}
    return [film for film in films if film.absolute() not in known]


def first_files(files: Sequence[Path], band_files: Sequence[str] | None) -> list[Path]:
    """Leave out the files of the further bands of images whose bands are in files of their own.

    >>> [file.name for file in first_files([Path("a_B02.tif"), Path("a_B03.tif"), Path("b.tif")], ("_B02", "_B03"))]
    ['a_B02.tif', 'b.tif']
    """
    further = tuple((band_files or ())[1:])
    return [file for file in files if not (further and file.stem.endswith(further))]


def require_other_files(files: list[Path], names: dict[Path, str], out: Path, further: Sequence[str] = ()) -> None:
    """Refuse to write over the images that are segmented; `further` are endings of outputs.

    Raises:
        ValueError: If an output would take the place of an image.
    """
    endings = ["_overlay.jpg", *(f"_prior{stage}.png" for stage in range(1, 5)), *further]
    for suffix in (".png", ".tif"):
        endings += [suffix, f"_confidence{suffix}"]
    outputs = {f"{name}{ending}" for name in names.values() for ending in endings}
    for file in files:
        if file.name in outputs and file.resolve().parent == out.resolve():
            raise ValueError(
                f"{one_line(file)}: an output in {one_line(out)} would take the place of this image: choose another "
                "--out"
            )


def require_nothing_lost(names: dict[Path, str], out: Path, endings: Sequence[str]) -> None:
    """Refuse to replace files that lie next to the images: they may be their labels.

    In any other folder outputs of an earlier run are replaced.

    Raises:
        ValueError: If `out` is the folder of an image and has a file with the name of one of its outputs.
    """
    folder = out.resolve()
    for file, name in names.items():
        if file.resolve().parent != folder:
            continue
        for ending in endings:
            if (out / f"{name}{ending}").exists():
                raise ValueError(
                    f"{one_line(out / f'{name}{ending}')}: lies next to the image already, and could be replaced: "
                    "choose another --out"
                )


def output_names(files: list[Path], further: Sequence[str] = ()) -> dict[Path, str]:
    """Name the outputs after the files: the stem, with suffix, folder or a number where that is not unique.

    A name that another image's further outputs have (x_confidence, x_prior1, x_ and one of the endings `further`)
    counts as not unique.

    No name is that of a folder (. and ..), hidden, longer than `LONGEST_NAME`, or has characters that are not shown.

    >>> list(output_names([Path("a/x.jpg"), Path("a/x.png"), Path("y.jpg"), Path("..png")]).values())
    ['x_jpg', 'x_png', 'y', 'image']
    """
    names: dict[Path, str] = {}
    others = {Path(x).stem for x in further if x.startswith("_") and Path(x).suffix in (".png", ".tif")}
    beside = re.compile("|".join([BESIDE.pattern, *(f"{re.escape(other)}$" for other in sorted(others))]))
    stems = {plain(p.stem) for p in files}
    for make in (
        lambda p: p.stem,
        lambda p: f"{p.stem}_{p.suffix.lstrip('.')}",
        lambda p: f"{p.parent.name}_{p.stem}_{p.suffix.lstrip('.')}",
    ):
        candidates = {p: plain(make(p)) for p in files if p not in names}
        counts = Counter(candidates.values())
        taken = set(names.values())
        names |= {
            p: name
            for p, name in candidates.items()
            if counts[name] == 1
            and name not in taken
            and not (beside.search(name) and beside.sub("", name) in stems)  # another image's file next to its mask
        }
    taken = set(names.values())
    numbers = itertools.count()
    for p in files:
        if p not in names:
            names[p] = next(name for i in numbers if (name := f"{plain(p.stem)}_{i}") not in taken)
            taken.add(names[p])
    return {p: names[p] for p in files}


def plain(name: str) -> str:
    """Make the name of a file of our own from that of anybody's."""
    visible = "".join("_" if unicodedata.category(c) in HIDDEN or c in "/\\" else c for c in name)
    short = visible.lstrip(". ").encode()[:LONGEST_NAME].decode(errors="ignore")
    return short.rstrip(". ") or "image"
