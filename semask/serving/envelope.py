"""Around every request: its id, the headers of every answer, the log line, and bodies that nobody read."""

import asyncio
import contextlib
import logging
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from semask.serving.asking import REQUEST_ID
from semask.serving.logs import log
from semask.serving.metrics import Metrics
from semask.serving.refusal import CODES, Refusal, error_body
from semask.serving.security import Guard

LINGER_SECONDS, LINGER_BYTES = 2.0, 64_000_000
"""How long, and how many bytes, of a body that is not wanted are read, so that the client sees why."""
QUIET = ("/healthz", "/readyz", "/metrics")
"""Routes that are logged only when something is wrong."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class Envelope:
    """An application, and around it what every request gets.

    Args:
        app: The application.
        guard: Which hosts a request may name.
        metrics: What is counted.
    """

    def __init__(self, app: ASGIApp, guard: Guard, metrics: Metrics) -> None:
        self.app, self.guard, self.metrics = app, guard, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        self.metrics.open.inc()
        error: BaseException | None = None
        # To the application HEAD is GET; the server sends no body.
        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        try:
            with contextlib.ExitStack() as held:
                scope["state"]["held"] = held
                self.guard.require_host(exchange.headers.get("host", ""))
                await self.app(asked, exchange.receive, exchange.send)
        except Refusal as refusal:
            await exchange.refuse(refusal)
        except asyncio.CancelledError:  # the server's time to stop is over
            if not exchange.status:
                await exchange.refuse(Refusal(503, "the server was stopped: try again", headers={"Retry-After": "1"}))
        except Exception as raised:
            error = raised
            if not exchange.status:
                await exchange.refuse(Refusal(500, "the server failed; its log says why"))
        finally:
            self.metrics.open.dec()
            self._note(asked, exchange, error)

    def _note(self, scope: Scope, exchange: "Exchange", error: BaseException | None) -> None:
        """Count and log a request."""
        route = getattr(scope.get("route"), "path", "other")
        facts = dict(scope["state"].get("facts", {}))
        seconds = (exchange.end or time.monotonic()) - exchange.begin
        status = exchange.status or 499  # the client went away before
        self.metrics.requests.labels(route, facts.get("model", ""), str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        if status >= 400:
            self.metrics.errors.labels(scope["state"].get("code", CODES.get(status, "error"))).inc()
        if route in QUIET and status < 400:
            return
        if "stages" in facts:
            facts["stages"] = {stage: round(value, 4) for stage, value in facts["stages"].items()}
        client = scope.get("client") or ("",)
        log(
            "request",
            level=logging.ERROR if status == 500 else logging.INFO,
            error=error,
            request_id=scope["state"]["request_id"],
            method=scope["method"],
            path=scope["path"],
            status=status,
            code=scope["state"].get("code"),
            seconds=round(seconds, 4),
            client=client[0],
            **facts,
        )


class Exchange:
    """One request and its answer.

    Args:
        scope: The request.
        receive: Gives the parts of its body.
        send: Takes the parts of the answer.

    Attributes:
        status: Of the answer; 0 before it begins.
        end: When it began, by `time.monotonic`; how long the client takes for it is not counted.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.headers = Headers(scope=scope)
        self.begin = time.monotonic()
        self.status, self.end = 0, 0.0
        self.read = self.headers.get("content-length", "0") == "0" and "transfer-encoding" not in self.headers
        self.asked = "expect" not in self.headers  # whether the client sends its body unasked
        given = self.headers.get("x-request-id", "")
        self.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["state"] = {**scope.get("state", {}), "request_id": self.request_id}

    async def receive(self) -> Message:
        """Give a part of the body."""
        self.asked = True
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.read = True
        return message

    async def send(self, message: Message) -> None:
        """Take a part of the answer."""
        if message["type"] == "http.response.start":
            self.status, self.end = message["status"], time.monotonic()
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.request_id
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if not self.read:
                headers["Connection"] = "close"
        elif not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            if not self.read:
                await self._linger()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)  # waits until the client has taken what was sent before

    async def _linger(self) -> None:
        """Read on for a little: a connection that is closed with bytes in it takes the answer with it."""
        left = LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while self.asked and not self.read and left > 0:
                    left -= len((await self.receive()).get("body", b""))

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error."""
        await error_response(refusal, self.scope["state"])(self.scope, self._receive, self.send)


def error_response(refusal: Refusal, state: Any) -> JSONResponse:
    """The answer of a request that is refused; `state` is that of the request."""
    state["code"] = refusal.code
    content = error_body(refusal.code, refusal.message, state["request_id"])
    return JSONResponse(content, refusal.status, headers=refusal.headers)
