"""All that a server consists of, but for the network."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from semask.files.schema import quoted
from semask.serving.fetching import Fetcher, Origin
from semask.serving.logs import log
from semask.serving.metrics import Metrics
from semask.serving.model_process import Source
from semask.serving.models import Model
from semask.serving.pool import Pool
from semask.serving.predicting import Predicting
from semask.serving.refusal import Refusal
from semask.serving.security import Guard
from semask.settings.serving import Serving


@dataclass
class Service:
    """Models, the processes around them, and who may use them.

    Attributes:
        settings: Limits.
        models: Models by name.
        pool: What decodes and encodes.
        predicting: What answers.
        guard: Who may ask.
        metrics: What is counted.
        fetcher: What fetches images of Label Studio; None if it is no ML backend.
        stopping: Whether the server was told to stop.
    """

    settings: Serving
    models: dict[str, Model]
    pool: Pool
    predicting: Predicting
    guard: Guard
    metrics: Metrics
    fetcher: Fetcher | None = None
    stopping: bool = False

    def __post_init__(self) -> None:
        self.watching: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Load the models and start the processes; `close` has to follow, whatever comes of it.

        Raises:
            ValueError: If a model can't be loaded.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.pool.start())
                for model in self.models.values():
                    group.create_task(model.load())
        except* ValueError as errors:
            first: BaseException = errors
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise first from None
        if self.settings.watch_seconds > 0:
            seconds = self.settings.watch_seconds
            self.watching = [asyncio.create_task(model.watch(seconds)) for model in self.models.values()]

    async def close(self, *, limit: float) -> None:
        """Finish what waits, and end all processes; after `limit` seconds what still waits is lost."""
        for task in self.watching:
            task.cancel()
        closing = [asyncio.create_task(model.close()) for model in self.models.values()]
        await asyncio.wait(closing, timeout=limit)
        self.end()

    def end(self) -> None:
        """End all processes now; Python would wait for ever for one that is left."""
        for end in (*(model.end for model in self.models.values()), self.pool.close):
            try:
                end()
            except Exception as error:
                log("a process was not ended", level=logging.ERROR, error=error)

    def model(self, name: str) -> Model:
        """Find a model.

        Raises:
            Refusal: 404 if there is none of that name.
        """
        if name not in self.models:
            known = ", ".join(self.models)
            raise Refusal(404, f"there is no model {quoted(name)}: ask for one of {known}", code="unknown_model")
        return self.models[name]

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""
        return not self.stopping and all(model.version.ready for model in self.models.values())


def make_service(
    sources: Mapping[str, Source], settings: Serving, tokens: Sequence[str], origin: Origin | None = None
) -> Service:
    """Put a server together; nothing is started.

    Args:
        sources: Models by name.
        settings: Limits.
        tokens: Tokens that requests may carry.
        origin: The Label Studio that it is an ML backend for.
    """
    metrics = Metrics()
    pool = Pool(settings, metrics)
    models = {name: Model(name, source, settings, metrics) for name, source in sources.items()}
    fetcher = None if origin is None else Fetcher(origin, settings)
    predicting = Predicting(settings, pool, metrics)
    return Service(settings, models, pool, predicting, Guard(settings, tokens), metrics, fetcher)
