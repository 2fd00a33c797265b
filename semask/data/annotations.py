"""What the formats of labeling tools have in common: their JSON files, the images these name, and lists of classes."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from semask.data.classes import Classes
from semask.data.format import Split
from semask.data.listing import Listing
from semask.data.pairs import listed
from semask.data.shapes import IGNORED
from semask.files.reading import parse_json, read_text
from semask.files.text import one_line, reason

LARGEST_JSON = 2**30
"""Bytes of an annotation file: COCO's own has 0.45 GB."""
BACKGROUND = "background"
"""Name of class 0 where a tool outlines objects only."""
BACKGROUNDS = (BACKGROUND, "_background_", "__background__")
"""Names, in lower case, of a tool's class that is class 0."""
IGNORED_LABEL = "__ignore__"
"""Label of pixels that are not to be learned, as labelme has it."""
SPLIT_WORDS: Mapping[Split, tuple[str, ...]] = {"train": ("train", "training"), "val": ("val", "valid", "validation")}
"""Words in the names of files and folders that tell the split."""
_OTHER_SPLITS = ("test", "testing")


def read_json(path: Path, *, most: int = LARGEST_JSON, each: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read an annotation file.

    Args:
        path: The file.
        most: Bytes that it may have.
        each: Makes something smaller of each object as soon as it is read.

    Raises:
        ValueError: If it can't be read, or is no JSON.
    """
    text = read_text(path, most=most)
    try:
        return parse_json(text, each=each)
    except ValueError as error:
        raise ValueError(f"{one_line(path)}: not a readable JSON file: {reason(error)}") from error


def head_and_tail(path: Path, count: int = 2**16) -> str:
    """The first and the last bytes of a file as text, to see what it is; "" if it can't be read."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return ""
        with open(path, "rb") as file:
            head = file.read(count)
            file.seek(max(len(head), path.stat().st_size - count))
            return (head + b"\n" + file.read(count)).decode("utf-8", errors="replace")
    except OSError:
        return ""


def has_keys(text: str, *keys: str) -> int:
    """How many of some keys a piece of JSON seems to have."""
    return sum(re.search(rf'"{re.escape(key)}"\s*:', text) is not None for key in keys)


def split_of(name: str) -> Split | None:
    """The split that a word in a name tells.

    >>> split_of("instances_val2017"), split_of("valid"), split_of("trains")
    ('val', 'val', None)
    """
    words = re.findall("[a-z]+", name.lower())
    return next((split for split, known in SPLIT_WORDS.items() if any(word in known for word in words)), None)


def is_other_split(name: str) -> bool:
    """Whether a name tells of a split that is neither trained on nor validated with."""
    return any(word in _OTHER_SPLITS for word in re.findall("[a-z]+", name.lower()))


def split_folders(root: Path) -> dict[Split, str]:
    """Folders of a root that are called like the splits; {} unless there is one for each."""
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
    found: dict[Split, str] = {}
    for name in names:
        split = split_of(name)
        if split is not None and name.lower() in SPLIT_WORDS[split]:
            found.setdefault(split, name)
    return found if len(found) == 2 else {}


class ImageIndex:
    """Images below a folder by the names that annotation files give them.

    Such a name may be a path of another machine, a URL, or lead out of the folder: only its last parts are compared
    with the images that are there.

    Args:
        listing: What lies in the folder.
    """

    def __init__(self, listing: Listing) -> None:
        self.root = listing.root
        self.images = listing.images()

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in self.images:
            found.setdefault(_normal(path.name), []).append(path)
        return found

    def find(self, written: str, *, near: Sequence[Path] = ()) -> Path | None:
        """Find the image that is meant.

        Args:
            written: Its name in the annotation file.
            near: Folders where it should be, the likeliest first.

        Returns:
            Its path; None if there is no such image.

        Raises:
            ValueError: If several images may be meant.
        """
        parts = _parts(written)
        if not parts:
            return None
        candidates = self._by_name.get(parts[-1], [])
        if len(candidates) > 1:
            alike = {path: self._alike(path, parts) for path in candidates}
            candidates = [path for path in candidates if alike[path] == max(alike.values())]
        for folder in near:
            if len(candidates) > 1:
                candidates = [path for path in candidates if path.is_relative_to(folder)] or candidates
                exact = [path for path in candidates if path.parent == folder]
                candidates = exact or candidates
        if len(candidates) > 1:
            places = listed([path.relative_to(self.root).as_posix() for path in candidates])
            raise ValueError(
                f"the image {one_line(written, longest=100)} may be {places}: give images names of their own"
            )
        return candidates[0] if candidates else None

    def _alike(self, path: Path, parts: Sequence[str]) -> int:
        """How many of the last parts of a path are those of a name."""
        ours = [_normal(part) for part in path.relative_to(self.root).parts]
        count = 0
        for mine, theirs in zip(reversed(ours), reversed(parts), strict=False):
            if mine != theirs:
                break
            count += 1
        return count


def _parts(written: str) -> list[str]:
    """Folders and name in a path of any system."""
    return [_normal(part) for part in re.split(r"[/\\]", written) if part not in ("", ".", "..")]


def _normal(name: str) -> str:
    """Some systems write ä as one character, others as two."""
    return unicodedata.normalize("NFC", name)


def stem_of(path: str) -> str:
    """Name without folders and ending."""
    return PurePosixPath(path.replace("\\", "/")).stem


class ClassList:
    """Names of a tool's classes to class indices, with the background first.

    Args:
        names: Names of its classes, in their order; one that is called background is class 0, and `__ignore__` is not
            learned.

    Raises:
        ValueError: If they are no names of classes.
    """

    def __init__(self, names: Iterable[Any]) -> None:
        names = list(names)
        others = [name for name in names if not is_background(name) and name != IGNORED_LABEL]
        self.classes = Classes((BACKGROUND, *others))
        self.index = {name: 0 for name in names if is_background(name)}
        self.index |= {name: place + 1 for place, name in enumerate(others)}
        self.index |= {name: IGNORED for name in names if name == IGNORED_LABEL}


def is_background(name: Any) -> bool:
    """Whether a class of a tool is what lies outside of all objects."""
    return isinstance(name, str) and name.strip().lower() in BACKGROUNDS


class Notes:
    """What was left out of annotation files, counted.

    Args:
        where: File or folder, for the lines.
    """

    def __init__(self, where: Path) -> None:
        self.where = where
        self.counts: Counter[str] = Counter()

    def add(self, text: str, count: int = 1) -> None:
        """Count something that is not used, in words that fit one and many."""
        if count:
            self.counts[text] += count

    @property
    def lines(self) -> list[str]:
        """One line for each kind."""
        return [f"{one_line(self.where)}: {text}: {count:,}" for text, count in sorted(self.counts.items())]


def require_all_images(missing: Sequence[str], count: int, where: Path, *, more: str = "") -> None:
    """Refuse annotations whose images are not there.

    Args:
        missing: Names of the images, as written.
        count: Number of all annotated images.
        where: File or folder with the annotations.
        more: What else to say.

    Raises:
        ValueError: Which images are missing, and how many.
    """
    if missing:
        raise ValueError(
            f"{one_line(where)}: {len(missing)} of {count} annotated images are not in the folder: {listed(missing)}; "
            f"add them or remove their annotations{more}"
        )
