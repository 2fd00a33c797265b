"""A process that works for the server, one message at a time; when it dies or takes too long it is started again."""

import asyncio
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from semask.serving.messages import MOST_PART, Block, Message, receive, send

ENDING = (signal.SIGINT, signal.SIGTERM)
"""Signals that tell the server to stop; a terminal and systemd send them to all its processes."""
Work = Callable[[dict[str, Any], list[bytes]], tuple[dict[str, Any], Sequence[Block]]]
"""Makes the answer to a message."""


class Died(Exception):
    """The process ended before it answered."""


class TooSlow(Exception):
    """The process did not answer in time, and was ended."""


class Failed(ValueError):
    """The process could not begin; the message says why."""


class Helper:
    """A process of the server's own.

    Args:
        main: What runs in it: gets its end of the connection and `arguments`, sends {"ready": ...} or {"failure": ...}
            first, then an answer to each message.
        arguments: What is handed to it; has to be plain.
        name: What logs call it.

    Attributes:
        ready: What it said when it began.
        starts: How many times it was started.
    """

    def __init__(self, main: Callable[..., None], arguments: tuple[Any, ...], *, name: str) -> None:
        self.main, self.arguments, self.name = main, arguments, name
        self.ready: dict[str, Any] = {}
        self.starts = 0
        self.closed = False
        self.process: Any = None
        self.connection: Connection | None = None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self.lock = threading.Lock()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and bool(self.process.is_alive())

    async def start(self, *, limit: float) -> dict[str, Any]:
        """Start the process anew and wait until it is ready.

        Raises:
            Failed: If it says that it can't begin.
            Died: If it ends before.
            TooSlow: If it takes longer than `limit` seconds.
        """
        self.kill()
        message = await self._within(self._begin, limit=limit)
        if "failure" in message.head:
            self.kill()
            raise Failed(str(message.head["failure"]))
        self.ready = dict(message.head["ready"])
        return self.ready

    async def ask(
        self, head: dict[str, Any], parts: Sequence[Block] = (), *, limit: float, most: int = MOST_PART
    ) -> Message:
        """Send a message and wait for the answer; one at a time.

        Args:
            head: The message.
            parts: Its blocks of bytes.
            limit: Seconds.
            most: Bytes that a block of the answer may have.

        Raises:
            Died: If the process ended.
            TooSlow: If it took too long.
        """
        return await self._within(self._exchange, head, parts, most, limit=limit)

    async def _within(self, function: Callable[..., Message], *arguments: Any, limit: float) -> Message:
        job = asyncio.get_running_loop().run_in_executor(self.thread, function, *arguments)
        try:
            done, _ = await asyncio.wait({job}, timeout=limit)
        except asyncio.CancelledError:
            self.kill()  # nobody would take the answer, and the next question would get it
            job.add_done_callback(lambda x: x.exception())
            raise
        if not done:
            self.kill()
            await asyncio.wait({job})
            job.exception()
            raise TooSlow(f"{self.name} did not answer within {limit:g} s")
        try:
            return job.result()
        except (OSError, EOFError, ValueError) as error:
            self.kill()
            raise Died(f"{self.name} ended unexpectedly") from error

    def _begin(self) -> Message:
        self._hang_up()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=self.main, args=(theirs, *self.arguments), name=self.name, daemon=True)
        block_signals()
        process.start()
        theirs.close()  # so that its end is noticed
        with self.lock:
            self.process, self.connection = process, ours
            self.starts += 1
            if self.closed:
                process.kill()
        return receive(ours)

    def _exchange(self, head: dict[str, Any], parts: Sequence[Block], most: int) -> Message:
        connection = self.connection
        if connection is None:
            raise EOFError
        send(connection, head, parts)
        return receive(connection, most=most)

    def _hang_up(self) -> None:
        """Close the connection; in the thread that reads from it, since a number of it may be used again at once."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def kill(self) -> None:
        """End the process now; who waits for its answer is told."""
        with self.lock:
            process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.join()

    def close(self) -> None:
        """End the process and what belongs to it."""
        with self.lock:
            closed, self.closed = self.closed, True
        self.kill()
        if closed:
            return
        self.thread.submit(self._hang_up)
        self.thread.shutdown(wait=False)


def serve_messages(connection: Connection, ready: dict[str, Any], work: Work) -> None:
    """Say that the process can begin, and answer messages until the server is gone; runs in the process."""
    try:
        send(connection, {"ready": ready})
        while True:
            message = receive(connection)
            head, parts = work(message.head, message.parts)
            del message
            send(connection, head, parts)
            del head, parts
    except (EOFError, OSError):
        return


def block_signals() -> None:
    """Keep signals from a process that this thread is about to start, until it ignores them."""
    if sys.platform != "win32":
        resource_tracker.ensure_running()  # which lets them through once it has started a process of its own
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def ignore_signals() -> None:
    """Leave it to the server to stop this process: it finishes what it has accepted."""
    for kind in ENDING:
        signal.signal(kind, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
