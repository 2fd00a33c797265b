"""What is full, what takes too much, and what is said of it: 429, 413, metrics and logs."""

import errno
import io
import json
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from servers import picture, running, wait_until

from semask.serving.bodies import Budget, share_of
from semask.serving.codec import fault_of
from semask.serving.metrics import Metrics
from semask.serving.refusal import Refusal

HEADERS = {"Content-Type": "image/png"}
ADDRESS = "/v1/models/mine/predict?format=npy"


@pytest.fixture(scope="module")
def server(small):
    with running(
        {"mine": small}, queue=2, max_batch=1, decode_megabytes=80, decode_seconds=1.0, memory_megabytes=3,
        max_megabytes=1, watch_seconds=0.0,
    ) as server:  # fmt: skip
        yield server


@pytest.fixture
def client(server):
    with server.client(headers=HEADERS) as client:
        yield client


class stopped:
    """A process that does nothing for a while."""

    def __init__(self, helper) -> None:
        self.pid = helper.process.pid

    def __enter__(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGCONT)


def test_a_full_queue(server, client, photo):
    """Those for whom there is room are answered in time; the others are told at once when to come back."""
    client.post(ADDRESS, content=photo)
    with ThreadPoolExecutor(10) as pool:
        with stopped(server.service.models["mine"].version.helper):
            asked = [pool.submit(client.post, ADDRESS, content=photo) for _ in range(10)]
            time.sleep(1.0)
            early = [answer.result() for answer in asked if answer.done()]
        answers = [answer.result() for answer in asked]
    assert 6 <= len(early) <= 7  # one is computed, two wait
    for answer in early:
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "overloaded"
        assert int(answer.headers["retry-after"]) >= 1
    assert sorted(answer.status_code for answer in answers) == [200] * (10 - len(early)) + [429] * len(early)
    assert f'status="429"}} {len(early)}.0' in "".join(
        line for line in client.get("/metrics").text.splitlines() if 'requests_total{model="mine"' in line
    )


def test_a_late_request_in_the_queue_is_not_computed(server, client, photo):
    batches = sum(server.service.metrics.batches.labels("mine")._buckets[i].get() for i in range(3))
    with ThreadPoolExecutor(3) as pool, stopped(server.service.models["mine"].version.helper):
        first = pool.submit(client.post, ADDRESS, content=photo)
        time.sleep(0.2)
        assert client.post(f"{ADDRESS}&timeout=0.2", content=photo).status_code == 504
        os.kill(server.service.models["mine"].version.helper.process.pid, signal.SIGCONT)
        assert first.result().status_code == 200
    after = sum(server.service.metrics.batches.labels("mine")._buckets[i].get() for i in range(3))
    assert after == batches + 1


def test_an_image_that_needs_too_much_memory(client, photo):
    buffer = io.BytesIO()
    Image.new("RGB", (6000, 6000)).save(buffer, "PNG")
    answer = client.post(ADDRESS, content=buffer.getvalue())
    assert answer.status_code in (413, 422)
    assert answer.json()["error"]["code"] in ("too_large", "unreadable_image")
    assert client.post(ADDRESS, content=photo).status_code == 200


def test_an_image_that_takes_too_long(server, client, photo):
    (helper,) = server.service.pool.helpers
    before = helper.process.pid
    os.kill(before, signal.SIGSTOP)  # as if it decoded for ever
    answer = client.post(ADDRESS, content=photo)
    assert answer.status_code == 422
    assert "more than 1 s" in answer.json()["error"]["message"]
    assert client.post(ADDRESS, content=photo).status_code == 200
    assert helper.process.pid != before


def test_memory_of_all_requests_together(server, client, photo):
    wait_until(lambda: server.service.predicting.budget.held == 0)
    assert client.post(ADDRESS, content=picture((990, 1000), format="JPEG")).status_code == 200
    assert client.post(ADDRESS, content=picture((1010, 1000), format="JPEG")).status_code == 413  # above 3 MB
    wait_until(lambda: server.service.predicting.budget.held == 0)
    server.service.predicting.budget.held += 2_000_000  # as if others were there
    answer = client.post(ADDRESS, content=picture((990, 1000), format="JPEG"))
    server.service.predicting.budget.held -= 2_000_000
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert client.post(ADDRESS, content=photo).status_code == 200
    wait_until(lambda: server.service.predicting.budget.held == 0)


