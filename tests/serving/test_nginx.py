"""nginx with the configuration of docs/serve.md, in front of the real server."""

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from servers import TOKEN, picture, running

import semask

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(not (NGINX and OPENSSL), reason="needs nginx and openssl: apt install nginx openssl")

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"
ADDRESS = "/v1/models/mine/predict"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "image/png", "Host": "masks.example.org"}
MAIN = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{site}
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return opened.getsockname()[1]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    names = ["-subj", "/CN=masks.example.org", "-addext", "subjectAltName=DNS:masks.example.org,IP:127.0.0.1"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2", *names]
    files = ["-keyout", folder / "masks.key", "-out", folder / "masks.pem"]
    subprocess.run([OPENSSL, "req", "-x509", "-nodes", *kind, *files], check=True, capture_output=True)
    return folder


class Front:
    """nginx that runs, and what sends requests to it."""

    def __init__(self, folder: Path, port: int, process: subprocess.Popen) -> None:
        self.folder, self.port, self.process = folder, port, process

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}", verify=False, timeout=60, trust_env=False, headers=HEADERS
        )

    def workers(self) -> set[str]:
        return set(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())


@contextlib.contextmanager
def fronted(port, folder, certificate):
    """Run nginx as the page says, but for ports and files."""
    (site,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    front = free_port()
    changes = {
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{port};",
        "listen 443 ssl;": f"listen 127.0.0.1:{front} ssl;",
        "/etc/ssl/masks": f"{certificate}/masks",
    }
    for old, new in changes.items():
        assert old in site
        site = site.replace(old, new)
    folder.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, site=site, user=user))
    command = [NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    with subprocess.Popen(command) as process:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", front), 1):
                    break
                assert process.poll() is None, (folder / "error.log").read_text()
                time.sleep(0.02)
            yield Front(folder, front, process)
        finally:
            process.send_signal(signal.SIGQUIT)  # finish, then end
            assert process.wait(30) == 0
    said = (folder / "error.log").read_text()
    assert not re.search(r"\[(emerg|alert|crit)\]", said)


@pytest.fixture(scope="module")
def server(small):
    with running({"mine": small}, tokens=(TOKEN,), queue=1, max_batch=1, max_megabytes=32) as server:
        yield server


@pytest.fixture(scope="module")
def front(server, certificate, tmp_path_factory):
    port = int(server.address.rpartition(":")[2])
    with fronted(port, tmp_path_factory.mktemp("nginx") / "front", certificate) as front:
        yield front


@pytest.fixture
def client(front):
    with front.client() as client:
        yield client


def test_answers_pass_unchanged(server, client):
    """JSON, and one that is larger than nginx's buffers."""
    photo = picture((600, 800))
    with server.client(headers=HEADERS) as direct:
        for form in ("npy", "png"):
            expected = direct.post(ADDRESS, content=photo, params={"format": form})
            answer = client.post(ADDRESS, content=photo, params={"format": form}, headers={"X-Request-ID": "mine-1"})
            assert answer.status_code == 200
            assert answer.content == expected.content
            for name in ("content-type", "x-model-version", "cache-control", "content-security-policy"):
                assert answer.headers[name] == expected.headers[name]
            assert answer.headers["x-request-id"] == "mine-1"
            assert answer.headers["server-timing"]
    first, second = (client.get("/v1/models").headers["x-request-id"] for _ in range(2))
    assert first != second


def test_the_client_of_the_package(front, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "masks.pem"))
    with semask.Client(f"https://127.0.0.1:{front.port}", token=TOKEN) as client:
        assert client.predict(np.zeros((40, 30, 3), np.uint8)).label.shape == (40, 30)


def test_only_the_api_is_reachable(client):
    for path in ("/", "/metrics", "/healthz", "/readyz", "/openapi.json", "/v1/../metrics", "/v1/%2e%2e/metrics"):
        assert client.get(path).status_code == 404, path
    assert client.get("/v1/models", headers={"Authorization": "Bearer another"}).status_code == 401


