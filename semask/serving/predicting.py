"""The way of a request: body, decoding, queue and model, encoding; each step within the time that is left."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from semask.serving.asking import Asked, tile_of
from semask.serving.batching import Job
from semask.serving.bodies import Budget, Share, read_body, share_of
from semask.serving.formats import FORMS
from semask.serving.messages import Message
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
        batcher.require_room(end)  # before the body is read
        with share_of(self.budget) as share:
            body = await read_body(request, share, self.settings, end=end, seconds=asked.seconds)
            timing.done("body")
            facts: dict[str, Any] = {"model": model.name, "format": asked.form, "stages": timing.stages}
            request.state.facts = facts | {"bytes": len(body)}
            work = asyncio.create_task(self._work(request, model, body, share, asked, end, timing, request_id))
            del body
            gone = asyncio.create_task(disconnected(request))
            try:
                await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    raise Refusal(400, "the client went away")
                return await work
            finally:
                work.cancel()
                gone.cancel()

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
        version, size = model.version, len(body)  # the same to the end, whatever is loaded meanwhile
        reading = version.about["reading"]
        batcher = version.batcher
        assert batcher is not None
        with batcher.on_the_way(end):  # again: others came while the body did
            task: dict[str, Any] = {"task": "decode", "reading": reading}
            decoded = await self._codec(task, [body], asked, end, 4 * self._most_bytes(reading))
        del body
        share.shrink(size)
        shape, dtype = checked(decoded, reading["channels"], self.settings.max_pixels)
        share.grow(sum(map(len, decoded.parts)))
        timing.done("decode")
        job = self._job(version, shape, dtype, decoded.parts[0], asked, end)
        found: Label = await batcher.submit(job)
        timing.done("queue", job.waited)
        timing.done("compute", found.seconds)
        about = {
            "model": model.name,
            "version": version.about["version"],
            "request_id": request_id,
            "tile": getattr(job.key, "tile", None),
            "batch": job.batch,
            "seconds": {stage: round(seconds, 6) for stage, seconds in timing.stages.items()},
        }
        classes = version.about["classes"]
        task = {"task": "encode", "format": asked.form, "size": shape[:2], "classes": classes, "about": about}
        parts = [found.label, *decoded.parts[1:]]
        answer = await self._codec(task, parts, asked, end, MOST_ANSWER)
        timing.done("encode")
        request.state.facts |= {"height": shape[0], "width": shape[1], "batch": job.batch}
        response = Response(answer.parts[0], media_type=FORMS[asked.form].media)
        response.headers["Server-Timing"] = timing.header()
        response.headers["X-Model-Version"] = version.about["version"]
        return response

    def _job(
        self, version: Version, shape: tuple[int, int, int], dtype: str, pixels: bytes, asked: Asked, end: float
    ) -> Job:
        scaled, size = bool(version.about["scaled"]), (shape[0], shape[1])
        tile = tile_of(asked.tile, size, scaled=scaled, able=bool(version.about["tiles"]), settings=self.settings)
        work = size[0] * size[1] // (4 if scaled and tile is None else 1) + LEAST_WORK
        return Job(version.key(shape, dtype, tile), pixels, work, end, asked.seconds)

    async def _codec(
        self, task: dict[str, Any], parts: Sequence[bytes], asked: Asked, end: float, most: int
    ) -> Message:
        try:
            return await self.pool.ask(task, parts, end_in=end - time.monotonic(), most=most)
        except TimeoutError:
            raise late(asked.seconds) from None

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


async def disconnected(request: Request) -> None:
    """Wait until the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
