"""The app as it runs while a test looks at it, and the models that it shows: the fixtures `street` and `both`."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from semask.app.models import AppModel, open_models
from semask.app.serving import Serving, running


class Served(NamedTuple):
    """An app that runs."""

    address: str
    files: Path
    """Folder of its uploads."""


@contextlib.contextmanager
def served(models: Sequence[AppModel], serving: Serving) -> Iterator[Served]:
    """Serve the page on a port of its own; skips where the extra is missing."""
    pytest.importorskip("gradio", reason="needs the extra: pip install 'semask[app]'")
    with socket.create_server(("127.0.0.1", 0)) as listening, running(models, serving, intro="Model: test") as server:
        files = Path(os.environ["GRADIO_TEMP_DIR"])
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", files)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def street() -> list[AppModel]:
    return open_models([])


@pytest.fixture(scope="session")
def both(trained: Path) -> list[AppModel]:
    """Two models: one without semantic layers, and one with them."""
    return open_models(["street", str(trained)])
