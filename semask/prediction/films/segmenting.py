"""The frames of a film, one after another, with their label maps: predicted, or read where a run before was stopped."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.films import Film, Frame, Unplayable
from semask.files.text import one_line
from semask.prediction.films.smoothing import Past
from semask.prediction.films.state import FilmState
from semask.settings.film import FilmSettings

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.packet import Packet

    from semask.prediction.array_predictor import ArrayPredictor
    from semask.prediction.predictor import Predictor

KEEP_EVERY = 64
"""Frames after which the smoothed probabilities are kept; a run that goes on predicts at most so many again."""


class Labeled(NamedTuple):
    """A frame and its label map [H, W]."""

    frame: Frame
    label: NDArray[np.uint8]


def selected(
    film: Film, settings: FilmSettings, sounds: "tuple[AudioStream, ...]" = ()
) -> "Iterator[Frame | Packet[Any]]":
    """Give the frames of a film that are to be segmented, and the packets of its sound as they come.

    Raises:
        Unplayable: If it can't be decoded, has more frames than it may have, or none in the time that is asked for.
    """
    first = None
    for frame in film.frames(sounds):
        if not isinstance(frame, Frame):
            yield frame
            continue
        seconds = film.seconds(frame.time)
        if seconds < settings.start:
            continue
        if settings.end is not None and seconds >= settings.end:
            break
        first = frame.index if first is None else first
        if settings.max_frames is not None and frame.index - first >= settings.max_frames:
            raise Unplayable(
                f"{one_line(film.path)}: has more than {settings.max_frames:,} frames, the limit (max_frames): "
                "cut it shorter"
            )
        if (frame.index - first) % settings.every == 0:
            yield frame
    if first is None:
        raise Unplayable(f"{one_line(film.path)}: has no frame after second {settings.start:g}: set start lower")


def segment(
    predictor: "Predictor | ArrayPredictor", film: Film, state: FilmState, settings: FilmSettings, *, confidence: bool
) -> Iterator[Labeled]:
    """Segment a film, a few frames at a time, and keep the label maps.

    Frames go through the model in the same groups whether a run was stopped or not, so that nothing depends on it.

    Args:
        predictor: Model, and how images are put through it.
        film: The film, at its start.
        state: What is done, and where label maps are kept.
        settings: Which frames, and how they are smoothed.
        confidence: Whether to keep the probability of the chosen class.

    Raises:
        Unplayable: If the film can't be decoded or predicted.
        ValueError: If a label map can't be written.
    """
    smooth = settings.smoothing > 0
    size = 1 if smooth else predictor.inference.window_batch
    done, arrays = state.past() if smooth else (state.done // size * size, {})
    past = Past(settings.smoothing, settings.smoothing_change, arrays) if smooth else None
    group: list[Frame] = []
    for count, frame in enumerate(selected(film, settings), start=1):
        assert isinstance(frame, Frame)
        if count <= done:
            yield Labeled(frame, state.label(frame.index))
        else:
            group.append(frame)
        if len(group) == size:
            yield from _predicted(predictor, group, past, state, confidence=confidence)
            group = []
            if past is not None and count % KEEP_EVERY == 0:
                state.put_past(count, past)
    if group:
        yield from _predicted(predictor, group, past, state, confidence=confidence)


def _predicted(
    predictor: "Predictor | ArrayPredictor",
    frames: list[Frame],
    past: Past | None,
    state: FilmState,
    *,
    confidence: bool,
) -> Iterator[Labeled]:
    """Segment frames together, and keep their label maps."""
    asked: dict[str, Any] = {"confidence": confidence and past is None, "probabilities": past is not None}
    try:
        predictions = predictor([Image.fromarray(frame.image) for frame in frames], **asked)
    except ValueError as error:
        raise Unplayable(f"{one_line(state.film)}: {error}") from error
    for frame, prediction in zip(frames, predictions, strict=True):
        label, sure = prediction.label, prediction.confidence
        if past is not None:
            assert prediction.probabilities is not None
            label, sure = past.add(prediction.probabilities, frame.image)
        state.put(frame.index, label, sure if confidence else None)
        yield Labeled(frame, label)
