"""What an evaluation counted in each image, in memory and in a small file: intervals and comparisons are made of it."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.files.atomic import written_whole
from semask.files.reading import require_file
from semask.files.text import one_line, reason

SUFFIX = ".npz"
MOST_BYTES = 2**30
"""Bytes of a file of counts, unpacked."""
MOST_IMAGES, MOST_CLASSES, MOST_MAPS = 10**7, 255, 65
ABOUT = "about"
CONFUSION = "confusion"
_COLUMNS = 4


@dataclass(frozen=True)
class ImageCounts:
    """Integers counted in each of N images.

    Args:
        names: Name of each image: its path below the folder of the data set, without ending.
        classes: Names of the K classes.
        confusion: Cells of the confusion matrices that are not 0, [n, 4] int64: image (0 to N - 1), map (0 is the
            decoder's mask, s the prior of stage s), cell (label * K + prediction), pixels.
        maps: Number of maps: 1, and one for each prior that was evaluated.
        details: What else was counted, by name: arrays [N, ...].
        report: The report of the evaluation, as JSON.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    maps: int = 1
    details: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def matrix(self, map: int = 0) -> NDArray[np.int64]:
        """Confusion matrix over all images, [K, K]: row = label, column = prediction."""
        K = len(self.classes)
        rows = self.confusion[self.confusion[:, 1] == map]
        total = np.zeros(K * K, np.int64)
        np.add.at(total, rows[:, 2], rows[:, 3])
        return total.reshape(K, K)

    def areas(self, map: int = 0) -> NDArray[np.int64]:
        """Pixels of each image and class that are hit, labeled and predicted: [N, K, 3].

        IoU = hit / (labeled + predicted - hit), of one image or of the sum over some.
        """
        K = len(self.classes)
        image, _, cell, pixels = self.confusion[self.confusion[:, 1] == map].T
        label, prediction = np.divmod(cell, K)
        areas = np.zeros((len(self.names), K, 3), np.int64)
        hit = label == prediction
        for where, classes, column in ((hit, label, 0), (slice(None), label, 1), (slice(None), prediction, 2)):
            np.add.at(areas, (image[where], classes[where], column), pixels[where])
        return areas

    def only(self, names: Sequence[str]) -> "ImageCounts":
        """Only some of the images, in the given order."""
        old = {name: index for index, name in enumerate(self.names)}
        indices = np.array([old[name] for name in names], np.int64)
        place = np.full(len(self.names), -1)
        place[indices] = np.arange(len(indices))
        confusion = self.confusion[place[self.confusion[:, 0]] >= 0].copy()
        confusion[:, 0] = place[confusion[:, 0]]
        details = {name: values[indices] for name, values in self.details.items()}
        return ImageCounts(tuple(names), self.classes, confusion, self.maps, details, self.report)

    def save(self, path: str | Path) -> None:
        """Write a file `.npz`, which holds numbers and text and no code.

        Raises:
            ValueError: If it can't be written.
        """
        about = {"names": self.names, "classes": self.classes, "maps": self.maps, "report": self.report}
        arrays = {**self.details, CONFUSION: self.confusion, ABOUT: np.frombuffer(json.dumps(about).encode(), np.uint8)}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        with written_whole(Path(path)) as temporary:
            temporary.write_bytes(buffer.getvalue())


def read_counts(path: str | Path) -> ImageCounts:
    """Read a file that `ImageCounts.save` wrote, or that anybody made.

    Raises:
        ValueError: If it can't be read, is too large, or its numbers contradict each other.
    """
    path = require_file(path, otherwise="give a file that semask evaluate --images FILE.npz wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"{size:,} bytes unpacked, more than {MOST_BYTES:,}")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays.pop(ABOUT).tobytes())
        counts = ImageCounts(
            _texts(about["names"], MOST_IMAGES),
            _texts(about["classes"], MOST_CLASSES),
            arrays.pop(CONFUSION),
            about["maps"],
            arrays,
            about["report"],
        )
        _require_consistent(counts)
    except Exception as error:  # zipfile and NumPy raise nearly anything for damaged files
        raise ValueError(
            f"{one_line(path)}: no file of counts, or damaged ({reason(error)}): write it again with semask evaluate "
            "--images"
        ) from error
    return counts


def _texts(values: Any, most: int) -> tuple[str, ...]:
    if not isinstance(values, list) or not 0 < len(values) <= most or not all(isinstance(x, str) for x in values):
        raise ValueError("names are no list of texts")
    if len(set(values)) < len(values):
        raise ValueError("a name occurs twice")
    return tuple(values)


def _require_consistent(counts: ImageCounts) -> None:
    confusion, N, K = counts.confusion, len(counts.names), len(counts.classes)
    if type(counts.maps) is not int or not 1 <= counts.maps <= MOST_MAPS or not isinstance(counts.report, dict):
        raise ValueError("maps or report of another kind")
    if confusion.dtype != np.int64 or confusion.ndim != 2 or confusion.shape[1] != _COLUMNS:
        raise ValueError(f"confusion is {confusion.dtype} {list(confusion.shape)}")
    ends = np.array([N, counts.maps, K * K, 2**48])
    if len(confusion) and ((confusion < 0) | (confusion >= ends)).any():
        raise ValueError("confusion names images, maps or classes that are not there")
    for name, values in counts.details.items():
        if values.dtype.kind not in "iuf" or values.ndim < 1 or len(values) != N:
            raise ValueError(f"{name} is {values.dtype} {list(values.shape)} for {N} images")