def test_images_at_the_limits(small, photo):
    """What is exactly as large as allowed passes, a pixel or a byte more does not."""
    with (
        running({"mine": small}, max_pixels=48 * 64, max_megabytes=1) as server,
        server.client(headers=HEADERS) as client,
    ):
        assert client.post(ADDRESS, content=photo).status_code == 200
        assert client.post(ADDRESS, content=picture((49, 64))).json()["error"]["code"] == "too_many_pixels"
        assert client.post(ADDRESS, content=picture((48 * 8, 8))).status_code == 200
        assert client.post(ADDRESS, content=photo.ljust(1_000_000, b"\0")).status_code == 200
        assert client.post(ADDRESS, content=photo.ljust(1_000_001, b"\0")).json()["error"]["code"] == "body_too_large"


def test_the_budget():
    budget = Budget(10, Metrics())
    with share_of(budget) as one, share_of(budget) as other:
        one.grow(6)
        with pytest.raises(Refusal) as refused:
            other.grow(5)
        assert refused.value.status == 429
        one.shrink(4)
        other.grow(8)
        assert budget.held == 10
    assert budget.held == 0


def test_a_place_for_files_that_is_cleaned(server, client, photo):
    """Folders of /tmp that were not used for days are removed on many systems."""
    (helper,) = server.service.pool.helpers
    folder = os.readlink(f"/proc/{helper.process.pid}/cwd")
    shutil.rmtree(folder)
    assert client.post(ADDRESS, content=photo).status_code == 200
    assert os.readlink(f"/proc/{helper.process.pid}/cwd") == folder


def test_a_place_for_files_that_is_full():
    """It is no fault of the image, and the log says it."""
    for number in (errno.ENOSPC, errno.EROFS):
        fault = fault_of(OSError(number, "no place", "/secret"))
        assert (fault["status"], fault["code"]) == (503, "unavailable")
        assert "secret" not in fault["message"]
        assert "no place" in fault["log"]
    assert fault_of(OSError(errno.EFBIG, "large"))["status"] == 413


def test_head_is_get_without_a_body(client):
    answer = client.head("/healthz")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(client.get("/healthz").content))
    assert client.head("/v1/models/mine/predict").status_code == 405
    assert client.head("/nothing").status_code == 404


def test_metrics(server, client, photo):
    client.post(ADDRESS, content=photo)
    client.post(ADDRESS, content=b"no image")
    client.get("/v1/models/..%2f..%2fetc")
    lines = client.get("/metrics").text.splitlines()
    values = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
    route = 'route="/v1/models/{name}/predict"'
    assert values[f'semask_requests_total{{model="mine",{route},status="200"}}'] >= 1
    assert values[f'semask_requests_total{{model="mine",{route},status="422"}}'] >= 1
    assert values['semask_errors_total{code="unreadable_image"}'] >= 1
    assert values['semask_stage_seconds_count{stage="compute"}'] >= 1
    assert values['semask_model_ready{model="mine"}'] == 1
    assert values["semask_held_bytes"] == 0
    assert values["process_resident_memory_bytes"] > 0
    assert "etc" not in "".join(values)


def test_logs(server, photo, capsys):
    from semask.serving.logs import LOGGER, set_up

    set_up()
    written = io.StringIO()
    LOGGER.handlers[0].stream = written
    with server.client(headers=HEADERS | {"X-Request-ID": "find-me"}) as client:
        client.post(ADDRESS, content=photo)
        client.get("/a%0a%7b%22level%22")
        client.get("/healthz")
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    first, second = lines
    assert (first["event"], first["request_id"], first["status"]) == ("request", "find-me", 200)
    assert (first["model"], first["height"], first["width"], first["batch"]) == ("mine", 48, 64, 1)
    assert set(first["stages"]) == {"body", "decode", "queue", "compute", "encode"}
    assert second["status"] == 404
    assert "\n" not in second["path"]


def test_an_error_of_the_server_says_nothing_of_it(server, client, photo, monkeypatch):
    async def broken(*_):
        raise RuntimeError("/secret/place is broken")

    monkeypatch.setattr(server.service, "predicting", broken)
    answer = client.post(ADDRESS, content=photo)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text
    monkeypatch.undo()
    assert client.post(ADDRESS, content=photo).status_code == 200


def test_many_requests_leave_nothing_behind(server, client, photo):
    """No thread, and no file."""
    client.post(ADDRESS, content=photo)
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for number in range(60):
        client.post(ADDRESS, content=photo if number % 3 else b"no image")
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= files + 2
