"""Parts of files by their bytes, from a folder or from a URL: bounded, checked, and tried again where a network fails.

What is read is a function of the name and the bytes asked for: an answer that is cut, too long or has another digest
is never given on.
"""

import asyncio
import hashlib
import logging
import os
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from semask.extras import require
from semask.files.reading import require_file
from semask.files.text import one_line, reason
from semask.files.urls import PACKAGES, is_url, require_url

PATIENCE = 30.0
"""Seconds that an answer may take, and a second more for each `SLOWEST` bytes."""
SLOWEST = 2**18
WAITS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds before each further attempt, each up to half longer, so that many processes do not ask at once."""
AT_ONCE = 16
"""Requests of a process that are under way together."""
_AGAIN = (408, 425, 429)
"""Errors of HTTP below 500 that may be gone the next time."""


class Part(NamedTuple):
    """Bytes that are known.

    Args:
        start: First byte.
        end: The byte after the last one.
        sha256: Their digest, as hexadecimal text.
    """

    start: int
    end: int
    sha256: str

    def of(self, request: "Request", content: bytes) -> bytes:
        """The bytes, of the answer to a request that holds them."""
        return content[self.start - request.start : self.end - request.start]


class Request(NamedTuple):
    """Bytes of a file.

    Args:
        name: Name of the file in its folder.
        start: First byte.
        end: The byte after the last one.
        parts: What is known of them.
        shorter: Whether the file may end before.
    """

    name: str
    start: int
    end: int
    parts: tuple[Part, ...] = ()
    shorter: bool = False

    @classmethod
    def of(cls, name: str, *parts: Part) -> "Request":
        """Ask for parts of a file, and what is between them."""
        return cls(name, min(part.start for part in parts), max(part.end for part in parts), parts)

    def fault(self, content: bytes) -> str | None:
        """What is wrong with an answer; None if it is right."""
        wanted = self.end - self.start
        if len(content) > wanted or (len(content) < wanted and not self.shorter):
            return f"got {len(content):,} of {wanted:,} bytes"
        if any(hashlib.sha256(part.of(self, content)).hexdigest() != part.sha256 for part in self.parts):
            return "the SHA-256 digest is not that of the index: the file was changed or damaged"
        return None


class Ranges(Protocol):
    """Where files are that are read in parts."""

    def read(self, request: Request) -> bytes:
        """Read a part of a file.

        Raises:
            ValueError: If it can't be read, or is not what was asked for.
        """

    def read_all(self, requests: Sequence[Request]) -> list[bytes | ValueError]:
        """Read several parts; each is the bytes, or what is wrong."""


def open_ranges(root: str | Path) -> Ranges:
    """Where the files of a folder, or of a URL, are read from; nothing is opened yet.

    Raises:
        ValueError: If the URL is not accepted, or the package that reads it is missing.
    """
    return Remote(str(root)) if is_url(str(root)) else Folder(Path(root))


class Folder:
    """Files in a folder.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        """Name the folder."""
        return f"Folder({str(self.root)!r})"

    def read(self, request: Request) -> bytes:
        """See `Ranges`."""
        path = require_file(self.root / request.name)
        try:
            with open(path, "rb") as file:
                file.seek(request.start)
                content = file.read(request.end - request.start)
        except OSError as error:
            raise ValueError(f"{one_line(path)}: cannot be read: {error.strerror}") from error
        if fault := request.fault(content):
            raise ValueError(f"{one_line(path)}: {fault}")
        return content

    def read_all(self, requests: Sequence[Request]) -> list[bytes | ValueError]:
        """See `Ranges`."""
        return [_tried(self, request) for request in requests]


def _tried(ranges: Ranges, request: Request) -> bytes | ValueError:
    try:
        return ranges.read(request)
    except ValueError as error:
        return error


class _Final(Exception):
    """What another attempt would not change."""


