"""One film through a model: an overlaid film that a browser plays; between two frames the photos of others go ahead."""

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple, TypeVar

from semask.app.models import AppModel
from semask.data.films import Film
from semask.files.atomic import temporary_folder
from semask.files.reading import parse_json, read_text
from semask.files.reporter import Reporter
from semask.files.text import one_line, without_folder
from semask.prediction.requested import Outputs
from semask.prediction.results import predict_images
from semask.settings.film import FilmSettings

T = TypeVar("T")
MOST_JSON = 2**24
"""Bytes of the numbers of a film, which were just written."""


class Stopped(Exception):
    """The person who sent the film does not want it any more."""


class FilmLimits(NamedTuple):
    """What is done with a film."""

    frames: int
    """Frames that it may have."""
    pixels: int
    """Pixels that a frame may have."""


class Turns(Reporter):
    """Tells how far a film is, ends it where it is asked to, and lets photos in between two frames.

    Args:
        turn: Held by whoever uses the models.
        stop: Set to end the film.
        tell: Is told frames done and expected, and what is done.
    """

    def __init__(
        self, turn: threading.Lock, stop: threading.Event, tell: Callable[[tuple[int, int], str], None]
    ) -> None:
        self.turn, self.stop, self.tell = turn, stop, tell

    def warn(self, lines: object) -> None:
        """Say nothing: what is wrong with a film is in its result."""

    def track(self, items: Iterable[T], what: str, count: int) -> Iterator[T]:
        """Give frames on."""
        for number, item in enumerate(items, start=1):
            if self.stop.is_set():
                raise Stopped
            self.tell((min(number, count), count), what.partition(" of ")[0])
            self.turn.release()
            self.stop.wait(0.001)  # else nobody else gets the turn
            self.turn.acquire()
            yield item


def segment_film(model: AppModel, file: Path, folder: Path, limits: FilmLimits, reporter: Turns) -> dict[str, Any]:
    """Put a film through a model.

    Args:
        model: The model.
        file: The film.
        folder: Where the overlaid film is put, in a folder with a name that nobody guesses.
        limits: Frames, and pixels of a frame.
        reporter: Holds the turn while a frame is segmented.

    Returns:
        The path of the overlaid film, and what the page says of it.

    Raises:
        ValueError: If it can't be read or segmented, or is too long or too large: a line for the page, without folders.
        Stopped: If it was asked to.
    """
    try:
        _check(file, limits.pixels)
        with temporary_folder() as out, reporter.turn:
            settings = FilmSettings(max_frames=limits.frames)
            outputs = Outputs(write=["overlay", "json"], film=settings)
            (result,) = predict_images(model.predictor, [file], outputs, out=out, reporter=reporter)
            if result.failure is not None:
                raise ValueError(result.failure)
            assert result.stem is not None
            content = parse_json(read_text(result.stem.with_name(f"{result.stem.name}.json"), most=MOST_JSON))
            made = result.stem.with_name(f"{result.stem.name}.mp4")
            path = Path(shutil.move(made, Path(mkdtemp(dir=folder)) / made.name))
    except ValueError as error:
        raise ValueError(without_folder(str(error), file)) from error
    return {
        "path": str(path),
        "name": path.name,
        "model": model.name,
        "frames": content["frames"],
        "said": [without_folder(line, file) for line in content["said"]],
        "classes": sorted(([x["name"], x["share"]] for x in content["classes"]), key=lambda x: -x[1]),
    }


def _check(file: Path, most: int) -> None:
    """Refuse a film whose frames are too large, by what it says of itself."""
    with Film(file) as film:
        width, height = film.stream.width, film.stream.height
    if width * height > most:
        raise ValueError(f"{one_line(file)}: frames of {width} x {height} pixels, at most {most:,} are allowed here")
