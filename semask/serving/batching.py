"""A queue in front of a model: images of one size go together, none waits in vain, and no more wait than there is room.

The model takes a batch when it is free. The oldest image decides which size; if fewer than a full batch are there, it
waits a little for others that are being decoded. What nobody waits for any more, because its time is over or its client
is gone, is left out.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from semask.serving.rate import Rate
from semask.serving.refusal import Refusal, late

MARGIN = 1.25
"""How much longer than by the measured rate it may take: rates vary, and an answer has to be encoded in time, too."""


@dataclass
class Job:
    """An image that waits.

    Attributes:
        key: Images with the same go together.
        payload: What is handed to the model.
        work: How much there is to do, in pixels.
        end: When its time is over, by `time.monotonic`.
        seconds: Seconds that it was given, for the message.
        answer: What came of it.
        arrived: When it came.
        waited: Seconds in the queue.
        batch: Images that went together with it, itself included.
    """

    key: Hashable
    payload: Any
    work: int
    end: float
    seconds: float
    answer: "asyncio.Future[Any]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    arrived: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    batch: int = 0


Run = Callable[[Sequence[Job]], Awaitable[None]]
"""Computes jobs together; sets the answer of each."""


class Batcher:
    """The queue of one model.

    Args:
        run: Computes jobs of one key.
        most: Jobs that go together.
        wait: Seconds that a job waits for others that are on the way, while nothing is computed.
        room: Jobs that wait, at most.
        alone: Whether jobs of a key go one by one.
    """

    def __init__(
        self, run: Run, *, most: int, wait: float, room: int, alone: Callable[[Hashable], bool] = lambda key: False
    ) -> None:
        self.run, self.most, self.wait, self.room, self.alone = run, most, wait, room, alone
        self.waiting: deque[Job] = deque()
        self.running: Sequence[Job] = ()
        self.rate = Rate()
        self.come = asyncio.Event()
        self.closing = False
        self.coming = 0
        self.task = asyncio.create_task(self._loop())

    @property
    def retry_after(self) -> int:
        """Seconds after which what is here or on the way should be done, by the measured rate."""
        expected = self.rate.seconds(self._queued() + self.coming * self.rate.usual_work)
        return min(max(round(expected + 0.5), 1), 600)

    def require_room(self, end: float) -> None:
        """Refuse a job that would not be done in time, or for which there is no room, before it is decoded.

        Raises:
            Refusal: 429, with the seconds after which to try again.
        """
        self._require(len(self.waiting) + self.coming, self._queued() + (self.coming + 1) * self.rate.usual_work, end)

    def _require(self, places: int, work: float, end: float) -> None:
        full = places >= self.room + (not self.running)  # the next is computed at once
        behind = places and time.monotonic() + MARGIN * self.rate.seconds(work) > end
        if full or behind:
            after = self.retry_after
            why = "too many requests are waiting" if full else "the requests that wait take longer than this one has"
            raise Refusal(429, f"{why}: try again in {after} s", headers={"Retry-After": str(after)})

    def _queued(self) -> int:
        return sum(job.work for job in (*self.waiting, *self.running))

    @contextlib.contextmanager
    def on_the_way(self, end: float) -> Iterator[None]:
        """Count a job that will be submitted soon: those that wait know of it, and there is room for fewer others.

        Raises:
            Refusal: As `require_room`.
        """
        self.require_room(end)
        self.coming += 1
        try:
            yield
        finally:
            self.coming -= 1
            self.come.set()

    async def submit(self, job: Job) -> Any:
        """Wait for the answer to a job.

        Raises:
            Refusal: 429 if there is no room, 504 if its time is over; or what the model says.
        """
        self._require(len(self.waiting), self._queued() + job.work, job.end)
        self.waiting.append(job)
        self.come.set()
        try:
            return await asyncio.wait_for(asyncio.shield(job.answer), job.end - time.monotonic())
        except TimeoutError:
            raise late(job.seconds) from None
        finally:
            if job.answer.cancel():
                self._drop()  # it may still wait, with its image in memory
            else:
                with contextlib.suppress(asyncio.CancelledError):
                    job.answer.exception()

    async def close(self) -> None:
        """Finish what waits and what is on the way, and end."""
        self.closing = True
        self.come.set()
        await self.task

    async def _loop(self) -> None:
        while True:
            self._drop()
            if not self.waiting:
                if self.closing and not self.coming:
                    return
                self.come.clear()
                await self.come.wait()
                continue
            await self._gather()
            self._drop()
            if not self.waiting:
                continue
            jobs = self._take()
            begin = time.monotonic()
            for job in jobs:
                job.waited, job.batch = begin - job.arrived, len(jobs)
            self.running = jobs
            try:
                await self.run(jobs)
            finally:
                self.running = ()
            self.rate.measure(time.monotonic() - begin, [job.work for job in jobs])

    async def _gather(self) -> None:
        """Wait until a batch is full, nothing is on the way, or its oldest has waited long enough."""
        while self.coming and self.waiting and len(self._fitting()) < self._limit():
            left = self.waiting[0].arrived + self.wait - time.monotonic()
            if left <= 0:
                return
            self.come.clear()
            try:
                await asyncio.wait_for(self.come.wait(), left)
            except TimeoutError:
                return

    def _limit(self) -> int:
        return 1 if self.alone(self.waiting[0].key) else self.most

    def _fitting(self) -> list[Job]:
        """Jobs that go with the oldest."""
        return [job for job in self.waiting if job.key == self.waiting[0].key][: self._limit()]

    def _take(self) -> list[Job]:
        jobs = self._fitting()
        taken = set(map(id, jobs))
        self.waiting = deque(job for job in self.waiting if id(job) not in taken)
        return jobs

    def _drop(self) -> None:
        """Leave out what nobody waits for any more."""
        now = time.monotonic()
        for job in self.waiting:
            if not job.answer.done() and now >= job.end:
                job.answer.set_exception(late(job.seconds))
        self.waiting = deque(job for job in self.waiting if not job.answer.done())
