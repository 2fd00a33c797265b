"""What range the samples of a data set have, and their mean and standard deviation, channel by channel.

The images are read once, some rows of each, in little memory that does not grow with them. Nothing is drawn at random:
the same files give the same numbers.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semask.data.bands import Bands, Reading, Samples, ValueRange, Window, scaled
from semask.data.dataset import SegmentationDataset
from semask.data.progress import Track, untracked
from semask.data.reading import read_picture
from semask.files.text import one_line

MOST_SAMPLES = 2**20
"""Samples of each channel that are kept, of all images together."""
ROWS = 64
"""Rows of an image, or of a chip, that are read at most."""
PERCENTILES = (0.1, 99.9)
"""Percent of the samples of a channel that are at most the low, and the high end of its range."""


class Measured(NamedTuple):
    """What the samples of a data set are like.

    Args:
        value_range: Lowest and highest sample of each channel; None if they were not measured: of 8 bits.
        mean: Mean of each channel, for values in [0, 1].
        std: Standard deviation of each channel, likewise.
    """

    value_range: ValueRange | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


def measure(dataset: SegmentationDataset, *, value_range: bool, track: Track = untracked) -> Measured:
    """Measure the images of a data set.

    Args:
        dataset: Usually the training images.
        value_range: Whether to measure the range too, whatever the data set is read with; else only mean and std of the
            values that it is read as.
        track: Shows how far it is.

    Raises:
        ValueError: If an image can't be read, or a channel has no data at all.
    """
    reading = dataset.reading
    paths = [path for path, _ in dataset.pairs if isinstance(path, Path)]
    if len(paths) < len(dataset.pairs):
        raise ValueError(
            f"{one_line(dataset.name)}: data.measure reads image files, not images in tables: leave it out"
        )
    images = list(dict.fromkeys(zip(paths, dataset.windows, strict=True)))
    quota = max(MOST_SAMPLES // len(images), 1)
    if value_range:
        samples = (_stored_samples(path, reading, window, quota) for path, window in images)
    else:
        samples = (_read_samples(path, reading, window, quota) for path, window in images)
    channels = _gathered(track(samples, f"Measuring {dataset.name}", len(images)), reading.channels, dataset.name)
    if not value_range:
        return Measured(reading.value_range, *_moments(channels))
    ranges = tuple(_range(values) for values in channels)
    fractions = [
        scaled(Samples(values[None, None], None), (limits,), None).ravel()
        for values, limits in zip(channels, ranges, strict=True)
    ]
    return Measured(ranges, *_moments(fractions))


def _gathered(samples: Iterable[Sequence[NDArray[Any]]], channels: int, name: str) -> list[NDArray[Any]]:
    """All samples of each channel; fewer of each image are kept than memory holds."""
    parts: list[list[NDArray[Any]]] = [[] for _ in range(channels)]
    for of_image in samples:
        for part, values in zip(parts, of_image, strict=True):
            part.append(values)
    gathered = [np.concatenate(part) for part in parts]
    for number, values in enumerate(gathered, start=1):
        if not len(values):
            raise ValueError(
                f"{one_line(name)}: channel {number} has no data in any image: leave it out with data.bands, or "
                "correct data.nodata"
            )
    return gathered


def _stored_samples(path: Path, reading: Reading, window: Window | None, quota: int) -> list[NDArray[Any]]:
    """Samples of each channel of an image as they are stored: every n-th of some rows, without holes."""
    reading = dataclasses.replace(reading, value_range=((0.0, 1.0),) * reading.channels)  # any kind of samples will do
    with Bands(path, reading) as bands:
        rows, columns = window or Window(range(bands.height), range(bands.width))
        step = max(-(-min(len(rows), ROWS) * len(columns) // quota), 1)
        found = []
        for row in _spread(rows, ROWS):
            values, valid = bands.samples(Window(range(row, row + 1), columns))
            kept = np.ones(values.shape, np.bool_) if valid is None else valid
            found.append([x[0, ::step][y[0, ::step]] for x, y in zip(values, kept, strict=True)])
    return [np.concatenate(parts)[:quota] for parts in zip(*found, strict=True)]


def _read_samples(path: Path, reading: Reading, window: Window | None, quota: int) -> list[NDArray[np.float32]]:
    """Values of each channel of an image as the model gets them, in [0, 1]: every n-th of some rows, without holes."""
    pixels, _, holes = read_picture(path, reading, window=window)
    rows = list(_spread(range(len(pixels)), ROWS))
    step = max(-(-len(rows) * pixels.shape[1] // quota), 1)
    values = pixels[rows, ::step]  # [rows, columns, C]
    values = values.reshape(-1, values.shape[-1]) if holes is None else values[~holes[rows, ::step]]
    unit = np.float32(255 if pixels.dtype == np.uint8 else 1)
    return [column[:quota] / unit for column in values.T]


def _spread(rows: range, most: int) -> Iterator[int]:
    """At most some rows, evenly spread."""
    count = min(len(rows), most)
    return (rows[(2 * i + 1) * len(rows) // (2 * count)] for i in range(count))


def _range(values: NDArray[Any]) -> tuple[float, float]:
    """Low and high end of the samples of a channel; if all are the same, that value and a little more."""
    low, high = (float(x) for x in np.percentile(values.astype(np.float64), PERCENTILES))
    return (low, high) if high > low else (low, low + max(1.0, abs(low) * 1e-3))


def _moments(channels: Sequence[NDArray[Any]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, with 6 digits; where all is the same 1 is as good as 0."""
    mean = tuple(round(float(values.mean(dtype=np.float64)), 6) for values in channels)
    std = tuple(round(float(values.std(dtype=np.float64)), 6) or 1.0 for values in channels)
    return mean, std
