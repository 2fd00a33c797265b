"""A server on loopback that serves ranges of files and fails as networks do, for a folder or another server."""

import contextlib
import http.client
import itertools
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

FAULTS = ("error", "busy", "reset", "cut", "short", "slow", "stall", "corrupt", "long")
"""500; 503; closed without an answer; closed in the middle; an honest answer of fewer bytes; nothing for long; half of
the bytes and then nothing; a wrong byte; more than asked for."""
SLOW = 3.0
"""Seconds of "slow" and "stall"."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


Source = Callable[[str, str, dict[str, str], bytes], Answer]


class FaultyServer:
    """What a running server does.

    Attributes:
        url: Where it is.
        plan: Faults of the next requests for ranges of data, in turn; None in it is a good answer; then all are good.
        asked: How often each range of each file was asked for.
        ranges: Whether it serves ranges of bytes.
        endless: Whether its answers have no end.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.plan: Iterator[str | None] = iter(())
        self.asked: Counter[tuple[str, str]] = Counter()
        self.done: Counter[str] = Counter()
        self.ranges = True
        self.endless = False
        self.lock = threading.Lock()
        self.url = ""

    def fault(self, path: str) -> str | None:
        """The fault of a request."""
        with self.lock:
            fault = next(self.plan, None) if path.endswith(".tar") else None
            self.done[str(fault)] += 1
        return fault


class Handler(BaseHTTPRequestHandler):
    """Answers requests."""

    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer a GET."""
        faulty: FaultyServer = self.server.faulty
        headers = dict(self.headers.items())
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not faulty.ranges:
            headers.pop("Range", None)
        answer = faulty.source(self.command, self.path, headers, body)
        path = self.path.partition("?")[0]
        with faulty.lock:
            faulty.asked[path, headers.get("Range", "")] += 1
        fault = faulty.fault(path) if self.command == "GET" else None
        content = answer.body
        if fault in ("error", "busy"):
            answer, content = Answer(500 if fault == "error" else 503, {}, b"no"), b"no"
        elif fault == "reset":
            self.close()
            return
        elif fault == "slow":
            time.sleep(SLOW)
        elif fault == "short":
            content = content[: len(content) // 2]
        elif fault == "corrupt":
            content = bytes([content[0] ^ 1]) + content[1:]
        elif fault == "long":
            content = content + b"x" * 1000
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(2**40 if faulty.endless else len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        with contextlib.suppress(OSError):
            while faulty.endless:
                self.wfile.write(b" " * 2**20)
        with contextlib.suppress(OSError):  # the client may not want to wait
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if fault == "stall":
                time.sleep(SLOW)
            if fault in ("stall", "cut"):
                self.close()
            else:
                self.wfile.write(content[len(content) // 2 :])

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def close(self) -> None:
        """Close the connection at once."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serving(source: Source) -> Iterator[FaultyServer]:
    """Run a server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    faulty = FaultyServer(source)
    server.faulty = faulty  # type: ignore[attr-defined]
    faulty.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield faulty
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def folder(root: Path) -> Source:
    """Serve the files of a folder."""

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        file = root / path.lstrip("/")
        if not file.is_file():
            return Answer(404, {}, b"not found")
        content = file.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("Range", ""))
        if asked is None:
            return Answer(200, {}, content)
        start, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
        if start >= len(content):
            return Answer(416, {}, b"")
        return Answer(206, {"Content-Range": f"bytes {start}-{last}/{len(content)}"}, content[start : last + 1])

    return answer


def forwarding(host: str, port: int) -> Source:
    """Hand requests on to another server."""

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        connection = http.client.HTTPConnection(host, port, timeout=60)
        try:
            connection.request(method, path, body or None, headers)
            got = connection.getresponse()
            return Answer(got.status, dict(got.getheaders()), got.read())
        finally:
            connection.close()

    return answer


def in_turn(*faults: str | None) -> Iterator[str | None]:
    """The same faults again and again."""
    return itertools.cycle(faults)
