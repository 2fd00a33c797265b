"""Fetching images from the one Label Studio that the server was told of, and from nowhere else.

Where an image lies is said by a request, so it is only a path below /data/ of that address. Redirects are not followed,
no file is opened, and the token of Label Studio goes to its address only.
"""

import asyncio
import json
import os
import re
import ssl
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

import httpx

from semask import __version__
from semask.files.reading import read_text, require_file
from semask.files.schema import quoted
from semask.files.text import reason
from semask.serving.bodies import MEGABYTE, Share
from semask.serving.refusal import Refusal
from semask.settings.serving import Serving

VARIABLE = "SEMASK_LABEL_STUDIO_TOKEN"
"""Environment variable with the token of Label Studio."""
TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{8,4096}")
MOST_ADDRESS = 4096
"""Characters of the address of an image."""
MOST_TOKENS = 65_536
"""Bytes of an answer with a token."""
PORTS = {"http": 80, "https": 443}
SAFE = "/%:@!$&'()*+,;=~"
"""Characters of a path that are not quoted."""


class Origin(NamedTuple):
    """The Label Studio whose images may be fetched."""

    scheme: str
    host: str
    port: int
    prefix: str
    """Path below which it lies; empty, or begins with a slash and ends without one."""
    token: str

    @property
    def root(self) -> str:
        """Its scheme, host and port."""
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{port}"

    @property
    def address(self) -> str:
        """Its address, as it was given."""
        return self.root + self.prefix


def read_origin(settings: Serving, environment: Mapping[str, str] = os.environ) -> Origin | None:
    """Read from which Label Studio images are fetched; None for from none.

    Raises:
        ValueError: If the address is none, or its token is missing.
    """
    if settings.label_studio is None:
        return None
    try:
        url = urlsplit(settings.label_studio)
        right = url.scheme in PORTS and bool(url.hostname) and not (url.query or url.fragment or "@" in url.netloc)
        right = right and settings.label_studio.isascii() and settings.label_studio.isprintable()
        right = right and " " not in settings.label_studio and not climbs(url.path)
        port = url.port or PORTS.get(url.scheme, 0)
    except ValueError:
        right = False
    if not right:
        raise ValueError(
            f"label_studio is {quoted(settings.label_studio)}: give an address such as http://127.0.0.1:8080"
        )
    if settings.label_studio_token_file is not None:
        path = require_file(settings.label_studio_token_file, otherwise="give a file with the token of Label Studio")
        token = read_text(path, most=2**16).strip()
    else:
        token = environment.get(VARIABLE, "").strip()
    if not TOKEN.fullmatch(token):
        raise ValueError(
            f"label_studio needs the token of a user of Label Studio (Account & Settings): set {VARIABLE}, or give "
            "--label_studio_token_file FILE"
        )
    return Origin(url.scheme, url.hostname or "", port, url.path.rstrip("/"), token)


def target_of(address: str, origin: Origin) -> str:
    """Path and query of an image in Label Studio.

    Args:
        address: As a task has it.
        origin: The Label Studio.

    Raises:
        Refusal: 422 if it lies elsewhere.

    >>> target_of("/data/upload/1/a b.jpg", Origin("http", "localhost", 8080, "", "token"))
    '/data/upload/1/a%20b.jpg'
    """
    elsewhere = Refusal(
        422,
        f"the image is at {quoted(address, longest=100)}: only images below {origin.address}/data/ are fetched",
        code="foreign_address",
    )
    if (
        len(address) > MOST_ADDRESS
        or address.startswith("//")
        or "\\" in address
        or any(ord(c) < 32 or ord(c) == 127 for c in address)
    ):
        raise elsewhere
    try:
        url = urlsplit(address)
        port = url.port or PORTS.get(url.scheme)
    except ValueError:
        raise elsewhere from None
    whole = bool(url.scheme or url.netloc)
    if whole and ((url.scheme, url.hostname, port) != origin[:3] or "@" in url.netloc):
        raise elsewhere
    path = url.path
    if not whole and origin.prefix and not path.startswith(f"{origin.prefix}/data/"):
        path = origin.prefix + path
    if not path.startswith(f"{origin.prefix}/data/") or climbs(path) or climbs(url.query):
        raise elsewhere
    try:
        return quote(path, safe=SAFE) + (f"?{quote(url.query, safe=f'{SAFE}?')}" if url.query else "")
    except UnicodeEncodeError:  # half of a pair
        raise elsewhere from None


def climbs(path: str) -> bool:
    """Whether a path has a part "..", however often it is quoted."""
    for _ in range(3):
        if ".." in re.split(r"[/\\&=?;]", path):
            return True
        path = unquote(path)
    return ".." in re.split(r"[/\\&=?;]", path)