def test_large_bodies(client):
    """What is too large is refused in one form, whether the server or nginx does it."""
    noise = np.random.default_rng(0).bytes(31_900_000)
    assert client.post(ADDRESS, content=noise).json()["error"]["code"] == "unreadable_image"
    for size in (33_000_000, 40_000_000):
        for headers in ({}, {"Authorization": "none"}):
            answer = client.post(ADDRESS, content=bytes(size), headers=headers)
            assert answer.status_code == (401 if headers and size < 2**25 else 413)
            if answer.status_code == 413:
                assert answer.json()["error"]["code"] == "body_too_large"


def test_a_slow_upload_does_not_reach_the_server_before_it_is_whole(server, client):
    photo = picture((48, 64))
    seen = []

    def slowly():
        for start in range(0, len(photo), len(photo) // 4 + 1):
            time.sleep(0.1)
            seen.append(server.service.metrics.open._value.get())
            yield photo[start : start + len(photo) // 4 + 1]

    answer = client.post(ADDRESS, content=slowly(), headers={"Content-Length": str(len(photo))})
    assert answer.status_code == 200
    assert seen == [0, 0, 0, 0]


def test_overload_passes_with_its_pause(server, front, client):
    pid = server.service.models["mine"].version.helper.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(6) as pool:
            waiting = [pool.submit(client.post, ADDRESS, content=picture((48, 64), seed=seed)) for seed in range(6)]
            time.sleep(1)
            os.kill(pid, signal.SIGCONT)
            answers = [answer.result() for answer in waiting]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert {answer.status_code for answer in answers} == {200, 429}
    for answer in answers:
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["code"] == "overloaded"


def test_a_reload_of_nginx_loses_no_request(front, client):
    before, stop, statuses = front.workers(), threading.Event(), []

    def ask():
        with front.client() as own:
            while not stop.is_set():
                statuses.append(own.get("/v1/models").status_code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    front.process.send_signal(signal.SIGHUP)
    for _ in range(500):
        if not before & front.workers():
            break
        time.sleep(0.02)
    count = len(statuses)
    time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    assert not before & front.workers()
    assert len(statuses) > count > 0
    assert set(statuses) == {200}


def test_a_stop_and_a_start_of_the_server(small, certificate, tmp_path, monkeypatch):
    """What was accepted is answered, what comes later gets 503, and the client of the package waits."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "masks.pem"))
    port = free_port()
    large = picture((800, 1000), format="JPEG")
    with (
        fronted(port, tmp_path / "front", certificate) as front,
        front.client() as client,
        ThreadPoolExecutor(6) as pool,
    ):
        with running({"mine": small}, tokens=(TOKEN,), port=port) as server:
            answers = [pool.submit(client.post, f"{ADDRESS}?format=npy", content=large) for _ in range(6)]
            while server.service.metrics.open._value.get() < 6:
                assert not all(answer.done() for answer in answers)
                time.sleep(0.002)
        for answer in answers:
            assert answer.result().status_code == 200, answer.result().text
            assert np.load(io.BytesIO(answer.result().content)).shape == (800, 1000)
        away = client.get("/v1/models")
        assert away.status_code == 503
        assert away.headers["retry-after"] == "2"
        assert away.json()["error"]["code"] == "unavailable"
        with semask.Client(f"https://127.0.0.1:{front.port}", token=TOKEN, retries=20) as ours:
            later = pool.submit(ours.predict, large)
            time.sleep(0.2)
            with running({"mine": small}, tokens=(TOKEN,), port=port):
                assert later.result().label.shape == (800, 1000)


def test_without_a_token_the_name_of_the_site_is_refused(small, certificate, tmp_path):
    with running({"mine": small}) as server:
        port = int(server.address.rpartition(":")[2])
        with fronted(port, tmp_path / "front", certificate) as front, front.client() as client:
            answer = client.get("/v1/models")
            assert (answer.status_code, answer.json()["error"]["code"]) == (421, "wrong_host")
