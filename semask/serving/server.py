"""The server on the network: connections, signals, and the way it stops."""

import asyncio
import contextlib
import json
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
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


def protocol_of(most: int) -> type[H11Protocol]:
    """The protocol of a connection, of which there are not more than `most`, and whose heads do not come slowly."""

    class Protocol(H11Protocol):
        late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
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
            if self.late is not None:
                self.late.cancel()
            super().connection_lost(exc)

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
        config: As uvicorn has it.
        stopping: Called when it is told to stop.
        drain: Seconds for which it accepts requests after that.
    """

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None], drain: float) -> None:
        super().__init__(config)
        self.stopping, self.drain = stopping, drain
        self.told = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal, without raising it again in the end as uvicorn does."""
        loop = asyncio.get_running_loop()
        kinds = (signal.SIGINT, signal.SIGTERM)
        try:
            for kind in kinds:
                loop.add_signal_handler(kind, self.handle_exit, kind, None)
        except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            with super().capture_signals():
                yield
            return
        try:
            yield
        finally:
            for kind in kinds:
                loop.remove_signal_handler(kind)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop: at first only say that it is not ready; told again, end at once."""
        if self.told:
            self.should_exit = self.force_exit = True
            return
        self.told = True
        self.stopping()
        log("stopping", signal=signal.Signals(sig).name)
        drain = 0.0 if sig == signal.SIGINT else self.drain
        asyncio.get_running_loop().call_later(drain, setattr, self, "should_exit", True)


def listen(settings: Serving) -> socket.socket:
    """Open the port.

    Raises:
        ValueError: If it can't be.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host,
            settings.port,
            type=socket.SOCK_STREAM,
            proto=socket.IPPROTO_TCP,
            flags=socket.AI_PASSIVE,
        )[0]
        opened = socket.socket(family, kind, protocol)  # asyncio turns Nagle's waiting off only where TCP is named
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(min(settings.connections, 2048))
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or reason(error)
        raise ValueError(
            f"can't listen on {quoted(settings.host)}, port {settings.port} ({said}): choose another --port or --host"
        ) from error
    return opened


def config_of(service: Service) -> uvicorn.Config:
    """Settings of uvicorn."""
    settings = service.settings
    return uvicorn.Config(
        make_app(service),
        http=protocol_of(settings.connections),
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
    opened = listen(settings)
    set_up()
    service = make_service(sources, settings, tokens, origin)
    with contextlib.closing(opened):
        await service.start()
        try:
            server = Server(config_of(service), lambda: setattr(service, "stopping", True), settings.drain_seconds)
            host, port = opened.getsockname()[:2]
            log("listening", host=host, port=port, models=list(sources), token=bool(tokens))
            started((host, port, server, service))
            await server.serve(sockets=[opened])
        finally:
            await service.close(limit=settings.grace_seconds)
            log("stopped", level=logging.INFO)