class Remote:
    """Files below a URL, through fsspec. Credentials are those that its packages find in the environment.

    Args:
        url: http, https, s3 or gs; see `require_url`.

    Raises:
        ValueError: If the URL is not accepted, or the package that reads it is missing.
    """

    def __init__(self, url: str) -> None:
        self.url = require_url(url)
        self.scheme = self.url.partition(":")[0]
        require("fsspec")
        require(PACKAGES[self.scheme])
        self._opened: tuple[int, Any] | None = None

    def __repr__(self) -> str:
        """Name the URL."""
        return f"Remote({self.url!r})"

    def __getstate__(self) -> str:
        """What another process opens it by."""
        return self.url

    def __setstate__(self, url: str) -> None:
        """Open it again when it is needed."""
        self.__init__(url)  # type: ignore[misc]

    def read(self, request: Request) -> bytes:
        """See `Ranges`."""
        (content,) = self.read_all([request])
        if isinstance(content, ValueError):
            raise content
        return content

    def read_all(self, requests: Sequence[Request]) -> list[bytes | ValueError]:
        """See `Ranges`; they are asked for together."""
        from fsspec.asyn import sync

        files = self._files()
        found: list[bytes | ValueError] = sync(files.loop, self._together, files, requests)
        return found

    def _files(self) -> Any:
        """The file system of this process: connections of the process that it was forked from are not its own."""
        if self._opened is None or self._opened[0] != os.getpid():
            if self._opened is not None:
                _of_parents.append(self._opened)  # closing it here would talk on connections of the other process
            self._opened = os.getpid(), _file_system(self.scheme)
        return self._opened[1]

    async def _together(self, files: Any, requests: Sequence[Request]) -> list[bytes | ValueError]:
        few = asyncio.Semaphore(AT_ONCE)

        async def one(request: Request) -> bytes | ValueError:
            async with few:
                return await self._patiently(files, request)

        return list(await asyncio.gather(*(one(request) for request in requests)))

    async def _patiently(self, files: Any, request: Request) -> bytes | ValueError:
        """Ask until there is a right answer, or no hope for one."""
        url = f"{self.url}/{request.name}"
        said = ""
        for wait in (0.0, *WAITS):
            await asyncio.sleep(wait * (1 + random.SystemRandom().random() / 2))  # leaves the seeded numbers alone
            try:
                seconds = PATIENCE + (request.end - request.start) / SLOWEST
                async with asyncio.timeout(seconds):
                    content = await self._ask(files, url, request)
            except TimeoutError:
                said = f"no answer in {seconds:.0f} s"
            except FileNotFoundError:
                return ValueError(f"{one_line(url)}: no such file: give the folder that `semask data pack` wrote")
            except PermissionError as error:
                return ValueError(f"{one_line(url)}: access denied ({_safe(error)}): see docs/shards.md")
            except _Final as error:
                return ValueError(f"{one_line(url)}: {_safe(error)}")
            except Exception as error:  # each package has its own
                said = _safe(error)
            else:
                fault = request.fault(content)
                if fault is None:
                    return content
                said = fault
        return ValueError(f"{one_line(url)}: cannot be read, tried {len(WAITS) + 1} times: {said}")

    async def _ask(self, files: Any, url: str, request: Request) -> bytes:
        if self.scheme in ("http", "https"):
            return await _of_http(files, url, request)
        try:
            content: bytes = await files._cat_file(url, start=request.start, end=request.end)
        except Exception as error:
            if str(error).startswith("Forbidden") or getattr(error, "code", None) in (401, 403):  # as gcsfs says it
                raise PermissionError(str(error)) from error
            raise
        return content


_of_parents: list[Any] = []


def _file_system(scheme: str) -> Any:
    """File system of fsspec, which does not try again by itself."""
    import fsspec

    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a connection that is cut is told of below, once
    options: dict[str, Any] = {"client_kwargs": {"trust_env": True}}
    if scheme == "s3":
        times = {"connect_timeout": PATIENCE, "read_timeout": PATIENCE}
        options = {"config_kwargs": {**times, "retries": {"max_attempts": 1}}}
    if scheme == "gs":  # the class that fsspec would take asks for the kind of each bucket first, by gRPC
        from gcsfs.core import GCSFileSystem

        files = GCSFileSystem(skip_instance_cache=True)
    else:
        files = fsspec.filesystem(scheme, skip_instance_cache=True, **options)
    files.retries = 1
    return files


async def _of_http(files: Any, url: str, request: Request) -> bytes:
    """Ask a server for a range, and read no more than that, whatever it sends."""
    session = await files.set_session()
    head = {"Range": f"bytes={request.start}-{request.end - 1}", "Accept-Encoding": "identity"}
    async with session.get(files.encode_url(url), headers=head) as answer:
        status = answer.status
        if status in (404, 410):
            raise FileNotFoundError(url)
        if status in (401, 403, 407):
            raise PermissionError(f"HTTP {status}")
        if status == 416:  # it has no bytes there
            return b""
        if status == 200 and request.start:
            raise _Final("the server sends whole files only: use one that serves ranges of bytes")
        if status not in (200, 206):
            text = f"HTTP {status}"
            raise OSError(text) if status >= 500 or status in _AGAIN else _Final(text)
        content = bytearray()
        most = request.end - request.start + (status == 206)
        while len(content) < most and (more := await answer.content.read(most - len(content))):
            content += more
        return bytes(content)


def _safe(error: Exception) -> str:
    """What an error says, without what follows ? in URLs, which may be a signature."""
    return re.sub(r"\?[^\s'\")]*", "", reason(error))
