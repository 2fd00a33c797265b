import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from semask.checkpoints.places import PHOTOS

pytest.importorskip("gradio", reason="needs the extra: pip install 'semask[app]'")


def test_what_is_refused(semask, tmp_path):
    assert semask.refused("app", "--host", "0.0.0.0") == (
        "host 0.0.0.0 lets other machines in, which needs a password: give --password_file FILE, or set "
        "SEMASK_APP_PASSWORD"
    )
    (tmp_path / "word").write_text("short")
    assert "5 characters: give at least 8" in semask.refused("app", "--password_file", tmp_path / "word")
    assert "nothing.safetensors" in semask.refused("app", tmp_path / "nothing.safetensors")
    assert "overlap is 128" in semask.refused("app", "--tile", "100")
    assert "port is 99999" in semask.refused("app", "--port", "99999")


def test_a_password_of_the_environment_lets_others_in(semask, monkeypatch):
    monkeypatch.setenv("SEMASK_APP_PASSWORD", "long enough")
    started = []
    monkeypatch.setattr("semask.app.serving.serve", lambda models, serving, *_, **__: started.append(serving))
    semask("app", "--host", "0.0.0.0", "--user", "ann")
    (serving,) = started
    assert (serving.host, serving.user, serving.password) == ("0.0.0.0", "ann", "long enough")


def test_the_model_in_the_package_is_named(semask, monkeypatch):
    said = []
    monkeypatch.setattr("semask.app.serving.serve", lambda *_, intro, say: said.append(intro))
    output = semask("app")
    (intro,) = said
    assert intro.startswith("No model named: this is the one in the package, street, for street scenes (sky, ")
    assert intro in output.err
    assert "No model named" not in semask("app", "street").err
    assert said[1] == "Model: street"


def test_a_port_that_is_taken_is_said_before_a_model_is_opened(semask, monkeypatch):
    monkeypatch.setattr("semask.app.models.open_models", lambda *_, **__: pytest.fail("a model was opened"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = semask.refused("app", "street", "--port", port)
    assert said == f"127.0.0.1, port {port}: {os.strerror(errno.EADDRINUSE)}: give another --port or --host"


@contextlib.contextmanager
def started(folder: Path):
    """The command in a process of its own, whose standard output is closed, and its address."""
    environment = os.environ | {"TMPDIR": str(folder), "HTTP_PROXY": "http://127.0.0.1:1"}
    command = ["sh", "-c", 'exec "$0" -m semask.cli app >&-', sys.executable]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            lines = [process.stderr.readline(), process.stderr.readline()]
            yield process, next(line for line in lines if line.startswith("http://127.0.0.1:")).split()[0]
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_twice_ends_it_without_a_stack_trace(tmp_path):
    with started(tmp_path) as (process, address), httpx.Client(base_url=address, trust_env=False) as client:
        stream = client.stream("GET", "/gradio_api/heartbeat/page")
        assert stream.__enter__().status_code == 200
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        assert process.wait(30) in (0, -signal.SIGINT)
        assert process.stderr.read() == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_what_stops_it_leaves_nothing(ending, tmp_path):
    with started(tmp_path) as (process, address):
        stopped(process, address, ending, tmp_path)
    assert list(tmp_path.iterdir()) == []


def stopped(process, address, ending, tmp_path) -> None:
    """Send a photo, and the signal."""
    with httpx.Client(base_url=address, trust_env=False) as client:
        for _ in range(100):
            try:
                (path,) = client.post("/gradio_api/upload", files={"files": PHOTOS[0].read_bytes()}).json()
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        assert Path(path).is_relative_to(tmp_path)
        process.send_signal(ending)
        assert process.wait(30) == 0
    assert process.stderr.read() == ""
