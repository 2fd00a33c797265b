"""What is done of a film, in a hidden folder next to its outputs: so a run that was killed goes on."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from semask.data.classes import Classes
from semask.data.images import encoded, read_mask
from semask.files.atomic import write_whole, written_whole
from semask.files.text import one_line, reason
from semask.prediction.claims import claim, remove
from semask.prediction.pictures import confidence_map, index_mask

if TYPE_CHECKING:
    from semask.prediction.films.smoothing import Past

TABLE = "frames.csv"
"""In a folder of label maps: number and second of each frame. It tells that the folder is ours."""
HEADER = "frame,seconds"


class FilmState:
    """Label maps of the frames that are done, and what the next frame needs of those before.

    A context, in which no other run can use the folder.

    Args:
        folder: Where; it is emptied if what it holds belongs to something else.
        film: The film, for messages.
        identity: What the label maps belong to, as JSON.
        classes: Names and colors of the classes.
        confidence: Whether the probability of the chosen class is kept too.

    Attributes:
        done: Frames that are done, from the first that is to be segmented.

    Raises:
        ValueError: If the folder can't be written, or another run is using it.
    """

    def __init__(
        self, folder: Path, film: Path, identity: dict[str, Any], classes: Classes, *, confidence: bool
    ) -> None:
        self.folder, self.film, self.classes = folder, film, classes
        self.lock = claim(folder)
        self.labels, self.confidence = folder / "labels", folder / "confidence"
        text, note = json.dumps(identity, indent=1), folder / "film.json"
        if not (note.is_file() and note.read_text(encoding="utf-8") == text):
            for entry in folder.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                elif entry.name != "lock":
                    entry.unlink()
            write_whole(note, text)
        folders = [self.labels, *([self.confidence] if confidence else [])]
        # A kill while results are moved to their places leaves one folder here without the other: begin anew.
        self.done = min(sum(1 for _ in folder.glob("*.png")) for folder in folders)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def put(self, frame: int, label: NDArray[np.uint8], sure: NDArray[np.float32] | None) -> None:
        """Write the label map [H, W] of a frame, last, and its confidence before.

        Raises:
            ValueError: If it can't be written.
        """
        if sure is not None:
            write_whole(self.confidence / name_of(frame), encoded(confidence_map(sure), "PNG"))
        write_whole(self.labels / name_of(frame), encoded(index_mask(label, self.classes), "PNG"))

    def label(self, frame: int) -> NDArray[np.uint8]:
        """Read the label map [H, W] of a frame."""
        label: NDArray[np.uint8] = read_mask(self.labels / name_of(frame)).astype(np.uint8)
        return label

    def put_past(self, frames: int, past: "Past") -> None:
        """Keep what the frame after the first `frames` needs of those before; the one kept before is not needed."""
        from safetensors.numpy import save_file

        with written_whole(self._past(frames)) as temporary:
            save_file(past.arrays(), temporary)
        for file in self.folder.glob("past-*.safetensors"):
            if file != self._past(frames):
                file.unlink()

    def past(self) -> "tuple[int, dict[str, NDArray[Any]]]":
        """How many frames lie before the past that was kept, and its arrays; 0 and nothing if there is none."""
        from safetensors.numpy import load_file

        found = max(
            (int(file.stem.removeprefix("past-")) for file in self.folder.glob("past-*.safetensors")), default=0
        )
        if found == 0 or found > self.done:
            return 0, {}
        return found, load_file(self._past(found))

    def remove(self) -> None:
        """Delete the folder."""
        remove(self.folder, self.lock)

    def _past(self, frames: int) -> Path:
        return self.folder / f"past-{frames}.safetensors"


def name_of(frame: int) -> str:
    """Name of the label map of a frame."""
    return f"{frame:07d}.png"


def require_ours(target: Path) -> None:
    """Refuse to replace a folder that a run of ours did not write.

    Raises:
        ValueError: If it is something else.
    """
    if not target.exists():
        return
    if target.is_dir() and (next(target.iterdir(), None) is None or _is_ours(target)):
        return
    raise ValueError(f"{one_line(target)}: is there already, and not a folder of label maps: choose another --out")


def _is_ours(target: Path) -> bool:
    others = any(entry.suffix != ".png" and entry.name != TABLE for entry in target.iterdir())
    return (target / TABLE).is_file() and not others


def move(folder: Path, target: Path) -> None:
    """Put a finished folder in its place; an earlier one of ours is replaced.

    Raises:
        ValueError: If it can't be moved.
    """
    before = folder.with_name(f"{folder.name}-before")
    try:
        shutil.rmtree(before, ignore_errors=True)
        if target.exists():
            target.rename(before)
        folder.rename(target)
        shutil.rmtree(before, ignore_errors=True)
    except OSError as error:
        raise ValueError(f"{one_line(target)}: could not be written ({reason(error)}): choose another --out") from error
