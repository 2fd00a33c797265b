"""A cache that several processes share: within its limit, never wrong, and never in the way."""

import contextlib
import hashlib
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from disks import full_disk

from semask.files.disk_cache import DiskCache


def key(n: int) -> str:
    return hashlib.sha256(str(n).encode()).hexdigest()


def content(n: int, size: int = 1000) -> bytes:
    return bytes([n % 256]) * size


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("??/*"))


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    cache = DiskCache(tmp_path / "cache", 5 * 1032)
    for n in range(5):
        cache.put(key(n), content(n))
        os.utime(tmp_path / "cache" / key(n)[:2] / key(n), (n + 1, n + 1))
    assert cache.get(key(0)) == content(0)  # used now
    cache.put(key(5), content(5))
    there = {n for n in range(6) if cache.get(key(n)) is not None}
    assert there == {0, 3, 4, 5}
    assert size_of(tmp_path / "cache") <= 5 * 1032
    assert DiskCache(tmp_path / "cache", 5 * 1032).get(key(4)) == content(4)


def test_a_smaller_limit_and_what_does_not_fit(tmp_path):
    for n in range(5):
        DiskCache(tmp_path / "cache", 10_000).put(key(n), content(n))
    small = DiskCache(tmp_path / "cache", 2100)
    small.put(key(6), content(6, 5000))
    assert small.get(key(6)) is None
    small.put(key(7), content(7))
    assert small.get(key(7)) == content(7)
    assert size_of(tmp_path / "cache") <= 2100


def test_damage_is_a_miss_and_is_repaired(tmp_path):
    cache = DiskCache(tmp_path / "cache", 10_000)
    cache.put(key(1), content(1))
    path = tmp_path / "cache" / key(1)[:2] / key(1)
    for damaged in (b"", content(1), path.read_bytes()[:-1], b"x" + path.read_bytes()[1:]):
        path.write_bytes(damaged)
        assert cache.get(key(1)) is None
        cache.put(key(1), content(1))
        assert cache.get(key(1)) == content(1)
    for total in ("", "many", "9" * 5000):
        (tmp_path / "cache/total").write_text(total)
        cache.put(key(2), content(2))
        assert cache.get(key(2)) == content(2)
    assert int((tmp_path / "cache/total").read_text()) == size_of(tmp_path / "cache")


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"holds photo\.jpg: give a folder of its own"):
        DiskCache(tmp_path, 1000)
    with pytest.raises(ValueError, match="cannot be a cache"):
        DiskCache(tmp_path / "photo.jpg", 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_full_disk_only_forgets(tmp_path):
    cache = DiskCache(tmp_path / "cache", 10_000)
    cache.put(key(1), content(1))
    with full_disk(100):
        cache.put(key(2), content(2))
    assert cache.get(key(1)) == content(1)
    assert cache.get(key(2)) is None
    cache.put(key(2), content(2))
    assert cache.get(key(2)) == content(2)


def work(folder: Path, first: int, rounds: int, most: int) -> None:
    """Put and get as workers do; ends with 1 if anything is wrong."""
    cache = DiskCache(folder, most)
    for n in range(first, first + rounds):
        place = n % 40
        got = cache.get(key(place))
        if got is not None and got != content(place):
            os._exit(1)
        if got is None:
            cache.put(key(place), content(place))
        if size_of_now(folder) > most:
            os._exit(2)
    os._exit(0)


def size_of_now(folder: Path) -> int:
    total = 0
    for path in folder.glob("??/" + "[0-9a-f]" * 64):
        with contextlib.suppress(FileNotFoundError):  # removed by another process
            total += path.stat().st_size
    return total


def test_several_processes_stay_within_the_limit(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(tmp_path / "cache", 13 * n, 80, 20_000)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert int((tmp_path / "cache/total").read_text()) == size_of(tmp_path / "cache")


def test_killed_processes_leave_nothing_wrong(tmp_path):
    context = multiprocessing.get_context("fork")
    for n in range(6):
        process = context.Process(target=work, args=(tmp_path / "cache", n, 100_000, 20_000))
        process.start()
        time.sleep(0.05 + 0.03 * n)
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
    cache = DiskCache(tmp_path / "cache", 20_000)
    for n in range(40):
        assert cache.get(key(n)) in (None, content(n))
    assert size_of(tmp_path / "cache") <= 20_000 + 1032
    assert int((tmp_path / "cache/total").read_text()) >= size_of_now(tmp_path / "cache")
