"""Processes that are killed, models that are replaced, and the way a server stops."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from exported_files import described, write_onnx
from servers import TOKEN, picture, running

from semask.serving.logs import LOGGER
from semask.serving.server import bind, explained
from semask.settings.serving import Serving

HEADERS = {"Content-Type": "image/png"}
ADDRESS = "/v1/models/mine/predict?format=npy"


@pytest.fixture(scope="module")
def model(small, tmp_path_factory):
    """A copy of the model that the tests may replace."""
    path = tmp_path_factory.mktemp("model") / "mine.onnx"
    path.write_bytes(small.read_bytes())
    return path


@pytest.fixture(scope="module")
def server(model):
    with running({"mine": model}, tokens=(TOKEN,), watch_seconds=0.1) as server:
        yield server


@pytest.fixture
def client(server):
    with server.client(headers=HEADERS | {"Authorization": f"Bearer {TOKEN}"}) as client:
        yield client


def worker(server) -> int:
    return server.service.models["mine"].version.helper.process.pid


def flood(client, images, count=4):
    """Send images from several threads; gives the answers in their order."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda image: client.post(ADDRESS, content=image), images))


def test_a_killed_model_loses_no_request(server, client):
    images = [picture((48, 64), seed=seed) for seed in range(24)]
    expected = [answer.content for answer in flood(client, images)]
    before = worker(server)
    timer = threading.Timer(0.1, os.kill, (before, signal.SIGKILL))
    timer.start()
    answers = flood(client, images * 3)
    timer.join()
    assert [answer.status_code for answer in answers] == [200] * 72
    assert [answer.content for answer in answers] == expected * 3
    assert worker(server) != before


def test_a_model_that_is_killed_again_and_again(server, client, monkeypatch):
    """A request is computed again once; then it is told that the model is not available."""
    version = server.service.models["mine"].version
    ask = version.helper.ask

    async def deadly(*arguments, **options):
        os.kill(version.helper.process.pid, signal.SIGKILL)
        return await ask(*arguments, **options)

    monkeypatch.setattr(version.helper, "ask", deadly)
    answer = client.post(ADDRESS, content=picture((48, 64)))
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unavailable"
    assert int(answer.headers["retry-after"]) >= 1
    monkeypatch.undo()
    assert client.post(ADDRESS, content=picture((48, 64))).status_code == 200


def test_an_idle_model_that_is_killed_is_started_again(server, client):
    before = worker(server)
    os.kill(before, signal.SIGKILL)
    for _ in range(200):
        if client.get("/readyz").status_code == 503:
            break
        time.sleep(0.02)
    assert client.get("/readyz").json() == {"status": "not ready", "models": {"mine": False}}
    for _ in range(300):
        if client.get("/readyz").status_code == 200:
            break
        time.sleep(0.1)
    assert client.get("/readyz").status_code == 200
    assert worker(server) != before


def test_a_model_is_started_once_however_many_find_it_dead(server, client, monkeypatch):
    version = server.service.models["mine"].version
    before = version.helper.starts
    os.kill(worker(server), signal.SIGKILL)
    answers = []
    while version.helper.starts == before or not version.ready:
        answers += flood(client, [picture((48, 64))] * 2, count=2)
    assert {answer.status_code for answer in answers} == {200}
    assert version.helper.starts == before + 1


def test_the_queue_outlives_a_fault_of_ours(server, client, monkeypatch):
    async def broken(*_):
        raise MemoryError

    version = server.service.models["mine"].version
    monkeypatch.setattr(version, "_ask", broken)
    answer = client.post(ADDRESS, content=picture((48, 64)))
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    monkeypatch.undo()
    assert client.post(ADDRESS, content=picture((48, 64))).status_code == 200


def test_a_killed_decoder(server, client, monkeypatch):
    (helper,) = server.service.pool.helpers
    ask = helper.ask

    killed = []

    async def deadly(*arguments, **options):
        if len(killed) < most:
            killed.append(helper.process.pid)
            os.kill(killed[-1], signal.SIGKILL)
        return await ask(*arguments, **options)

    monkeypatch.setattr(helper, "ask", deadly)
    most = 1
    assert client.post(ADDRESS, content=picture((48, 64))).status_code == 200  # by another process
    most = 3
    answer = client.post(ADDRESS, content=picture((48, 64)))
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "unreadable_image"
    monkeypatch.undo()
    assert client.post(ADDRESS, content=picture((48, 64))).status_code == 200
    assert len(killed) == 3
    left = [path.name for path in Path(tempfile.gettempdir()).glob("semask-*")]
    assert not any(f"-{pid}-" in name for name in left for pid in killed)


