"""A film to its outputs: label maps, confidence, an overlay, numbers."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semask.data.classes import IGNORE_INDEX
from semask.data.films import Film, Unplayable
from semask.extras import require
from semask.files.atomic import write_whole, written_whole
from semask.files.reporter import Reporter
from semask.files.text import one_line
from semask.prediction.areas import Areas
from semask.prediction.files import Unreadable
from semask.prediction.films.overlay import Overlay, write_overlay
from semask.prediction.films.segmenting import Labeled, segment
from semask.prediction.films.smoothing import STILL, Flicker
from semask.prediction.films.state import HEADER, TABLE, FilmState, move, require_ours
from semask.settings.film import FilmSettings

if TYPE_CHECKING:
    from semask.prediction.array_predictor import ArrayPredictor
    from semask.prediction.predictor import Predictor

MISSING = 0.02
"""Share of the promised frames that may be missing before a film is said to be incomplete; a few are counted twice."""


@dataclass(frozen=True)
class FilmDone:
    """What came of a film.

    Attributes:
        frames: Frames that were segmented.
        size: Height and width of a frame.
        areas: Pixels of each class in all frames.
        flicker: Share of the pixels that stand still whose class changes from frame to frame; None if none does.
        still: Pixels that stand still, of all pairs of consecutive frames.
        said: What a person should know, one line each: frames that could not be decoded, sound that was left out.
    """

    frames: int
    size: tuple[int, int]
    areas: Areas
    flicker: float | None
    still: int
    said: tuple[str, ...] = ()


def predict_film(
    predictor: "Predictor | ArrayPredictor",
    path: Path,
    stem: Path,
    *,
    kinds: Sequence[str],
    settings: FilmSettings,
    reporter: Reporter | None = None,
) -> FilmDone:
    """Segment a film, and write what is asked for; a run that was stopped goes on where it was.

    Args:
        predictor: Model, and how images are put through it.
        path: The film.
        stem: Path of the outputs without ending.
        kinds: Names of the outputs: mask, confidence, overlay, json.
        settings: Which frames, and how.
        reporter: Is told how far it is; None for nobody.

    Raises:
        Unreadable: If the film can't be read or segmented; nothing is left then, and what was there before stays.
        ValueError: If PyAV is missing, or an output can't be written.
    """
    require("av")
    reporter = reporter or Reporter()
    folders = {"confidence": stem.with_name(f"{stem.name}_confidence"), "mask": stem}
    for kind in ("confidence", "mask"):
        if kind in kinds:
            require_ours(folders[kind])
    confidence = "confidence" in kinds
    identity = identity_of(predictor, path) | {"settings": asdict(settings), "confidence": confidence}
    with (
        _readable(path),
        FilmState(
            stem.with_name(f".{stem.name}.film"), path, identity, predictor.classes, confidence=confidence
        ) as state,
    ):
        try:
            done, shares = _segmented(predictor, path, state, settings, confidence=confidence, reporter=reporter)
            if "overlay" in kinds:
                draw = Overlay(predictor.classes, shares, settings)
                target = stem.with_name(f"{stem.name}.mp4")
                said = write_overlay(target, path, state, draw, settings, done.frames, reporter)
                done = FilmDone(**{**vars(done), "said": (*done.said, *said)})
        except Unplayable:
            state.remove()
            raise
        if "json" in kinds:
            report = describe(done, path, settings, predictor.classes.names)
            write_whole(stem.with_name(f"{stem.name}.json"), json.dumps(report, indent=1) + "\n")
        for folder, kind in ((state.confidence, "confidence"), (state.labels, "mask")):
            if kind in kinds and folder.is_dir():
                move(folder, folders[kind])
        state.remove()
    return done


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say of a film that is at fault what is said of such an image."""
    try:
        yield
    except Unplayable as error:
        raise Unreadable(str(error)) from error


