"""How films are segmented: settings of `semask predict` that images have no use for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from semask.files.schema import Probability, Range, from_plain, require_fields

_Seconds = Annotated[float, Range(0, 1e7)]


@dataclass(frozen=True)
class FilmSettings:
    """How films are segmented.

    Attributes:
        every: Of a film, segment every n-th frame only; the overlay has only these, each at its own time.
        start: Second of a film at which to begin.
        end: Second of a film before which to stop; null for its end.
        opacity: How much the colors cover a film in its overlay, from 0 (film only) to 1 (colors only).
        legend: Whether the overlay of a film has a legend at its right.
        sound: Whether the overlay of a film keeps the sound.
        smoothing: Share of the past in the class probabilities of a frame of a film, against flicker; 0 is off.
        smoothing_change: The past counts only where no color of a pixel has changed by more than this since the frame
            before, of 255; 255: everywhere.
        max_frames: Refuse films of more frames; null for films of any length.

    Raises:
        ValueError: If a setting is out of its range.
    """

    every: Annotated[int, Range(1, 100_000)] = 1
    start: _Seconds = 0.0
    end: _Seconds | None = None
    opacity: Probability = 0.55
    legend: bool = True
    sound: bool = True
    smoothing: Annotated[float, Range(0, 0.99)] = 0.0
    smoothing_change: Annotated[int, Range(0, 255)] = 16
    max_frames: Annotated[int, Range(1, 10**9)] | None = None

    def __post_init__(self) -> None:
        require_fields(self, "film")
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end is {self.end:g}, not after start, {self.start:g}: give a later second")


FilmGiven = FilmSettings | Mapping[str, Any] | None
"""What is asked for: all settings, some fields of `FilmSettings`, or the defaults (None)."""
FilmOptions = Annotated[dict[str, Any], FilmSettings]
"""Fields of `FilmSettings` as options of a command; those that are not given are not in it."""


def film_settings(given: FilmGiven) -> FilmSettings:
    """Settings to use.

    Raises:
        ValueError: If a setting is unknown or out of its range.

    >>> film_settings({"every": 5}).every, film_settings(None).smoothing
    (5, 0.0)
    """
    if isinstance(given, FilmSettings):
        return given
    return FilmSettings(**from_plain(FilmSettings, dict(given or {}), "film"))