def test_answers_do_not_wait_for_the_network(server, client):
    """With Nagle's algorithm each answer would come 40 ms late."""
    client.get("/healthz")
    for connection in server.server.server_state.connections:
        used = connection.transport.get_extra_info("socket")
        assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_deadlines(server, client):
    """A model that hangs does not make a request wait for longer than it has."""
    pid = worker(server)
    os.kill(pid, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        answer = client.post(f"{ADDRESS}&timeout=0.3", content=picture((48, 64)))
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"
        assert time.monotonic() - begin < 5
        late = client.post(ADDRESS, content=picture((48, 64)), headers={"X-Request-Timeout": "0.2"})
        assert late.status_code == 504
    finally:
        os.kill(pid, signal.SIGCONT)
    assert client.post(ADDRESS, content=picture((48, 64))).status_code == 200


def other(path):
    """A model whose classes have other names."""
    write_onnx(path.with_name("new.onnx"), described(classes={"classes": ["a", "b", "c"]}))
    os.replace(path.with_name("new.onnx"), path)


def test_a_model_that_is_replaced_loses_no_request(server, client, model):
    versions, stop = set(), threading.Event()
    statuses = []

    def ask():
        with server.client(headers=client.headers) as own:
            while not stop.is_set():
                answer = own.post(ADDRESS, content=picture((48, 64)))
                statuses.append(answer.status_code)
                versions.add(answer.headers.get("x-model-version"))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    before = client.get("/v1/models/mine").json()
    other(model)
    for _ in range(300):
        now = client.get("/v1/models/mine").json()
        if now["version"] != before["version"]:
            break
        time.sleep(0.1)
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}
    assert versions == {before["version"], now["version"]}
    assert [row["name"] for row in now["classes"]] == ["a", "b", "c"]
    answer = client.post("/v1/models/mine/predict", content=picture((48, 64))).json()
    assert [row["name"] for row in answer["classes"]] == ["a", "b", "c"]


def test_a_damaged_file_keeps_the_old_model(server, client, model):
    before = client.get("/v1/models/mine").json()
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    answer = client.post("/v1/models/mine/reload")
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert error["code"] == "reload_failed"
    assert str(model) not in error["message"]
    assert "the old one stays" in error["message"]
    now = client.get("/v1/models/mine").json()
    assert now["version"] == before["version"]
    assert now["fault"]
    assert client.post(ADDRESS, content=picture((48, 64))).status_code == 200
    model.write_bytes(whole)
    answer = client.post("/v1/models/mine/reload")
    while answer.json().get("error", {}).get("code") == "reloading":  # the server saw the file too
        answer = client.post("/v1/models/mine/reload")
    assert answer.status_code == 200
    assert answer.json()["fault"] is None


@pytest.fixture
def start(small):
    """Start the command in a session of its own: start("--port", "0")."""
    begun = []

    def run(*options):
        command = [
            sys.executable,
            "-m",
            "semask.cli",
            "serve",
            f"mine={small}",
            "--port",
            "0",
            "--threads",
            "1",
            *options,
        ]
        begun.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True))
        return begun[-1]

    yield run
    for process in begun:
        process.kill()
        process.wait()
        process.stderr.close()


def until(process, event):
    """Lines of the log until an event."""
    lines = []
    for line in process.stderr:
        lines.append(json.loads(line))
        if lines[-1]["event"] == event:
            break
    return lines


def require_gone(children):
    for _ in range(200):
        if not any(os.path.exists(f"/proc/{child}") for child in children):
            return
        time.sleep(0.1)
    raise AssertionError([child for child in children if os.path.exists(f"/proc/{child}")])


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_told_to_stop_while_the_models_are_loaded(start, kind):
    process = start()
    while len(children := descendants(process.pid)) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, kind)  # as a terminal and systemd do: the processes of the server get it, too
    written = process.stderr.read()
    assert process.wait(60) == 0, written
    assert [json.loads(line)["event"] for line in written.splitlines()][-1] == "stopped"
    require_gone(children)


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_a_model_that_hangs_does_not_keep_the_server(start, again):
    """It has one time limit for all that it finishes; what it can't is told so."""
    process = start("--drain_seconds", "0", "--grace_seconds", "60" if again else "5", "--decoders", "1")
    lines = until(process, "listening")
    children = descendants(process.pid)
    address = f"http://127.0.0.1:{lines[-1]['port']}"
    with httpx.Client(base_url=address, timeout=60, trust_env=False, headers=HEADERS) as client:
        assert client.post(ADDRESS, content=picture((48, 64))).status_code == 200
        for child in children:
            if "onnxruntime" in Path(f"/proc/{child}/maps").read_text():
                os.kill(int(child), signal.SIGSTOP)
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(client.post, ADDRESS, content=picture((48, 64)))
            time.sleep(1.0)
            begin = time.monotonic()
            process.send_signal(signal.SIGTERM)
            if again:
                time.sleep(0.5)
                process.send_signal(signal.SIGTERM)
            refused = answer.result()
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "unavailable"
            assert process.wait(60) == 0
            assert time.monotonic() - begin < (30 if again else 9)
    written = process.stderr.read()
    assert "Traceback" not in written
    assert json.loads(written.splitlines()[-1])["event"] == "stopped"
    require_gone(children)


