"""The models of a server: loaded, watched, and loaded anew beside the old one without a request being lost."""

import asyncio
import logging
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semask.files.schema import quoted
from semask.serving.logs import log
from semask.serving.metrics import Metrics
from semask.serving.model_process import Source
from semask.serving.refusal import Refusal
from semask.serving.version import Version
from semask.settings.serving import Serving

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names of models, which are parts of addresses."""
Stamp = tuple[tuple[int, int, int], ...]
"""What changes when files are written: time, size and number of each."""


class Model:
    """A model that requests can name.

    Args:
        name: Its name.
        source: Which model, and how to open it.
        settings: Limits.
        metrics: What is counted.

    Attributes:
        version: What answers now.
        fault: Why the newest file is not used; None if it is.
    """

    def __init__(self, name: str, source: Source, settings: Serving, metrics: Metrics) -> None:
        self.name, self.source, self.settings, self.metrics = name, source, settings, metrics
        self.version = Version(name, source, settings, metrics)
        self.fault: str | None = None
        self.reloading = asyncio.Lock()
        self.leaving: dict[asyncio.Task[None], Version] = {}
        self.seen: Stamp = ()

    async def load(self) -> None:
        """Open the model for the first time.

        Raises:
            ValueError: If it can't be opened.
        """
        await self.version.load()
        self.seen = stamp(self.version.about["files"])
        about = self.version.about
        log("model loaded", model=self.name, version=about["version"], precision=about["remark"])

    async def reload(self) -> Version:
        """Load the model anew, and switch to it; requests that came before are answered by the old one.

        Raises:
            Refusal: 409 if the new one can't be used, or another reload is going on; the old one stays.
        """
        if self.reloading.locked():
            raise Refusal(409, "the model is being loaded already: wait for it", code="reloading")
        async with self.reloading:
            new = Version(self.name, self.source, self.settings, self.metrics)
            self.seen = stamp(self.version.about["files"])
            try:
                await new.load()
            except ValueError as error:
                self.metrics.reloads.labels(self.name, "failed").inc()
                log("model not reloaded", model=self.name, level=logging.ERROR, reason=str(error))
                self.fault = self.version.without_paths(str(error))
                said = f"the new model can't be used, the old one stays: {self.fault}"
                raise Refusal(409, said, code="reload_failed") from error
            old, self.version, self.fault = self.version, new, None
            self.metrics.reloads.labels(self.name, "done").inc()
            log("model reloaded", model=self.name, version=new.about["version"], before=old.about["version"])
            leaving = asyncio.create_task(old.close())
            self.leaving[leaving] = old
            leaving.add_done_callback(self.leaving.pop)
            return new

    async def watch(self, seconds: float) -> None:
        """Load the model anew when its file was replaced; a file that is still being written is waited for."""
        changed: Stamp = self.seen
        while True:
            await asyncio.sleep(seconds)
            now = stamp(self.version.about["files"])
            if now and now != self.seen and now == changed and not self.reloading.locked():
                try:
                    await self.reload()
                except Refusal:  # which is logged
                    self.seen = now
            changed = now

    async def close(self) -> None:
        """Finish what waits, and end."""
        await asyncio.gather(self.version.close(), *self.leaving)

    def end(self) -> None:
        """End the processes now."""
        for version in (self.version, *self.leaving.values()):
            version.end()

    def about(self) -> dict[str, Any]:
        """What clients may know."""
        about = self.version.about
        return {
            "name": self.name,
            "version": about["version"],
            "ready": self.version.ready,
            "loaded": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.version.loaded)),
            "precision": about["precision"],
            "channels": about["reading"]["channels"],
            "classes": [
                {"id": number, "name": name, "color": color}
                for number, (name, color) in enumerate(
                    zip(about["classes"]["classes"], about["classes"]["palette"], strict=True)
                )
            ],
            "fault": self.fault,
        }


def stamp(files: Sequence[str]) -> Stamp:
    """What changes when files are written; empty while one is missing."""
    try:
        return tuple((x.st_mtime_ns, x.st_size, x.st_ino) for x in map(os.stat, files))
    except OSError:
        return ()


def named(words: Sequence[str]) -> dict[str, str]:
    """Names of models, from MODEL or NAME=MODEL.

    Raises:
        ValueError: If a name is none, or is there twice.

    >>> named(["runs/mine", "roads=best.safetensors"])
    {'mine': 'runs/mine', 'roads': 'best.safetensors'}
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, source = word.partition("=")
        if not equals or Path(word).exists():
            source, name = word, Path(word).name.partition(".")[0]
        if not NAME.fullmatch(name):
            raise ValueError(
                f"{quoted(word)}: the model needs a name of letters, digits, '.', '_' and '-', at most 64: give "
                "NAME=MODEL"
            )
        if not source:
            raise ValueError(f"{quoted(word)}: which model? give NAME=MODEL")
        if name in found:
            raise ValueError(f"two models are called {name}: give one another name, NAME=MODEL")
        found[name] = source
    return found
