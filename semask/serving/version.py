"""A model as it was loaded: its process, and the queue in front of it. A reload makes another one beside it."""

import asyncio
import logging
import time
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from semask.serving.batching import Batcher, Job
from semask.serving.helper import Died, Failed, Helper, TooSlow
from semask.serving.logs import log
from semask.serving.messages import Message
from semask.serving.metrics import Metrics
from semask.serving.model_process import Source, model_main
from semask.serving.refusal import Refusal, late
from semask.settings.serving import Serving

START_SECONDS = 600.0
"""Seconds in which a model has to be open; a published one may be downloaded first."""
STARTS = 3
"""How often a process is started that dies before it is ready."""
PAUSE = 5.0
"""Seconds until a process that can't begin is started again."""


FAILED = Refusal(500, "the model failed; the log of the server says why")


class Key(NamedTuple):
    """Images with the same go through the model together."""

    shape: tuple[int, int, int]
    dtype: str
    tile: int | None


class Label(NamedTuple):
    """What came of an image."""

    label: bytes
    """The label map [H, W]."""
    seconds: float
    """Seconds that the model took for the batch."""


class Version:
    """A model as it was loaded.

    Args:
        name: What requests call the model.
        source: Which model, and how to open it.
        settings: Limits.
        metrics: What is counted.

    Attributes:
        about: What the process said of the model.
        loaded: When it was loaded, in seconds since 1970.
    """

    def __init__(self, name: str, source: Source, settings: Serving, metrics: Metrics) -> None:
        self.name, self.settings, self.metrics = name, settings, metrics
        self.helper = Helper(model_main, (source,), name=f"model-{name}")
        self.about: dict[str, Any] = {}
        self.loaded = 0.0
        self.ready = False
        self.tried = -PAUSE
        self.batcher: Batcher | None = None
        self.mending: asyncio.Task[None] | None = None
        self.restarting = asyncio.Lock()

    async def load(self) -> None:
        """Open the model.

        Raises:
            ValueError: If it can't be opened.
        """
        try:
            self.about = await self.helper.start(limit=START_SECONDS)
        except (Died, TooSlow) as error:
            self.helper.close()
            raise ValueError(f"{self.name}: the process of the model {error}: is there enough memory?") from error
        except (Failed, asyncio.CancelledError):
            self.helper.close()
            raise
        self.loaded, self.ready = time.time(), True
        settings = self.settings
        self.batcher = Batcher(
            self._run,
            most=settings.max_batch,
            wait=settings.batch_wait,
            room=settings.queue,
            alone=lambda key: isinstance(key, Key) and key.tile is not None,
        )
        self.mending = asyncio.create_task(self._mend())

    async def close(self) -> None:
        """Finish what waits, and end the process."""
        if self.mending is not None:
            self.mending.cancel()
        if self.batcher is not None:
            await self.batcher.close()
        self.helper.close()

    def end(self) -> None:
        """End the process now; what waits for it is lost."""
        if self.mending is not None:
            self.mending.cancel()
        if self.batcher is not None:
            self.batcher.task.cancel()
        self.helper.close()

    async def _mend(self) -> None:
        """Start the process again where it dies while nothing is asked of it."""
        while True:
            await asyncio.sleep(1.0)
            assert self.batcher is not None
            if not self.helper.alive and not self.batcher.running:
                self.ready = False
                self.batcher.come.set()
                if not self.batcher.waiting:
                    await self._restart()

    async def _restart(self) -> bool:
        """Start the process again; says whether it runs. A model that can't be opened is not tried again at once."""
        async with self.restarting:
            return (self.ready and self.helper.alive) or await self._start_again()

    async def _start_again(self) -> bool:
        self.ready = False
        if time.monotonic() - self.tried < PAUSE:
            return False
        for _ in range(STARTS):
            self.metrics.restarts.labels("model").inc()
            log("model process restarts", model=self.name, level=logging.WARNING)
            try:
                about = await self.helper.start(limit=START_SECONDS)
            except (Died, TooSlow, Failed) as error:
                log("model process does not start", model=self.name, level=logging.ERROR, reason=str(error))
                if isinstance(error, Failed):
                    break
                continue
            if about["version"] != self.about["version"]:
                log("model was replaced", model=self.name, level=logging.WARNING, version=about["version"])
            self.about, self.ready = about, True
            return True
        self.tried = time.monotonic()
        return False

    async def _run(self, jobs: Sequence[Job]) -> None:
        """Compute jobs of one key together; if the process dies, each once more, alone."""
        self.metrics.batches.labels(self.name).observe(len(jobs))
        try:
            again = await self._attempt(jobs, last=False)
            for job in again:
                if not job.answer.done():
                    await self._attempt([job], last=True)
        except Exception as error:  # a fault of ours: the queue goes on
            log("batch failed", model=self.name, level=logging.ERROR, error=error)
            settle(jobs, FAILED)

    async def _attempt(self, jobs: Sequence[Job], *, last: bool) -> Sequence[Job]:
        """Compute jobs together; returns those to be computed again."""
        gone = Refusal(503, "the model is not available: try again later", headers={"Retry-After": str(int(PAUSE))})
        if not (self.ready and self.helper.alive) and not await self._restart():
            settle(jobs, gone)
            return []
        try:
            message = await self._ask(jobs)
        except (Died, TooSlow) as error:
            self.ready = False
            log("model process died", model=self.name, level=logging.ERROR, reason=str(error), images=len(jobs))
            await self._restart()
            if last or isinstance(error, TooSlow):
                settle(jobs, gone)
                return []
            return jobs
        failure = self._failure(message.head, jobs[0])
        if failure is None:
            for job, part in zip(jobs, message.parts, strict=True):
                if not job.answer.done():
                    job.answer.set_result(Label(part, float(message.head["seconds"])))
        elif len(jobs) > 1 and not last:
            return jobs  # one of them may be at fault
        else:
            settle(jobs, failure)
        return []

    async def _ask(self, jobs: Sequence[Job]) -> Message:
        key, now = jobs[0].key, time.monotonic()
        assert isinstance(key, Key)
        head = {
            "shape": key.shape,
            "dtype": key.dtype,
            "tile": key.tile,
            "overlap": self.settings.overlap,
            "limit": max(job.end for job in jobs) - now,
        }
        size = key.shape[0] * key.shape[1]
        message = await self.helper.ask(
            head, [job.payload for job in jobs], limit=self.settings.compute_seconds, most=size
        )
        if "error" not in message.head and [len(part) for part in message.parts] != [size] * len(jobs):
            self.helper.kill()
            raise Died("gave something else than label maps")
        return message

    def _failure(self, head: dict[str, Any], job: Job) -> Refusal | None:
        """What a client is told of an error of the model."""
        kind = head.get("error")
        if kind is None:
            return None
        if kind == "late":
            return late(job.seconds)
        said = str(head.get("message", ""))
        log(
            "image not segmented",
            model=self.name,
            level=logging.WARNING,
            kind=kind,
            reason=said,
            details=head.get("log"),
        )
        if kind == "memory":
            return Refusal(413, "the model has not enough memory for this image: make it smaller, or ask for tiles")
        if kind == "image":
            return Refusal(422, f"the model can't segment this image: {self.without_paths(said)}", code="not_segmented")
        return FAILED

    def without_paths(self, text: str) -> str:
        """A message without the paths of this machine that it may name."""
        files = [*self.about.get("files", []), str(self.helper.arguments[0].source)]
        for file in sorted(files, key=len, reverse=True):
            text = text.replace(file, self.name)
        return " ".join(word if not word.lstrip("('\"").startswith("/") else "..." for word in text.split())

    def key(self, shape: Sequence[int], dtype: str, tile: int | None) -> Hashable:
        """What images have in common that go through the model together."""
        height, width, channels = shape
        return Key((height, width, channels), dtype, tile)


def settle(jobs: Sequence[Job], failure: Refusal) -> None:
    """Answer jobs with an error."""
    for job in jobs:
        if not job.answer.done():
            job.answer.set_exception(failure)
