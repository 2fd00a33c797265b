"""What lies in a folder, listed once, for all that look at it."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

from semask.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from semask.data.pairs import OF_SYSTEMS, tree


class Listing:
    """The files below a folder, without hidden ones and those of operating systems.

    Args:
        root: The folder.

    Raises:
        ValueError: If it can't be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        files, self.linked_again = tree(root)
        self.files = [path for path in files if not set(path.relative_to(root).parts) & set(OF_SYSTEMS)]

    @cached_property
    def names(self) -> list[PurePosixPath]:
        """Paths of the files below the root, sorted."""
        return [PurePosixPath(path.relative_to(self.root).as_posix()) for path in self.files]

    @cached_property
    def folders(self) -> frozenset[str]:
        """Paths of all folders with files below them, below the root, with / between names."""
        return frozenset(
            parent.as_posix() for name in self.names for parent in name.parents if parent.as_posix() != "."
        )

    def images(self, folder: str = "") -> list[Path]:
        """Files below a folder that count as images by their ending."""
        return list(self._ending(IMAGE_SUFFIXES, folder))

    def masks(self, folder: str = "") -> list[Path]:
        """Files below a folder that count as masks by their ending."""
        return list(self._ending(MASK_SUFFIXES, folder))

    def having(self, *suffixes: str, folder: str = "") -> list[Path]:
        """Files below a folder with one of some endings, in lower case."""
        return list(self._ending(suffixes, folder))

    def _ending(self, suffixes: Iterable[str], folder: str) -> Iterable[Path]:
        wanted, below = tuple(suffixes), PurePosixPath(folder).parts
        for name, path in zip(self.names, self.files, strict=True):
            if name.suffix.lower() in wanted and name.parts[: len(below)] == below:
                yield path
