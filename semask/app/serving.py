"""The server of the app: where it listens, who may come in, and the folder that goes with it."""

import asyncio
import contextlib
import hmac
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from semask.app.models import AppModel
from semask.app.segmenting import Limits
from semask.files.atomic import temporary_folder
from semask.files.hosts import is_loopback
from semask.files.reading import read_text
from semask.files.text import one_line, reason

if TYPE_CHECKING:
    import uvicorn

FIRST_PORT, PORTS = 7860, 100
"""Where it is looked for a free port."""
PASSWORD = "SEMASK_APP_PASSWORD"
"""Environment variable with the password."""
SHORTEST = 8
"""Characters of a password."""
WRONG = 1.0
"""Seconds that the answer to a wrong password takes."""
SECONDS = 60
"""Of a minute."""
LEAVING = 3
"""Seconds that open pages get when the server stops."""
MOST = {"megabytes": 10_000, "megapixels": 10_000, "frames": 10**6, "minutes": 10_000, "waiting": 1000}
"""Settings that are at least 1, and what they are at most."""
LOCAL = frozenset(("127.0.0.1", "localhost", "::1"))
ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_ALLOWED_PATHS": "",
    "GRADIO_NUM_WORKERS": "0",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MPLBACKEND": "agg",
}
"""Nothing is reported, and no setting of the environment opens what the app keeps shut.

With a backend that is named, Gradio does not load all of Matplotlib when the first photo comes.
"""


@dataclass(frozen=True)
class Serving:
    """How the page is served.

    Attributes:
        host: Address to listen on.
        port: Port; None for the first free one from 7860 on.
        user: Name to log in with.
        password: Password to log in with; None: there is none, on this machine only.
        megabytes: Size of an upload.
        megapixels: Size of an image.
        frames: Frames of a film.
        minutes: Time after which an upload is deleted.
        waiting: Photos of all users that may wait for their turn.
        tile: Side of the tiles in which images are segmented; None for one piece.
        overlap: Pixels that tiles share with their neighbors.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    user: str = "semask"
    password: str | None = None
    megabytes: int = 50
    megapixels: int = 50
    frames: int = 3000
    minutes: int = 60
    waiting: int = 16
    tile: int | None = None
    overlap: int = 128

    def __post_init__(self) -> None:
        """Refuse what is out of range, and other machines without a password."""
        for name, most in MOST.items():
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise ValueError(f"{name} is {value}: give 1 to {most:,}")
        if self.port is not None and not 1 <= self.port <= 65_535:
            raise ValueError(f"port is {self.port}: give 1 to 65535")
        if self.password is not None and len(self.password) < SHORTEST:
            raise ValueError(f"the password has {len(self.password)} characters: give at least {SHORTEST}")
        if not self.user.strip():
            raise ValueError("user is empty: give a name to log in with")
        if self.password is None and not is_loopback(self.host):
            raise ValueError(
                f"host {one_line(self.host, longest=80)} lets other machines in, which needs a password: give "
                f"--password_file FILE, or set {PASSWORD}"
            )


def find_password(file: str | None) -> str | None:
    """The password of a file, or of the environment; None if there is neither.

    Raises:
        ValueError: If the file can't be read or is empty.
    """
    if file is None:
        return os.environ.get(PASSWORD) or None
    words = read_text(file, most=4096, otherwise="give a file that holds the password").strip("\r\n")
    if not words:
        raise ValueError(f"{one_line(file)}: the file of the password is empty")
    return words


def listen(host: str, port: int | None) -> socket.socket:
    """Begin to listen, on the first free port if none is given.

    Raises:
        ValueError: If the port is taken, or there is no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports = range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else [port]
    said = ""
    for number in ports:
        try:
            return socket.create_server((host.strip("[]"), number), family=family)
        except OSError as error:
            said = (error.strerror or reason(error)).partition(" (while")[0]  # Python repeats the address
    where = f"port {port}" if port is not None else f"ports {ports[0]} to {ports[-1]}"
    raise ValueError(f"{one_line(host, longest=80)}, {where}: {said}: give another --port or --host")


def serve(
    models: Sequence[AppModel],
    serving: Serving,
    listening: socket.socket,
    *,
    intro: str,
    say: Callable[[str], None],
) -> None:
    """Serve the page until somebody stops it.

    Args:
        models: What photos are put through.
        serving: How.
        listening: Where, see `listen`.
        intro: Line of the page that says which model is used.
        say: Is told the address.
    """
    with running(models, serving, intro=intro) as server:
        number = listening.getsockname()[1]
        name = f"[{serving.host.strip('[]')}]" if ":" in serving.host else serving.host
        say(f"http://{name}:{number} (Ctrl-C stops it)")
        with contextlib.suppress(KeyboardInterrupt), _ended_by_system():
            server.run(sockets=[listening])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a photo may be under way: who does not wait for it ends all at once


@contextlib.contextmanager
def running(models: Sequence[AppModel], serving: Serving, *, intro: str) -> Iterator["uvicorn.Server"]:
    """Make a server, whose folder is removed in the end."""
    with temporary_folder() as folder, _environment(ENVIRONMENT | {"GRADIO_TEMP_DIR": str(folder / "files")}):
        (folder / "files").mkdir()
        yield _server(models, serving, intro, folder)


def _server(models: Sequence[AppModel], serving: Serving, intro: str, folder: Path) -> "uvicorn.Server":
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI

    from semask.app.filming import FilmLimits
    from semask.app.gate import Gate, Rules
    from semask.app.page import make_page, style, theme

    limits = Limits(serving.megapixels * 10**6, serving.tile, serving.overlap)
    kept = SECONDS * serving.minutes
    film = FilmLimits(serving.frames, limits.pixels)
    page, films = make_page(models, limits, film=film, folder=folder, intro=intro, kept=kept, waiting=serving.waiting)
    shut: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": None}
    application = gr.mount_gradio_app(
        FastAPI(**shut),
        page,
        path="/",
        server_name=serving.host,
        footer_links=[],
        run_history=False,
        app_kwargs=shut,
        auth=None if serving.password is None else _login(serving.user, serving.password),
        allowed_paths=[],
        show_error=False,
        max_file_size=serving.megabytes * 2**20,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=style(),
    )
    rules = Rules(folder / "files", serving.megabytes * 2**20, LOCAL if is_loopback(serving.host) else None)
    gate = Gate(application, rules)
    config = uvicorn.Config(
        gate,
        log_level="warning",
        use_colors=False,  # else it asks a standard output that may be closed
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=LEAVING,
        ws="none",
    )

    class Server(uvicorn.Server):
        """Ends what would go on for as long as a page is open."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """Stop; Ctrl-C once more, while it does so, changes nothing."""
            if not self.should_exit:
                super().handle_exit(sig, frame)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            films.stop_all()
            gate.close()
            await super().shutdown(sockets)

    return Server(config)


def _login(user: str, password: str) -> Callable[[str, str], Awaitable[bool]]:
    async def right(name: str, word: str) -> bool:
        same = [hmac.compare_digest(a.encode(), b.encode()) for a, b in ((name, user), (word, password))]
        if not all(same):
            await asyncio.sleep(WRONG)
        return all(same)

    return right


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables of the environment for a time."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _ended_by_system() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does, so that the folder is removed."""
    if sys.platform == "win32":
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
