"""The real server in a thread of the tests, with real processes behind it, and a model of a few kilobytes."""

import asyncio
import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from semask.serving.fetching import Origin
from semask.serving.model_process import Source
from semask.serving.server import run
from semask.settings.serving import Serving

TOKEN = "a-token-that-nobody-guesses"


@dataclass
class Running:
    """A server that runs."""

    address: str
    service: Any
    server: Any
    loop: asyncio.AbstractEventLoop

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=60, trust_env=False, **options)

    def call(self, coroutine: Any) -> Any:
        """Run something in the server's own loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)


@contextlib.contextmanager
def running(
    models: dict[str, Path], *, tokens: tuple[str, ...] = (), origin: Origin | None = None, **settings: Any
) -> Iterator[Running]:
    """Run a server in a thread."""
    ready, found = threading.Event(), {}
    values = Serving(**{"port": 0, "drain_seconds": 0.0, "decoders": 1, "threads": 1, "watch_seconds": 0.0, **settings})
    exported = (".onnx", ".xml")
    sources = {
        name: Source(str(path), {}, None, "auto" if path.suffix in exported else "fp32", False, 1, 8)
        for name, path in models.items()
    }

    def started(what: Any) -> None:
        found["server"] = what
        ready.set()

    def serve() -> None:
        try:
            asyncio.run(run(sources, values, tokens, origin, started=started))
        except BaseException as error:
            found["error"] = error
        finally:
            ready.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(120)
    if "error" in found:
        raise found["error"]
    host, port, server, service = found["server"]
    loop = server_loop(service)
    yield Running(f"http://{host}:{port}", service, server, loop)
    loop.call_soon_threadsafe(setattr, server, "should_exit", True)
    thread.join(60)
    assert not thread.is_alive()
    assert "error" not in found, found


def server_loop(service: Any) -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = next(iter(service.models.values())).version.batcher.task.get_loop()
    return loop


def picture(size: tuple[int, int], *, seed: int = 0, format: str = "PNG") -> bytes:
    """An image file with colors of all kinds."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[0] // 8 + 1, size[1] // 8 + 1, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC).save(buffer, format)
    return buffer.getvalue()


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for what the server does in its own thread: a client has its answer a little before it is done with it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
