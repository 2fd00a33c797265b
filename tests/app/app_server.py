"""An app that runs while a test looks at it."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from semask.app.models import AppModel
from semask.app.serving import Serving, running


class Served(NamedTuple):
    """An app that runs."""

    address: str
    files: Path
    """Folder of its uploads."""


@contextlib.contextmanager
def served(models: Sequence[AppModel], serving: Serving) -> Iterator[Served]:
    """Serve the page on a port of its own."""
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