def test_nothing_is_left_of_a_server_that_is_killed(start):
    process = start()
    until(process, "listening")
    children = descendants(process.pid)
    process.kill()
    require_gone(children)
    assert "Traceback" not in process.stderr.read()


def test_two_servers_that_start_on_one_port():
    """Neither has a model yet; the second to be ready says why it ends."""
    with bind(Serving(port=0)) as first:
        settings = Serving(port=first.getsockname()[1])
        with bind(settings) as second:
            first.listen()
            with pytest.raises(ValueError, match="choose another --port"), explained(settings):
                second.listen()


def test_connections_are_refused_until_there_is_a_model():
    first = bind(Serving(port=0))
    port = first.getsockname()[1]
    with first:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
        first.listen()
        with pytest.raises(ValueError, match=f"port {port}"):
            bind(Serving(port=port))


def test_logs_that_can_not_be_written(small, monkeypatch):
    """A full disk below the log stops nothing."""
    full = open("/dev/full", "w", buffering=1)  # noqa: SIM115
    monkeypatch.setattr(sys, "stderr", full)
    with running({"mine": small}) as server, server.client(headers=HEADERS) as client:
        for _ in range(30):
            assert client.post(ADDRESS, content=picture((48, 64))).status_code == 200
    assert LOGGER.handlers[0].stream is full
    with contextlib.suppress(OSError):
        full.close()


def test_the_command_and_its_end(start):
    process = start("--drain_seconds", "0.5")
    lines = until(process, "listening")
    address = f"http://127.0.0.1:{lines[-1]['port']}"
    with httpx.Client(base_url=address, timeout=60, trust_env=False, headers=HEADERS) as client:
        children = descendants(process.pid)
        assert len(children) >= 3
        assert client.get("/readyz").status_code == 200
        large = picture((1500, 2000), format="JPEG")
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(client.post, ADDRESS, content=large) for _ in range(6)]
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
            assert client.get("/readyz").status_code == 503
            assert client.get("/healthz").status_code == 200
            for answer in answers:
                assert answer.result().status_code == 200, answer.result().text
                label = np.load(io.BytesIO(answer.result().content))
                assert label.shape == (1500, 2000)
    rest = [json.loads(line) for line in process.stderr]
    assert process.wait(60) == 0
    assert rest[-1]["event"] == "stopped"
    assert [x["status"] for x in rest if x["event"] == "request" and x["method"] == "POST"] == [200] * 6
    require_gone(children)


def descendants(pid):
    """Processes that a process started, from any of its threads."""
    return [x for task in Path(f"/proc/{pid}/task").iterdir() for x in (task / "children").read_text().split()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "SEMASK_TOKEN"),
        (["--origins", '["*"]'], "origins has '*'"),
        (["--queue", "0"], "queue"),
        (["a=x", "a=y"], "two models are called a"),
        (["nothing=nowhere.onnx"], "nowhere.onnx"),
        (["model.pth=x.onnx"], "x.onnx"),
    ],
    ids=str,
)
def test_mistakes_on_the_line(semask, arguments, message, monkeypatch):
    monkeypatch.delenv("SEMASK_TOKEN", raising=False)
    assert message in semask.refused("serve", "--port", "0", *arguments)


def test_a_port_that_is_taken(semask, served):
    port = served.address.rpartition(":")[2]
    assert f"port {port}" in semask.refused("serve", "--port", port)


def test_the_server_itself_loads_no_torch():
    from modules import imported

    code = "import semask.serving.server, semask.commands.serve, semask.serving.client"
    modules, status = imported(code)
    assert status == 0
    assert "torch" not in modules