def _segmented(
    predictor: "Predictor | ArrayPredictor",
    path: Path,
    state: FilmState,
    settings: FilmSettings,
    *,
    confidence: bool,
    reporter: Reporter,
) -> "tuple[FilmDone, np.ndarray[Any, np.dtype[np.float64]]]":
    """Segment all frames; returns what came of it, and the share of each class [256]."""
    name, flicker, frames, size = one_line(path.name), Flicker(), 0, (0, 0)
    counts = np.zeros(IGNORE_INDEX + 1, dtype=np.int64)
    with (
        Film(path) as film,
        written_whole(state.labels / TABLE) as temporary,
        open(temporary, "w", encoding="utf-8", newline="\n") as table,
    ):
        expected = expected_frames(film, settings)
        if state.done:
            reporter.note(f"{name}: goes on after {state.done:,} of about {expected:,} frames")
        table.write(f"{HEADER}\n")
        labeled: Iterator[Labeled] = segment(predictor, film, state, settings, confidence=confidence)
        for frame, label in reporter.track(labeled, f"frames of {name}", expected):
            frames, size = frames + 1, (label.shape[0], label.shape[1])
            counts += np.bincount(label.ravel(), minlength=len(counts))
            flicker.add(frame.image, label)
            table.write(f"{frame.index},{film.seconds(frame.time):.6f}\n")
        said = faults_of(film, whole=settings.end is None)
    if confidence:
        write_whole(state.confidence / TABLE, (state.labels / TABLE).read_bytes())
    known = len(predictor.classes)
    areas = Areas(tuple(int(x) for x in counts[:known]), int(counts[known:].sum()))
    return FilmDone(frames, size, areas, flicker.share, flicker.still, said), counts / max(int(counts.sum()), 1)


def expected_frames(film: Film, settings: FilmSettings) -> int:
    """About how many frames of a film are segmented, by what the film says of itself."""
    seconds = float(film.expected / film.rate)
    end = seconds if settings.end is None else min(seconds, settings.end)
    return max(int((end - settings.start) * film.rate) // settings.every, 1)


def faults_of(film: Film, *, whole: bool) -> tuple[str, ...]:
    """Say what could not be decoded of a film; `whole` if it was read to its end."""
    faults, name = film.faults, one_line(film.path)
    said = []
    if faults.errors:
        said.append(f"{name}: damaged, it could not be decoded at {faults.errors:,} places: frames are missing there")
    if faults.damaged:
        said.append(f"{name}: damaged, {faults.damaged:,} frames were decoded in part")
    if whole and not said and film.promised - faults.frames > max(2, MISSING * film.promised):
        said.append(
            f"{name}: has {faults.frames:,} of the {film.promised:,} frames that it should have: is it complete?"
        )
    return tuple(said)


def identity_of(predictor: "Predictor | ArrayPredictor", path: Path) -> dict[str, Any]:
    """What label maps depend on, as JSON: the film, the weights, the settings and the versions."""
    if hasattr(predictor.model, "state_dict"):
        from semask.prediction.predictor import Predictor
        from semask.prediction.tiles import identity

        assert isinstance(predictor, Predictor)
        return identity(predictor, path)
    files = [path, *sorted(predictor.model.path.parent.glob(f"{predictor.model.path.stem}.*"))]
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return {"files": [list(stat) for stat in stats], "inference": asdict(predictor.inference)}


def describe(done: FilmDone, path: Path, settings: FilmSettings, names: Sequence[str]) -> dict[str, Any]:
    """Numbers of a film, as NAME.json has them."""
    return {
        "film": path.as_posix(),
        "height": done.size[0],
        "width": done.size[1],
        "frames": done.frames,
        "settings": asdict(settings),
        "flicker": {"share": done.flicker, "still_pixels": done.still, "still_up_to": STILL},
        "said": list(done.said),
        "ignored_pixels": done.areas.ignored,
        "classes": [
            {"id": index, "name": name, "pixels": done.areas.pixels[index], "share": done.areas.share(index)}
            for index, name in enumerate(names)
        ],
    }
