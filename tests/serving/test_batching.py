"""The queue alone, with a model that is a function."""

import asyncio
import math
import time

import pytest

from semask.serving.batching import Batcher, Job
from semask.serving.refusal import Refusal

END = math.inf
"""For who has time."""


class Model:
    """Notes what it gets, and takes some time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.batches = seconds, []

    async def __call__(self, jobs):
        self.batches.append([job.payload for job in jobs])
        await asyncio.sleep(self.seconds)
        for job in jobs:
            if not job.answer.done():
                job.answer.set_result(job.payload)


def job(payload, *, key="a", seconds=10.0, work=1):
    return Job(key, payload, work, time.monotonic() + seconds, seconds)


def run(scenario, model, **settings):
    async def main():
        batcher = Batcher(model, **{"most": 4, "wait": 0.0, "room": 100, **settings})
        try:
            return await scenario(batcher)
        finally:
            await batcher.close()

    return asyncio.run(main())


def test_those_of_one_key_go_together():
    model = Model(0.02)

    async def scenario(batcher):
        jobs = [job(i, key="ab"[i % 2]) for i in range(8)]
        assert await asyncio.gather(*map(batcher.submit, jobs)) == list(range(8))
        assert [x.batch for x in jobs] == [4] * 8
        assert all(x.waited >= 0.015 for x in jobs[1::2])

    run(scenario, model)
    assert sorted(model.batches) == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_a_batch_has_its_limit_and_some_keys_go_alone():
    model = Model()
    run(lambda x: asyncio.gather(*(x.submit(job(i)) for i in range(10))), model)
    assert [len(batch) for batch in model.batches] == [4, 4, 2]
    model = Model()
    run(lambda x: asyncio.gather(*(x.submit(job(i)) for i in range(3))), model, alone=lambda key: key == "a")
    assert model.batches == [[0], [1], [2]]


def test_the_first_waits_only_for_those_on_the_way():
    model = Model()

    async def scenario(batcher):
        await asyncio.wait_for(batcher.submit(job(0)), 1.0)  # nobody else is on the way
        with batcher.on_the_way(END):
            first = asyncio.create_task(batcher.submit(job(1)))
            await asyncio.sleep(0.05)
            assert not first.done()
        assert await asyncio.gather(first, batcher.submit(job(2))) == [1, 2]

    run(scenario, model, wait=5.0)
    assert model.batches == [[0], [1, 2]]


def test_no_more_than_there_is_room_for():
    async def scenario(batcher):
        first = asyncio.create_task(batcher.submit(job(0)))
        await asyncio.sleep(0.01)
        others = [asyncio.create_task(batcher.submit(job(i))) for i in range(1, 4)]
        await asyncio.sleep(0.01)
        with pytest.raises(Refusal) as refused:
            await batcher.submit(job(4))
        assert refused.value.status == 429
        assert int(refused.value.headers["Retry-After"]) >= 1
        assert await asyncio.gather(first, *others) == [0, 1, 2, 3]

    run(scenario, Model(0.05), room=3, most=1)


def test_what_would_be_late_is_refused_by_the_measured_rate():
    async def scenario(batcher):
        await batcher.submit(job(0, work=10))
        assert batcher.rate.seconds_per_work == pytest.approx(0.01, rel=0.5)
        waiting = [asyncio.create_task(batcher.submit(job(i, work=100))) for i in range(1, 4)]
        await asyncio.sleep(0.01)
        assert 1 <= batcher.retry_after <= 6
        with pytest.raises(Refusal) as refused:
            await batcher.submit(job(4, seconds=0.5))
        assert refused.value.status == 429
        for task in waiting:
            task.cancel()

    run(scenario, Model(0.1), most=1)


def test_those_on_the_way_take_room_and_time():
    async def scenario(batcher):
        with batcher.on_the_way(END), batcher.on_the_way(END):
            batcher.require_room(time.monotonic() + 0.05)  # nothing was measured, so nothing is known to be late
        await batcher.submit(job(0, work=10))
        end = time.monotonic() + 0.15  # for one of 0.1 s, not for two
        batcher.require_room(end)
        with batcher.on_the_way(END):
            with pytest.raises(Refusal, match="longer than this one has"):
                batcher.require_room(end)
            with pytest.raises(Refusal, match="longer than this one has"), batcher.on_the_way(end):
                pass
            assert batcher.coming == 1
            with batcher.on_the_way(END), batcher.on_the_way(END), pytest.raises(Refusal, match="too many"):
                batcher.require_room(END)
        assert batcher.coming == 0
        batcher.require_room(end)

    run(scenario, Model(0.1), room=2)


def test_what_is_late_in_the_queue_is_not_computed():
    model = Model(0.2)

    async def scenario(batcher):
        first = asyncio.create_task(batcher.submit(job("first")))
        await asyncio.sleep(0.01)
        with pytest.raises(Refusal) as refused:
            await batcher.submit(job("late", seconds=0.05))
        assert refused.value.status == 504
        gone = asyncio.create_task(batcher.submit(job("gone")))
        await asyncio.sleep(0.01)
        gone.cancel()
        assert await first == "first"
        assert await batcher.submit(job("last")) == "last"

    run(scenario, model)
    assert model.batches == [["first"], ["last"]]


def test_what_nobody_waits_for_takes_no_room():
    """Neither a place nor memory, though the model computes something else for long."""

    async def scenario(batcher):
        first = asyncio.create_task(batcher.submit(job("first")))
        await asyncio.sleep(0.01)
        for _ in range(5):
            with pytest.raises(Refusal) as refused:
                await batcher.submit(job("late", seconds=0.01))
            assert refused.value.status == 504
            gone = asyncio.create_task(batcher.submit(job("gone")))
            await asyncio.sleep(0.01)
            gone.cancel()
            await asyncio.sleep(0.01)
        assert not batcher.waiting
        await first

    run(scenario, Model(0.5), room=2)


def test_closing_waits_for_those_on_the_way():
    async def scenario(batcher):
        with batcher.on_the_way(END):
            closing = asyncio.create_task(batcher.close())
            await asyncio.sleep(0.02)
            assert not closing.done()
        assert await batcher.submit(job("late")) == "late"
        await closing

    run(scenario, Model())


def test_closing_finishes_what_waits():
    async def scenario(batcher):
        jobs = [asyncio.create_task(batcher.submit(job(i))) for i in range(9)]
        await asyncio.sleep(0.01)
        await batcher.close()
        assert batcher.task.done()
        assert await asyncio.gather(*jobs) == list(range(9))

    run(scenario, Model(0.01), most=2)
