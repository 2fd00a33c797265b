"""The other side of an ML backend: a server that has images for those with its token, as Label Studio has."""

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from semask.serving.fetching import Origin, read_origin
from semask.settings.serving import Serving

TOKEN = "0123456789abcdef0123456789abcdef01234567"
PERSONAL = "personal.access.token"


class Studio:
    """What it has, and what was asked of it.

    Attributes:
        files: Path and query -> bytes, or a function of the handler that answers itself.
        asked: Method and address of each request.
        refused: How many requests had a wrong token.
        valid: Access tokens that are valid, where the token is a personal one.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, Any] = {}
        self.asked: list[str] = []
        self.refused = 0
        self.valid: list[str] = []


class Handler(BaseHTTPRequestHandler):
    studio: Studio

    def do_GET(self) -> None:
        self.studio.asked.append(f"GET {self.path}")
        right = {f"Token {TOKEN}", *(f"Bearer {token}" for token in self.studio.valid)}
        if self.headers.get("Authorization") not in right:
            self.studio.refused += 1
            return self.answer(b"{}", status=401)
        found = self.studio.files.get(self.path)
        if found is None:
            return self.answer(b"", status=404)
        return found(self) if callable(found) else self.answer(found)

    def do_POST(self) -> None:
        self.studio.asked.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/api/token/refresh/" or PERSONAL.encode() not in body:
            return self.answer(b"{}", status=401)
        self.studio.valid = [f"access-{len(self.studio.asked)}"]
        return self.answer(b'{"access": "%s"}' % self.studio.valid[0].encode())

    def answer(self, body: bytes, *, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        with contextlib.suppress(OSError):  # who asked may be gone
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True


@contextlib.contextmanager
def studio() -> Iterator[Studio]:
    """Run one."""
    server = Server(("127.0.0.1", 0), type("H", (Handler,), {}))
    found = server.RequestHandlerClass.studio = Studio(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()


def origin_of(found: Studio, token: str = TOKEN) -> Origin:
    """What a server of ours is told of it."""
    origin = read_origin(Serving(label_studio=found.address), {"SEMASK_LABEL_STUDIO_TOKEN": token})
    assert origin is not None
    return origin


def slowly(handler: Handler) -> None:
    """Answer a byte at a time."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.1)


def endless(handler: Handler) -> None:
    """Answer with more and more, and no length."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(100):
            handler.wfile.write(bytes(1_000_000))
