"""What the server answers at all: the few addresses that the page needs, to this page only, within a number of bytes.

Gradio serves more than this app uses: API pages, a proxy, monitoring, recordings. What is not listed here is not found.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from semask.files.reading import parse_json

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

READ = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/logout")
"""Addresses that are read."""
READ_BELOW = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/")
"""Folders of such addresses."""
READ_API = ("/gradio_api/queue/data", "/gradio_api/upload_progress", "/gradio_api/app_id")
FILE = "/gradio_api/file="
UPLOAD = "/gradio_api/upload"
WRITE = ("/login", "/login/", UPLOAD, "/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset")
"""Addresses that are written to."""
MOST_BODY = 2**16
"""Bytes of a message that is no upload."""
EXTRA = 2**14
"""Bytes of an upload around the file."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; font-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""Content security policy: the browser asks no other machine for anything. Gradio builds templates with eval."""
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Rules(NamedTuple):
    """What is admitted."""

    files: Path
    """Folder of the uploads, the only one of which files are given."""
    most_bytes: int
    """Bytes of an upload."""
    hosts: frozenset[str] | None
    """Names by which the page may be called; None for any."""


class Refusal(NamedTuple):
    """Why a request is refused."""

    status: int
    text: str


class Gate:
    """Lets requests through to an application, or refuses them.

    Args:
        application: The application behind it.
        rules: What is admitted.
    """

    def __init__(self, application: Application, rules: Rules) -> None:
        self.application, self.rules = application, rules
        self.closing = asyncio.Event()

    def close(self) -> None:
        """End the answers that last as long as a page is open: the server stops."""
        self.closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; websockets are closed."""
        if scope["type"] == "lifespan":
            await self.application(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = refused(scope, self.rules)
        if refusal is not None:
            await _answer(send, refusal)
            return
        if scope["method"] == "POST" and scope["path"] != UPLOAD:
            body = await _read(receive)
            if names_other_files(scope["path"], body, self.rules.files):
                await _answer(send, Refusal(403, "Only files that were uploaded can be used."))
                return
            receive = _again(body, receive)
        if scope["method"] == "GET":
            receive = self._until_closed(receive)
        kept, open_answer = scope["path"].startswith(READ_BELOW), False

        async def with_headers(message: Message) -> None:
            nonlocal open_answer
            open_answer = message["type"] == "http.response.start" or bool(message.get("more_body"))
            if message["type"] == "http.response.start":
                extra = HEADERS if kept else (*HEADERS, (b"cache-control", b"no-store"))
                names = {name for name, _ in extra}
                message["headers"] = [*(x for x in message.get("headers", ()) if x[0].lower() not in names), *extra]
            await send(message)

        await self.application(scope, receive, with_headers)
        if open_answer and self.closing.is_set():
            await send({"type": "http.response.body", "body": b""})

    def _until_closed(self, receive: Receive) -> Receive:
        """Say that the browser has gone as soon as the server stops."""

        async def message() -> Message:
            coming, closing = asyncio.ensure_future(receive()), asyncio.ensure_future(self.closing.wait())
            try:
                await asyncio.wait((coming, closing), return_when=asyncio.FIRST_COMPLETED)
                return coming.result() if coming.done() else {"type": "http.disconnect"}
            finally:
                coming.cancel()
                closing.cancel()

        return message


def refused(scope: Scope, rules: Rules) -> Refusal | None:
    """Why a request is refused; None if it is admitted."""
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get(b"host", "")
    if rules.hosts is not None and (urlsplit(f"//{host}").hostname or "") not in rules.hosts:
        return Refusal(403, "This page is for this machine only.")
    if scope["method"] in ("GET", "HEAD"):
        return None if _readable(scope["path"], rules.files) else Refusal(404, "There is nothing here.")
    if scope["method"] != "POST" or scope["path"] not in WRITE:
        return Refusal(404, "There is nothing here.")
    origin = headers.get(b"origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return Refusal(403, "Requests of other pages are refused.")
    length = headers.get(b"content-length", "")
    if not length.isdecimal():
        return Refusal(411, "The request has to say how long it is.")
    upload = scope["path"] == UPLOAD
    if int(length) > (rules.most_bytes + EXTRA if upload else MOST_BODY):
        return Refusal(413, f"The file is larger than {rules.most_bytes / 2**20:g} MB." if upload else "Too long.")
    return None


def names_other_files(path: str, body: bytes, files: Path) -> bool:
    """Whether a message names a file that is no upload, or an address, which Gradio would fetch.

    Args:
        path: Address that it is sent to.
        body: The message.
        files: Folder of the uploads.
    """
    if path.startswith("/login"):
        return False
    try:
        left = [parse_json(body.decode())] if body else []
    except ValueError:
        return True
    while left:
        value = left.pop()
        if isinstance(value, dict) and "path" in value and not _is_upload(value["path"], files):
            return True
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return False


def _readable(path: str, files: Path) -> bool:
    """Whether an address is one that the page reads: of files only those that were uploaded."""
    if path.startswith(FILE):
        return _is_upload(path.removeprefix(FILE), files)
    return path in READ or path in READ_API or path.startswith(READ_BELOW)


def _is_upload(name: Any, files: Path) -> bool:
    """Whether a path lies in the folder of the uploads, links followed."""
    if not isinstance(name, str) or "\0" in name or not Path(name).is_absolute():
        return False
    return Path(name).resolve().is_relative_to(files.resolve())


async def _read(receive: Receive) -> bytes:
    """The whole body of a request, whose length has been checked."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read, then what else comes."""
    left = [body]

    async def message() -> Message:
        return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

    return message


async def _answer(send: Send, refusal: Refusal) -> None:
    body = json.dumps({"detail": refusal.text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *HEADERS]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
