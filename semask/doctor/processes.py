"""Looking at many pairs in processes, a bounded number at a time; a file that ends a process is a finding, no crash."""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from semask.doctor.cache import Cache
from semask.doctor.facts import Facts, Header, facts_of
from semask.doctor.samples import Sample

BATCH = 8
"""Pairs that a process looks at before it answers."""
SMALL = 64
"""Up to so many pairs a process of its own takes longer to start than to look."""


def facts_of_all(samples: Sequence[Sample], cache: Cache, *, workers: int | None = None) -> Iterator[Facts]:
    """Look at pairs, in their order.

    Args:
        samples: The pairs.
        cache: What is known already, and takes in what is new.
        workers: Processes; None for one a core, or none for few pairs; 0 for this process.
    """
    count = (os.cpu_count() or 1) if workers is None else workers
    if workers is None and len(samples) <= SMALL:
        count = 0
    try:
        for sample, facts in _in_processes(samples, cache, count) if count else _here(samples, cache):
            cache.put(sample, facts)
            yield facts
    finally:
        cache.flush()


def _here(samples: Sequence[Sample], cache: Cache) -> Iterator[tuple[Sample, Facts]]:
    for sample in samples:
        yield sample, cache.get(sample) or facts_of(sample.image, sample.label)


def look(batch: Sequence[Sample]) -> list[Facts]:
    """Look at some pairs; runs in a process of its own."""
    return [facts_of(sample.image, sample.label) for sample in batch]


def _in_processes(samples: Sequence[Sample], cache: Cache, workers: int) -> Iterator[tuple[Sample, Facts]]:
    context = multiprocessing.get_context("spawn")
    batches = _batches(samples)
    waiting: deque[tuple[list[Sample], list[Facts | None], list[Sample], Future[list[Facts]] | None]] = deque()
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        while True:
            while len(waiting) < 2 * workers and (batch := next(batches, None)) is not None:
                known = [cache.get(sample) for sample in batch]
                new = [sample for sample, facts in zip(batch, known, strict=True) if facts is None]
                try:
                    future = pool.submit(look, new) if new else None
                except BrokenProcessPool:
                    pool = ProcessPoolExecutor(workers, mp_context=context)
                    future = pool.submit(look, new)
                waiting.append((batch, known, new, future))
            if not waiting:
                return
            batch, known, new, future = waiting.popleft()
            try:
                found = iter(future.result() if future is not None else [])
            except BrokenProcessPool:  # by one of several batches: each pair alone
                found = iter([_alone(sample) for sample in new])
            for sample, facts in zip(batch, known, strict=True):
                yield sample, facts or next(found)
    finally:
        pool.shutdown(cancel_futures=True)


def _alone(sample: Sample) -> Facts:
    """Look at a pair in a process for it alone."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(look, [sample]).result()[0]
        except BrokenProcessPool:
            problem = Header(kind="corrupt-file", problem="the process that read it was ended (out of memory?)")
            return Facts(problem, problem)


def _batches(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    iterator = iter(samples)
    while batch := list(islice(iterator, BATCH)):
        yield batch