class Answer(NamedTuple):
    """An answer of Label Studio."""

    status: int
    body: bytes


class Fetcher:
    """Fetches images.

    Args:
        origin: From where.
        settings: Limits.
    """

    def __init__(self, origin: Origin, settings: Serving) -> None:
        self.origin, self.settings = origin, settings
        self.secure = ssl.create_default_context()
        # A personal access token is not sent with a request, but exchanged for one that is valid for minutes.
        self.personal = origin.token.count(".") == 2
        self.access: str | None = None

    async def fetch(self, address: str, share: Share, *, end: float) -> bytes:
        """Fetch an image.

        Args:
            address: As a task has it.
            share: Memory that it takes.
            end: When time is over, by `time.monotonic`.

        Raises:
            Refusal: If it lies elsewhere, is too large, or does not come.
        """
        target = target_of(address, self.origin)
        seconds = max(min(self.settings.upload_seconds, end - time.monotonic()), 0.0)
        try:
            async with asyncio.timeout(seconds):
                answer = await self._get(target, share)
        except TimeoutError:
            raise Refusal(
                504, f"Label Studio did not send the image within {seconds:.3g} s", code="not_fetched"
            ) from None
        except (OSError, UnicodeError, httpx.HTTPError, httpx.InvalidURL) as error:
            said = reason(error, longest=120)
            raise Refusal(502, f"Label Studio did not send the image ({said})", code="not_fetched") from error
        if answer.status != 200:
            raise Refusal(502, f"Label Studio answered {answer.status}, not with the image{why(answer.status)}")
        if not answer.body:
            raise Refusal(502, "Label Studio sent an empty image")
        return answer.body

    async def _get(self, target: str, share: Share) -> Answer:
        """Ask for an image; once more with a new token if the old one is too old."""
        for _ in range(2):
            known = self.access
            kind = f"Bearer {await self._token(share)}" if self.personal else f"Token {self.origin.token}"
            answer = await self._ask(
                "GET", target, {"Authorization": kind}, share, self.settings.max_megabytes * MEGABYTE
            )
            if not (answer.status == 401 and self.personal and known is not None):
                break
            if self.access == known:
                self.access = None
        return answer

    async def _token(self, share: Share) -> str:
        """The token that requests carry, of a personal one."""
        if self.access is None:
            body = json.dumps({"refresh": self.origin.token}).encode()
            target, headers = f"{self.origin.prefix}/api/token/refresh/", {"Content-Type": "application/json"}
            answer = await self._ask("POST", target, headers, share, MOST_TOKENS, body)
            share.shrink(len(answer.body))
            try:
                token = str(json.loads(answer.body)["access"])
            except (ValueError, KeyError, TypeError, RecursionError):
                token = ""
            if answer.status != 200 or not TOKEN.fullmatch(token):
                raise Refusal(502, f"Label Studio answered {answer.status} to its token: give a valid one")
            self.access = token
        return self.access

    async def _ask(
        self, method: str, target: str, headers: Mapping[str, str], share: Share, most: int, body: bytes | None = None
    ) -> Answer:
        """Send a request and read the answer; its body only if it is good.

        Raises:
            Refusal: 413 if the body is too large, 502 if it is packed.
        """
        head = {"User-Agent": f"semask/{__version__}", "Accept-Encoding": "identity", **headers}
        # Without the proxies and passwords of the environment.
        client = httpx.AsyncClient(verify=self.secure, trust_env=False, follow_redirects=False, timeout=None)
        async with client, client.stream(method, self.origin.root + target, headers=head, content=body) as answer:
            if answer.status_code != 200:
                return Answer(answer.status_code, b"")
            if answer.headers.get("content-encoding", "identity").lower() != "identity":
                raise Refusal(502, "Label Studio sent the image with a Content-Encoding")
            require_small(int(answer.headers.get("content-length", 0)), most)
            found = bytearray()
            async for part in answer.aiter_raw(2**16):
                require_small(len(found) + len(part), most)
                share.grow(len(part))
                found += part
            return Answer(200, bytes(found))


def require_small(count: int, most: int) -> None:
    """Refuse an image before it is read.

    Raises:
        Refusal: 413 if it is too large.
    """
    if count > most:
        raise Refusal(413, f"the image has more than {most // MEGABYTE} MB: make it smaller", code="body_too_large")


def why(status: int) -> str:
    """What to do about a status of Label Studio."""
    if status in (401, 403):
        return ": does its token belong to a user who may see the task?"
    if 300 <= status < 400:
        return ": redirects are not followed"
    return ""
