"""What runs in the process of a model: opens it, and segments batches of decoded images."""

import contextlib
import os
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from semask.files.atomic import temporary_folder
from semask.files.reporter import Reporter
from semask.files.text import one_line, out_of_memory, reason
from semask.serving.helper import ignore_signals, serve_messages
from semask.serving.messages import Block, send

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from semask.prediction.array_predictor import ArrayPredictor
    from semask.prediction.predictor import Predictor

T = TypeVar("T")
KEPT = "256"
"""Kernels that oneDNN keeps, each for one size of a map. Its own 1024 take hundreds of MB more where images have many
sizes (docs/serve.md)."""


class Source(NamedTuple):
    """A model to open, and how."""

    source: str
    inference: dict[str, Any]
    device: str | None
    precision: Any
    trust: bool
    threads: int | None
    batch: int = 1
    """Images of one size that go through it at once, where it takes them in one piece."""


class Late(Exception):
    """The deadline passed between two tiles."""


class Until(Reporter):
    """Ends a loop over tiles when its time is over.

    Args:
        seconds: The time, from now on.
    """

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def track(self, items: Iterable[T], what: str, count: int) -> Iterable[T]:
        """Give items on until the time is over."""
        for item in items:
            if time.monotonic() > self.end:
                raise Late
            yield item


def model_main(connection: Connection, source: Source) -> None:
    """Open a model and segment until the server is gone; runs in a process of its own."""
    ignore_signals()
    if source.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(source.threads)
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KEPT)
    try:
        worker = Worker(source)
    except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
        from semask.extras import explained

        said = explained(error) if isinstance(error, ImportError) else None
        with contextlib.suppress(OSError):
            send(connection, {"failure": said or reason(error, longest=1000)})
        return
    serve_messages(connection, worker.description(), worker)


class Worker:
    """A model that is open.

    Args:
        source: Which, and how to open it.

    Raises:
        ValueError: If it can't be opened, or its images are in several files.
    """

    def __init__(self, source: Source) -> None:
        from semask.prediction.opening import open_predictor

        self.source = source
        self.files = files_of(source.source)
        self.version = digest_of(self.files)
        opened = open_predictor(
            source.source,
            inference=source.inference,
            device=source.device,
            precision=source.precision,
            trust=source.trust,
        )
        self.predictor: Predictor | ArrayPredictor = opened.predictor
        inference = self.predictor.inference
        if inference.mode == "whole" and "window_batch" not in source.inference:
            self.predictor.inference = replace(inference, window_batch=max(inference.window_batch, source.batch))
        self.precision = opened.choice
        if self.predictor.reading.band_files is not None:
            raise ValueError(f"{source.source}: takes images in several files, which a request does not have")
        self._tiled: Predictor | None = None
        self._try()

    def description(self) -> dict[str, Any]:
        """What the server has to know, as JSON."""
        predictor = self.predictor
        return {
            "version": self.version,
            "files": [str(path.absolute()) for path in self.files],
            "classes": predictor.classes.as_dict(),
            "reading": asdict(predictor.reading),
            "scaled": predictor.inference.scale is not None,
            "tiles": not getattr(predictor.model, "makes_labels", False),
            "precision": self.precision.precision,
            "remark": self.precision.remark,
        }

    def __call__(self, head: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, Any], Sequence[Block]]:
        """Segment images [H, W, C] of one size; the answer has a label map [H, W] for each, or says what is wrong."""
        import numpy as np

        shape = tuple(head["shape"])
        images = [np.frombuffer(part, head["dtype"]).reshape(shape) for part in parts]
        begin = time.perf_counter()
        try:
            labels = [self._tiles(images[0], head)] if head["tile"] else self._whole(images)
        except Late:
            return {"error": "late"}, []
        except Exception as error:  # a request must not end the model of the others
            if out_of_memory(error):
                return {"error": "memory"}, []
            known = isinstance(error, ValueError)
            log = None if known else "".join(traceback.format_exception(error))
            return {"error": "image" if known else "internal", "message": one_line(error, longest=1000), "log": log}, []
        seconds = time.perf_counter() - begin
        return {"seconds": seconds}, [np.ascontiguousarray(x).data.cast("B") for x in labels]

    def _whole(self, images: "list[NDArray[Any]]") -> "list[NDArray[np.uint8]]":
        """Segment images in one piece."""
        found = self.predictor(images if len(images) > 1 else images[0], confidence=False)
        return [x.label for x in (found if isinstance(found, list) else [found])]

    def _tiles(self, image: "NDArray[Any]", head: dict[str, Any]) -> "NDArray[np.uint8]":
        """Segment an image in tiles."""
        from semask.prediction.array_tiles import label_in_tiles

        with temporary_folder() as scratch:  # which removes those of processes that were killed
            return label_in_tiles(
                self._for_tiles(),
                image,
                tile=head["tile"],
                overlap=head["overlap"],
                scratch=scratch,
                reporter=Until(head["limit"]),
            )

    def _for_tiles(self) -> "Predictor":
        """The model as images in tiles go through it; an exported file is opened anew for it, once."""
        from semask.prediction.opening import open_predictor
        from semask.prediction.predictor import Predictor
        from semask.settings.inference import inference_of

        at_own_size = {"scale": None, "mode": "whole"}
        if self._tiled is None and isinstance(self.predictor, Predictor):
            inference = inference_of(self.predictor.inference, at_own_size)
            self._tiled = Predictor(self.predictor.model, inference)
        elif self._tiled is None:
            given = {
                name: x for name, x in self.source.inference.items() if name not in (*at_own_size, "crop", "stride")
            }
            opened = open_predictor(
                self.source.source, inference=given, tiles=True, device=self.source.device, trust=self.source.trust
            )
            assert isinstance(opened.predictor, Predictor)
            self._tiled = opened.predictor
        return self._tiled

    def _try(self) -> None:
        """Segment a gray image, so that a model that can't is not taken for one that can.

        Raises:
            ValueError: If it gives NaN, or its engine fails.
        """
        import numpy as np

        size = getattr(self.predictor.model, "size", None)
        height, width = size or (64, 64)
        self.predictor(np.full((height, width, self.predictor.reading.channels), 127, np.uint8), confidence=False)


def files_of(source: str) -> list[Path]:
    """The files of a model, those next to the first included.

    Raises:
        ValueError: If there is none.
    """
    from semask.engines.catalog import companions, is_exported

    if is_exported(source):
        path = Path(source)
        return [path, *companions(path)]
    from semask.checkpoints.sources import find_checkpoint

    return [find_checkpoint(source)]


def digest_of(files: Sequence[Path]) -> str:
    """Name the content of files; empty if one can't be read, which opening it tells."""
    import hashlib

    from semask.files.reading import sha256

    try:
        return hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()[:16]
    except OSError:
        return ""
