"""The processes that decode and encode: as many at work as there are, and a new one for each that dies."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

from semask.serving.bodies import MEGABYTE
from semask.serving.codec import Limits, codec_main
from semask.serving.helper import Died, Failed, Helper, TooSlow
from semask.serving.logs import log
from semask.serving.messages import Block, Message
from semask.serving.metrics import Metrics
from semask.serving.refusal import Refusal
from semask.settings.serving import Serving

START_SECONDS = 120.0
"""Seconds in which a process has to be ready."""


class Pool:
    """Processes that decode and encode.

    Args:
        settings: How many, and their limits.
        metrics: What is counted.
    """

    def __init__(self, settings: Serving, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        body = settings.max_megabytes * MEGABYTE
        limits = Limits(settings.max_pixels, settings.decode_megabytes * MEGABYTE, body)
        self.helpers = [Helper(codec_main, (limits,), name=f"codec-{number}") for number in range(settings.decoders)]
        self.free: list[Helper] = []
        self.wanted: dict[bool, deque[asyncio.Future[Helper]]] = {True: deque(), False: deque()}
        self.jobs: set[asyncio.Task[Message | None]] = set()
        self.mending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start the processes.

        Raises:
            ValueError: If one can't begin.
        """
        try:
            await asyncio.gather(*(helper.start(limit=START_SECONDS) for helper in self.helpers))
        except (Died, TooSlow, Failed) as error:
            raise ValueError(f"{error}: is decode_megabytes too small?") from error
        for helper in self.helpers:
            self._give(helper)

    async def ask(self, head: dict[str, Any], parts: Sequence[Block], *, end_in: float, most: int) -> Message:
        """Let a process decode or encode.

        Args:
            head: What to do.
            parts: Its blocks of bytes.
            end_in: Seconds after which nobody waits for it any more.
            most: Bytes that a block of the answer may have.

        Raises:
            Refusal: If the process says so, dies, or takes too long.
            TimeoutError: If all processes are busy until then.
        """
        async with asyncio.timeout(max(end_in, 0)):
            message = await self._once(head, parts, most, last=False) or await self._once(head, parts, most, last=True)
        assert message is not None
        if "status" in message.head:
            if "log" in message.head:
                log("codec", level=logging.WARNING, task=head["task"], reason=str(message.head["log"]))
            head = message.head
            status = head["status"] if head["status"] in (413, 422, 503) else 422
            raise Refusal(status, str(head["message"])[:1000], code=str(head["code"])[:64])
        return message

    async def _once(self, head: dict[str, Any], parts: Sequence[Block], most: int, *, last: bool) -> Message | None:
        """Let a process that is free work; None if it died and this was not the last attempt."""
        helper = await self._take(first=head["task"] == "encode")  # what is computed must not wait for what is not
        job = asyncio.create_task(self._use(helper, head, parts, most, last=last))
        self.jobs.add(job)
        job.add_done_callback(self._done)
        return await asyncio.shield(job)  # the process goes on where the client does not wait

    async def _take(self, *, first: bool) -> Helper:
        """Wait for a process that is free; those who want one first get it before all others."""
        if self.free:
            return self.free.pop()
        wish: asyncio.Future[Helper] = asyncio.get_running_loop().create_future()
        self.wanted[first].append(wish)
        try:
            return await wish
        except asyncio.CancelledError:
            with contextlib.suppress(asyncio.CancelledError, asyncio.InvalidStateError):
                self._give(wish.result())  # it came too late
            raise

    def _give(self, helper: Helper) -> None:
        """Hand a process to who has waited longest."""
        for wishes in (self.wanted[True], self.wanted[False]):
            while wishes:
                wish = wishes.popleft()
                if not wish.done():
                    wish.set_result(helper)
                    return
        self.free.append(helper)

    def _done(self, job: "asyncio.Task[Message | None]") -> None:
        self.jobs.discard(job)
        with contextlib.suppress(asyncio.CancelledError):
            job.exception()  # nobody may have waited for it

    async def _use(
        self, helper: Helper, head: dict[str, Any], parts: Sequence[Block], most: int, *, last: bool
    ) -> Message | None:
        """Let a process work, and give it back."""
        kept = False
        try:
            message = await helper.ask(head, parts, limit=self.settings.decode_seconds, most=most)
            kept = True
            return message
        except (Died, TooSlow) as error:
            log("codec process ended", level=logging.WARNING, task=head["task"], reason=str(error))
            if isinstance(error, Died) and not last:
                return None
            if head["task"] == "tasks":
                raise Refusal(413, "the body takes too much time or memory to read: ask for fewer tasks") from error
            said = f"takes more than {self.settings.decode_seconds:g} s" if isinstance(error, TooSlow) else "is damaged"
            if head["task"] == "decode":
                raise Refusal(422, f"the image {said}, or needs too much memory", code="unreadable_image") from error
            raise Refusal(413, "this form of the answer takes too much time or memory: ask for png") from error
        finally:
            if kept:
                self._give(helper)
            else:
                self._mend(helper)

    def _mend(self, helper: Helper) -> None:
        if helper.closed:
            return
        task = asyncio.create_task(self._restart(helper))
        self.mending.add(task)
        task.add_done_callback(self.mending.discard)

    async def _restart(self, helper: Helper) -> None:
        """Start a process again until it runs."""
        while True:
            self.metrics.restarts.labels("codec").inc()
            try:
                await helper.start(limit=START_SECONDS)
            except (Died, TooSlow, Failed) as error:
                log("codec process does not start", level=logging.ERROR, reason=str(error))
                await asyncio.sleep(1.0)
            else:
                self._give(helper)
                return

    def close(self) -> None:
        """End the processes."""
        for task in (*self.mending, *self.jobs):
            task.cancel()
        for helper in self.helpers:
            helper.close()
