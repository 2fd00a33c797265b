"""Outputs that are of all images of a run: each image's part is a file first, in the end they are joined.

The parts lie in a hidden folder, so that processes can share the work, and one image is in memory at a time.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from semask.files.atomic import write_whole
from semask.files.reading import read_text
from semask.files.text import one_line
from semask.prediction.output import Written

PARTS = ".parts"
MOST_PART = 2**31
"""Bytes of the part of one image."""


@dataclass(frozen=True)
class Parts:
    """Where the parts of an output are.

    Attributes:
        folder: Name of the folder of the output.
    """

    folder: str

    def write(self, stem: Path, lines: Iterable[str]) -> None:
        """Write the part of an image.

        Args:
            stem: Path of the outputs of the image without ending.
            lines: Lines of ASCII.

        Raises:
            ValueError: If it can't be written.
        """
        write_whole(self._path(stem), "\n".join(lines))

    def lines(self, written: Written) -> Iterator[str]:
        """Read the part of an image, which this run wrote.

        Raises:
            ValueError: If it is not there.
        """
        image = one_line(written.image)
        said = f"the annotations of {image} are missing: all processes need one and the same --out folder"
        return iter(read_text(self._path(written.stem), most=MOST_PART, otherwise=said).splitlines())

    def remove(self, images: Sequence[Written]) -> None:
        """Remove the parts of all images, which are joined."""
        for written in images:
            self._path(written.stem).unlink(missing_ok=True)
        for folder in {self._path(written.stem).parent for written in images}:
            if not any(folder.iterdir()):
                folder.rmdir()

    def _path(self, stem: Path) -> Path:
        return stem.parent / self.folder / PARTS / f"{stem.name}.part"


def common_folder(images: Sequence[Written]) -> str:
    """Folder that all images lie in; their names are given from there."""
    return os.path.commonpath([written.image.absolute().parent for written in images]) if images else "."


def name_from(folder: str, written: Written) -> str:
    """Name of an image from a folder that it lies in, with / on all systems."""
    return os.path.relpath(written.image.absolute(), folder).replace(os.sep, "/")
