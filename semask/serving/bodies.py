"""Reading the body of a request within limits of bytes and time; memory that all requests share."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import NamedTuple

from starlette.requests import ClientDisconnect, Request

from semask.serving.metrics import Metrics
from semask.serving.refusal import Refusal, late
from semask.settings.serving import Serving

MEGABYTE = 1_000_000


class Body(NamedTuple):
    """A kind of body, and what is said where another one comes."""

    media: tuple[str, ...]
    """What its Content-Type begins with."""
    says: str
    other: str
    how: str


IMAGE = Body(
    ("image/", "application/octet-stream"),
    "the bytes of an image file",
    "no image",
    "send the bytes of the file with its Content-Type, e.g. image/jpeg, or application/octet-stream",
)
JSON = Body(("application/json",), "JSON", "no JSON", "send application/json")


class Budget:
    """Memory that bodies and decoded images may take, all together.

    Args:
        most: Bytes.
        metrics: Where it is shown.
    """

    def __init__(self, most: int, metrics: Metrics) -> None:
        self.most, self.metrics, self.held = most, metrics, 0

    def take(self, count: int) -> None:
        """Take some of it.

        Raises:
            Refusal: 429 if there is not so much left, 413 if there never is.
        """
        if count > self.most:
            raise Refusal(413, "the decoded image needs more memory than the server has for all: make it smaller")
        if self.held + count > self.most:
            message = "the server holds as many images as it has memory for: try again in 1 s"
            raise Refusal(429, message, headers={"Retry-After": "1"})
        self._change(count)

    def give(self, count: int) -> None:
        """Give some of it back."""
        self._change(-count)

    def _change(self, count: int) -> None:
        self.held += count
        self.metrics.memory.set(self.held)


class Share:
    """What one request has taken of a budget.

    Args:
        budget: The budget.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget, self.held = budget, 0

    def grow(self, count: int) -> None:
        """Take more.

        Raises:
            Refusal: 429 if there is not so much left.
        """
        self.budget.take(count)
        self.held += count

    def shrink(self, count: int) -> None:
        """Give some back."""
        self.budget.give(count)
        self.held -= count

    def close(self) -> None:
        """Give all back."""
        self.shrink(self.held)


@contextlib.contextmanager
def share_of(budget: Budget) -> Iterator[Share]:
    """Give a request a share that it fills, and take it back in the end."""
    share = Share(budget)
    try:
        yield share
    finally:
        share.close()


async def read_body(
    request: Request, share: Share, settings: Serving, *, end: float, seconds: float, expected: Body = IMAGE
) -> bytes:
    """Read what a request sends.

    Args:
        request: The request.
        share: Memory that it takes.
        settings: Limits.
        end: When its time is over, by `time.monotonic`.
        seconds: Seconds that it was given, for the message.
        expected: What it has to send.

    Raises:
        Refusal: 400, 408, 413, 415, 429 or 504.
    """
    require_media(request, expected)
    most = settings.max_megabytes * MEGABYTE
    large = Refusal(
        413, f"the body has more than {settings.max_megabytes} MB: send a smaller file", code="body_too_large"
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 15 or int(declared) > most):
        raise large
    body = bytearray()
    limit = min(time.monotonic() + settings.upload_seconds, end)
    try:
        async with asyncio.timeout(limit - time.monotonic()):
            async for chunk in request.stream():
                if len(body) + len(chunk) > most:
                    raise large
                share.grow(len(chunk))
                body += chunk
    except TimeoutError:
        if time.monotonic() >= end:
            raise late(seconds) from None
        raise Refusal(408, f"the body did not come within {settings.upload_seconds:g} s: send it faster") from None
    except ClientDisconnect:
        raise Refusal(499, "the client went away") from None
    if not body:
        raise Refusal(400, f"the body is empty: send {expected.says}", code="empty_body")
    return bytes(body)


def require_media(request: Request, expected: Body) -> None:
    """Refuse bodies of other kinds; forms too, so that no web page can send one unasked.

    Raises:
        Refusal: 415.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not media.startswith(expected.media):
        raise Refusal(415, f"the body is {expected.other} by its Content-Type: {expected.how}")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise Refusal(415, "the body has a Content-Encoding: send it as it is")
