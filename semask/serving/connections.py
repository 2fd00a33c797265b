"""Connections of a client: one for each request, kept while they are good, and cut off when time is over."""

import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from semask.files.text import one_line

MOST_ERROR = 2**20
"""Bytes of an answer with an error."""
PIECE = 2**20
"""Bytes that are read at once, so that nothing is reserved for what does not come."""
GONE = (ConnectionError, http.client.BadStatusLine, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""What a connection says that the server has closed."""


class Answer(NamedTuple):
    """An answer of the server."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class TooLarge(Exception):
    """An answer has more than so many bytes."""


class Connections:
    """Connections to one server.

    Args:
        address: Of the server, e.g. http://127.0.0.1:8000. Redirects are not followed.

    Raises:
        ValueError: If the address is none.
    """

    def __init__(self, address: str) -> None:
        try:
            url = urlsplit(address)
            right = url.scheme in ("http", "https") and bool(url.hostname) and not (url.query or url.fragment)
            right = (
                right and "@" not in url.netloc and address.isascii() and not re.search(r"[\s\x00-\x1f\x7f]", address)
            )
            self.port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
        except ValueError:
            right = False
        if not right:
            raise ValueError(f"address is {one_line(address)}: give one such as http://127.0.0.1:8000")
        self.host, self.prefix = str(url.hostname), url.path.rstrip("/")
        self.secure = ssl.create_default_context() if url.scheme == "https" else None
        self.idle: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        """Close those that are kept."""
        while self.idle:
            self.idle.pop().close()

    def ask(
        self, method: str, path: str, end: float, body: bytes | None, headers: Mapping[str, str], most: int
    ) -> Answer:
        """Ask by a connection that is kept, or if the server has closed it by a new one.

        Args:
            method: GET or POST.
            path: Below the address.
            end: When time is over, by `time.monotonic`.
            body: What is sent.
            headers: Headers of the request.
            most: Bytes of an answer with status 200; others have `MOST_ERROR` at most.

        Raises:
            OSError: If there is no answer; TimeoutError if there is none in time.
            http.client.HTTPException: If it is none.
            TooLarge: If it is too large.
        """
        try:
            kept = self.idle.pop()
        except IndexError:
            pass
        else:
            with contextlib.suppress(*GONE):  # it was idle for too long
                return self._exchange(kept, method, path, end, body, headers, most)
        if self.secure is not None:
            new: http.client.HTTPConnection = http.client.HTTPSConnection(self.host, self.port, context=self.secure)
        else:
            new = http.client.HTTPConnection(self.host, self.port)
        return self._exchange(new, method, path, end, body, headers, most)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        end: float,
        body: bytes | None,
        headers: Mapping[str, str],
        most: int,
    ) -> Answer:
        complete = False
        try:
            with cut_off(connection, end):
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may say why it takes no more
                    connection.request(method, self.prefix + path, body=body, headers=dict(headers))
                response = connection.getresponse()
                content = read(response, most if response.status == 200 else MOST_ERROR)
            complete = not response.will_close
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)
        finally:
            if complete:
                self.idle.append(connection)
            else:
                connection.close()


@contextlib.contextmanager
def cut_off(connection: http.client.HTTPConnection, end: float) -> Iterator[None]:
    """Close a connection when time is over: its own limit is for each read, of which a slow server allows many.

    Raises:
        TimeoutError: If time is over.
    """

    def shut() -> None:
        if connection.sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)  # below TLS, which another thread reads from

    left = max(end - time.monotonic(), 0.001)
    connection.timeout = left
    if connection.sock is not None:
        connection.sock.settimeout(left)
    timer = threading.Timer(left, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if time.monotonic() < end:
            raise
    finally:
        timer.cancel()
    if time.monotonic() >= end:  # an answer that was cut off may look as if it were whole
        raise TimeoutError("timed out")


def read(response: http.client.HTTPResponse, most: int) -> bytes:
    """Read an answer.

    Raises:
        TooLarge: If it is larger than `most` bytes.
        http.client.HTTPException: If a part of it is missing.
    """
    content = bytearray()
    while piece := response.read(min(PIECE, most + 1 - len(content))):
        content += piece
        if len(content) > most or (response.length or 0) > most:
            raise TooLarge(most)
    if response.length:
        raise http.client.IncompleteRead(bytes(content[:100]), response.length)
    return bytes(content)
