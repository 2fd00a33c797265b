"""The way of a request: body, decoding, queue and model, encoding; each step within the time that is left."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from semask.serving.asking import Asked, tile_of
from semask.serving.batching import Job
from semask.serving.bodies import Budget, Share, read_body, share_of
from semask.serving.formats import FORMS
from semask.serving.messages import Block, Message
from semask.serving.metrics import Metrics
from semask.serving.models import Model
from semask.serving.pool import Pool
from semask.serving.refusal import Refusal, late
from semask.serving.version import Label, Version
from semask.settings.serving import Serving

LEAST_WORK = 65_536
"""Pixels that an image counts for at least, in the measured rate: a small one takes time too."""
BYTES = {"uint8": 1, "float32": 4}
"""Types of decoded images, and the bytes of a sample."""
MOST_ANSWER = 2**31
"""Bytes of an answer."""
T = TypeVar("T")


class Timing:
    """Seconds of each stage of a request.

    Args:
        metrics: Where they are shown.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.stages: dict[str, float] = {}
        self.begin = time.monotonic()

    def done(self, stage: str, seconds: float | None = None) -> None:
        """Note that a stage is done; without seconds, since the last one."""
        now = time.monotonic()
        self.stages[stage] = now - self.begin if seconds is None else seconds
        self.begin = now
        self.metrics.stages.labels(stage).observe(self.stages[stage])

    def header(self) -> str:
        """As the header Server-Timing says it, in milliseconds."""
        return ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in self.stages.items())


class Segmented(NamedTuple):
    """What a model says of an image."""

    version: Version
    size: tuple[int, int]
    """Height and width."""
    parts: list[Block]
    """The label map [H, W], and where the image has no data, if it has such places."""
    job: Job


