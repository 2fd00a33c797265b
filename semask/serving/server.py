"""The server on the network: connections, signals, and the way it stops."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from semask.files.schema import quoted
from semask.files.text import reason
from semask.serving.app import make_app
from semask.serving.fetching import Origin
from semask.serving.logs import log, set_up
from semask.serving.model_process import Source
from semask.serving.refusal import error_body
from semask.serving.service import Service, make_service
from semask.settings.serving import Serving

HEAD_SECONDS = 10.0
"""Seconds in which the head of a request has to come, from its first byte on or from the opening of the connection."""
IDLE_SECONDS = 30
"""Seconds that a connection is kept after an answer."""
MOST_HEAD = 32_768
"""Bytes of the head of a request."""

_SAID = json.dumps(error_body("unavailable", "too many connections: try again", "")).encode()
CROWDED = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_SAID), _SAID)
)
"""What a connection too many gets."""


def protocol_of(most: int, seconds: float) -> type[H11Protocol]:
    """The protocol of a connection, with limits for clients that hold it without need.

    Args:
        most: Connections at a time.
        seconds: In which a client has to take an answer.
    """

    class Protocol(H11Protocol):
        late: asyncio.TimerHandle | None = None
        untaken: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # so that writing is paused until all is taken
            if len(self.connections) > most:
                transport.write(CROWDED)
                transport.close()
                return
            self._wait_for_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.late is not None and (self.cycle is not None and not self.cycle.response_complete):
                self.late.cancel()
                self.late = None
            elif self.late is None and (self.cycle is None or self.cycle.response_complete):
                self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self.late, self.untaken):
                if timer is not None:
                    timer.cancel()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self.untaken = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.untaken is not None:
                self.untaken.cancel()

        def _wait_for_head(self) -> None:
            self.late = self.loop.call_later(HEAD_SECONDS, self._close_late)

        def _close_late(self) -> None:
            self.late = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return Protocol


class Server(uvicorn.Server):
    """A server that stops without losing what it has accepted, and then ends with exit code 0.

    Args:
        service: What answers.
    """

    def __init__(self, service: Service) -> None:
        super().__init__(config_of(service))
        self.service = service
        self.starting: asyncio.Task[None] | None = None
        self.end: float | None = None

    async def start(self) -> bool:
        """Load the models; says whether they are loaded, or the server was told to stop before.

        Raises:
            ValueError: If one can't be loaded.
        """
        self.starting = asyncio.create_task(self.service.start())
        await asyncio.wait({self.starting})
        try:
            await self.starting
        except (asyncio.CancelledError, ValueError):
            if self.end is None:
                raise
        return self.end is None

    def tell(self, number: int) -> None:
        """Stop: at first only say that it is not ready; told again, or while the models are loaded, end at once."""
        settings, again = self.service.settings, self.end is not None
        drain = 0.0 if number == signal.SIGINT else settings.drain_seconds
        self.service.stopping = True
        log("stopping", signal=signal.Signals(number).name)
        if again or self.starting is None or not self.starting.done():
            drain, self.force_exit = 0.0, True
        self.end = time.monotonic() + (0.0 if self.force_exit else drain + settings.grace_seconds)
        if self.force_exit:
            self.service.end()
            if self.starting is not None:
                self.starting.cancel()
        asyncio.get_running_loop().call_later(drain, setattr, self, "should_exit", True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: signals count before it serves, too, and after that."""
        yield

    async def close(self) -> None:
        """Finish what was accepted, and end all processes."""
        end = self.end if self.end is not None else time.monotonic() + self.service.settings.grace_seconds
        await self.service.close(limit=max(end - time.monotonic(), 0.0))
        for task in (left := list(self.server_state.tasks)):  # they are told that it was stopped
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1.0)


@contextlib.contextmanager
def on_signals(tell: Callable[[int], None]) -> Iterator[None]:
    """Let SIGINT and SIGTERM call a function in the loop; not outside of the main thread, which has none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {
        kind: signal.signal(kind, lambda number, frame: loop.call_soon_threadsafe(tell, number))
        for kind in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def bind(settings: Serving) -> socket.socket:
    """Take the port; connections are refused until there is a model, so that nobody waits for an answer.

    Raises:
        ValueError: If it can't be.
    """
    with explained(settings):
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host,
            settings.port,
            type=socket.SOCK_STREAM,
            proto=socket.IPPROTO_TCP,
            flags=socket.AI_PASSIVE,
        )[0]
        opened = socket.socket(family, kind, protocol)  # asyncio turns Nagle's waiting off only where TCP is named
        if sys.platform != "win32":  # where it would allow two servers on one port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(address)
        except OSError:
            opened.close()
            raise
        return opened


@contextlib.contextmanager
def explained(settings: Serving) -> Iterator[None]:
    """Say of an error that the port can't be opened."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or reason(error)
        raise ValueError(
            f"can't listen on {quoted(settings.host)}, port {settings.port} ({said}): choose another --port or --host"
        ) from error


def config_of(service: Service) -> uvicorn.Config:
    """Settings of uvicorn."""
    settings = service.settings
    return uvicorn.Config(
        make_app(service),
        http=protocol_of(settings.connections, settings.upload_seconds),
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=max(round(settings.grace_seconds), 1),
        h11_max_incomplete_event_size=MOST_HEAD,
    )


async def run(
    sources: Mapping[str, Source],
    settings: Serving,
    tokens: Sequence[str],
    origin: Origin | None = None,
    *,
    started: Callable[[Any], None] = lambda server: None,
) -> None:
    """Serve until told to stop.

    Args:
        sources: Models by name.
        settings: Limits.
        tokens: Tokens that requests may carry.
        origin: The Label Studio that it is an ML backend for.
        started: Gets the address, (host, port), and the server, when it listens.

    Raises:
        ValueError: If the port can't be opened, or a model can't be loaded.
    """
    opened = bind(settings)
    set_up()
    service = make_service(sources, settings, tokens, origin)
    server = Server(service)
    with contextlib.closing(opened), on_signals(server.tell):
        try:
            if await server.start():
                with explained(settings):
                    opened.listen(min(settings.connections, 2048))
                host, port = opened.getsockname()[:2]
                log("listening", host=host, port=port, models=list(sources), token=bool(tokens))
                started((host, port, server, service))
                await server.serve(sockets=[opened])
        finally:
            await server.close()
        log("stopped")