class Predicting:
    """Answers requests with what a model says of their images.

    Args:
        settings: Limits.
        pool: What decodes and encodes.
        metrics: What is counted.
    """

    def __init__(self, settings: Serving, pool: Pool, metrics: Metrics) -> None:
        self.settings, self.pool, self.metrics = settings, pool, metrics
        self.budget = Budget(settings.memory_megabytes * 1_000_000, metrics)

    async def __call__(self, request: Request, model: Model, asked: Asked, request_id: str) -> Response:
        """Answer a request.

        Raises:
            Refusal: If it can't be answered.
        """
        end = time.monotonic() + asked.seconds
        timing = Timing(self.metrics)
        batcher = model.version.batcher
        assert batcher is not None
        request.state.facts = {"model": model.name, "format": asked.form, "stages": timing.stages}
        batcher.require_room(end)  # before the body is read
        share = request.state.held.enter_context(share_of(self.budget))  # until the client has taken the answer
        body = await read_body(request, share, self.settings, end=end, seconds=asked.seconds)
        timing.done("body")
        request.state.facts["bytes"] = len(body)
        work = self._work(request, model, body, share, asked, end, timing, request_id)
        del body
        return await while_connected(request, work)

    async def _work(
        self,
        request: Request,
        model: Model,
        body: bytes,
        share: Share,
        asked: Asked,
        end: float,
        timing: Timing,
        request_id: str,
    ) -> Response:
        found = await self.segment(model, body, share, asked, end, timing)
        del body
        version, job = found.version, found.job
        about = {
            "model": model.name,
            "version": version.about["version"],
            "request_id": request_id,
            "tile": getattr(job.key, "tile", None),
            "batch": job.batch,
            "seconds": {stage: round(seconds, 6) for stage, seconds in timing.stages.items()},
        }
        answer = await self.encode(found, about, asked, end, timing)
        request.state.facts |= {"height": found.size[0], "width": found.size[1], "batch": job.batch}
        response = Response(answer, media_type=FORMS[asked.form].media)
        response.headers["Server-Timing"] = timing.header()
        response.headers["X-Model-Version"] = version.about["version"]
        return response

    async def segment(
        self, model: Model, body: bytes, share: Share, asked: Asked, end: float, timing: Timing
    ) -> Segmented:
        """Decode an image and segment it.

        Args:
            model: The model.
            body: The file; its bytes are in `share` already.
            share: Memory that it takes.
            asked: What is asked for.
            end: When time is over, by `time.monotonic`.
            timing: Gets the seconds of each stage.

        Raises:
            Refusal: If it can't be done.
        """
        version, size = model.version, len(body)  # the same to the end, whatever is loaded meanwhile
        reading = version.about["reading"]
        batcher = version.batcher
        assert batcher is not None
        with batcher.on_the_way(end):  # again: others came while the body did
            task: dict[str, Any] = {"task": "decode", "reading": reading}
            decoded = await self.ask(task, [body], end, asked.seconds, 4 * self._most_bytes(reading))
        del body
        share.shrink(size)
        shape, dtype = checked(decoded, reading["channels"], self.settings.max_pixels)
        share.grow(sum(map(len, decoded.parts)))
        timing.done("decode")
        job = self._job(version, shape, dtype, decoded.parts[0], asked, end)
        found: Label = await batcher.submit(job)
        timing.done("queue", job.waited)
        timing.done("compute", found.seconds)
        return Segmented(version, (shape[0], shape[1]), [found.label, *decoded.parts[1:]], job)

    async def encode(self, found: Segmented, about: dict[str, Any], asked: Asked, end: float, timing: Timing) -> bytes:
        """Make the answer of what was found, in the form that is asked for.

        Args:
            found: The label map.
            about: What else the form says.
            asked: The form.
            end: When time is over, by `time.monotonic`.
            timing: Gets the seconds.

        Raises:
            Refusal: If it can't be done.
        """
        classes = found.version.about["classes"]
        task = {"task": "encode", "format": asked.form, "size": found.size, "classes": classes, "about": about}
        answer = await self.ask(task, found.parts, end, asked.seconds, MOST_ANSWER)
        timing.done("encode")
        return answer.parts[0]

    def _job(
        self, version: Version, shape: tuple[int, int, int], dtype: str, pixels: bytes, asked: Asked, end: float
    ) -> Job:
        scaled, size = bool(version.about["scaled"]), (shape[0], shape[1])
        tile = tile_of(asked.tile, size, scaled=scaled, able=bool(version.about["tiles"]), settings=self.settings)
        work = size[0] * size[1] // (4 if scaled and tile is None else 1) + LEAST_WORK
        return Job(version.key(shape, dtype, tile), pixels, work, end, asked.seconds)

    async def ask(self, task: dict[str, Any], parts: Sequence[Block], end: float, seconds: float, most: int) -> Message:
        """Let a process with limits do something.

        Args:
            task: What to do.
            parts: Its blocks of bytes.
            end: When time is over, by `time.monotonic`.
            seconds: Seconds that there were, for the message.
            most: Bytes that a block of the answer may have.

        Raises:
            Refusal: If it can't be done.
        """
        try:
            return await self.pool.ask(task, parts, end_in=end - time.monotonic(), most=most)
        except TimeoutError:
            raise late(seconds) from None

    def _most_bytes(self, reading: dict[str, Any]) -> int:
        return self.settings.max_pixels * int(reading["channels"])


def checked(decoded: Message, channels: int, most: int) -> tuple[tuple[int, int, int], str]:
    """Shape and type of a decoded image, as far as they can be.

    Raises:
        Refusal: 422 if what the process says can't be; it may have been taken over by an image.
    """
    shape, dtype, parts = decoded.head.get("shape"), decoded.head.get("dtype"), decoded.parts
    if not (isinstance(shape, list) and len(shape) == 3 and all(isinstance(x, int) and x > 0 for x in shape)):
        shape = [0, 0, 0]
    height, width, found = shape
    if height > 0 and dtype in BYTES and 1 <= len(parts) <= 2:
        pixels = height * width
        sizes = [pixels * found * BYTES[dtype], -(-pixels // 8)]
        if found == channels and pixels <= most and [len(part) for part in parts] == sizes[: len(parts)]:
            return (height, width, found), dtype
    raise Refusal(422, "the image is damaged", code="unreadable_image")


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Do something for a client, and leave off when it goes away.

    Raises:
        Refusal: 499 if it goes away.
    """
    doing = asyncio.ensure_future(work)
    gone = asyncio.create_task(disconnected(request))
    try:
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise Refusal(499, "the client went away")
        return await doing
    finally:
        doing.cancel()
        gone.cancel()


async def disconnected(request: Request) -> None:
    """Wait until the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
