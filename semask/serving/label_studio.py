"""The server as ML backend of Label Studio: /health, /setup, /predict, /webhook and /versions below a model.

Label Studio sends tasks, and their images are fetched from it (fetching.py). Each then goes the way of an image that
was uploaded. What is wrong with a task is said in its place, and the others are answered.
"""

import asyncio
import json
import time
from typing import Any, NamedTuple

from fastapi import Depends, FastAPI, Request, Security
from fastapi.responses import Response
from fastapi.security import HTTPBasic, HTTPBearer

from semask.serving.asking import Asked
from semask.serving.bodies import JSON, Share, read_body, share_of
from semask.serving.fetching import Fetcher
from semask.serving.formats import LABEL_STUDIO
from semask.serving.models import Model
from semask.serving.predicting import Timing, while_connected
from semask.serving.refusal import Refusal
from semask.serving.schemas import BackendHealth, BackendSetup, BackendVersions, BackendWebhook, Predictions, errors
from semask.serving.service import Service

SECONDS = 90.0
"""Seconds in which all tasks of a request are answered: Label Studio waits for 100."""
MOST_FOUND = 2**28
"""Bytes of what is read from a request."""
PREFIX = "/v1/models/{name}/label-studio"
SETUP_BODY = {"type": "object", "properties": {"schema": {"type": "string", "description": "The labeling config"}}}
PREDICT_BODY = {
    "type": "object",
    "required": ["tasks"],
    "properties": {
        "tasks": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "data": {
                        "type": "object",
                        "description": "Addresses of images: /data/...",
                        "properties": {"image": {"type": "string"}},
                    }
                },
            },
        },
        "label_config": {"type": "string", "description": "The labeling config, XML"},
    },
}


class Tags(NamedTuple):
    """What an answer says besides the regions."""

    from_name: str
    to_name: str
    ignored: bool
    """Whether the labeling config has a label for pixels without a class."""


class Backend:
    """Answers Label Studio.

    Args:
        service: What answers.
        fetcher: What fetches images.
    """

    def __init__(self, service: Service, fetcher: Fetcher) -> None:
        self.service, self.fetcher = service, fetcher

    async def setup(self, request: Request, name: str) -> BackendSetup:
        """Say what the model is called, if its classes fit the labeling config.

        Raises:
            Refusal: If they don't, or the request is none.
        """
        model = self.service.model(name)
        seconds = self.service.settings.deadline
        request.state.facts = {"model": name}
        with share_of(self.service.predicting.budget) as share:
            found = await self._read(request, model, share, time.monotonic() + seconds, seconds)
        if found["fault"] is not None:
            request.state.facts["reason"] = found["fault"]
            raise Refusal(422, found["fault"], code="labeling_config")
        return BackendSetup(model_version=called(model))

    async def predict(self, request: Request, name: str) -> bytes:
        """Answer tasks.

        Raises:
            Refusal: If the request is none, or the server is too busy to begin.
        """
        model, predicting = self.service.model(name), self.service.predicting
        request.state.facts = {"model": name}
        seconds = min(SECONDS, self.service.settings.max_deadline)
        end = time.monotonic() + seconds
        batcher = model.version.batcher
        assert batcher is not None
        batcher.require_room(end)  # before the body is read
        share = request.state.held.enter_context(share_of(predicting.budget))  # until the answer is taken
        found = await self._read(request, model, share, end, seconds)
        tags = Tags(found["from_name"], found["to_name"], found["ignored"])
        request.state.facts["tasks"] = len(found["images"])
        classes = model.version.about["classes"]
        free = asyncio.Semaphore(self.service.settings.max_batch)

        async def answer(image: dict[str, str]) -> bytes:
            try:
                if found["fault"] is not None:
                    raise Refusal(422, found["fault"], code="labeling_config")
                if "image" not in image:
                    raise Refusal(422, image["fault"], code="invalid")
                async with free:
                    made = await self._patiently(image["image"], model, tags, classes, end)
                share.grow(len(made))
                return made
            except Refusal as refusal:
                request.state.facts.setdefault("reason", refusal.message)
                request.state.facts["failed"] = request.state.facts.get("failed", 0) + 1
                return json.dumps({"error": {"code": refusal.code, "message": refusal.message}}).encode()

        async def answers() -> list[bytes]:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(answer(image)) for image in found["images"]]
            return [task.result() for task in tasks]

        made = await while_connected(request, answers())
        return b'{"results": [' + b", ".join(made) + b"]}"

    async def _read(self, request: Request, model: Model, share: Share, end: float, seconds: float) -> dict[str, Any]:
        """Read a request in a process with limits."""
        body = await read_body(request, share, self.service.settings, end=end, seconds=seconds, expected=JSON)
        task = {"task": "tasks", "classes": model.version.about["classes"]}
        answer = await self.service.predicting.ask(task, [body], end, seconds, MOST_FOUND)
        share.shrink(len(body))
        found: dict[str, Any] = json.loads(answer.parts[0])
        return found

    async def _patiently(self, address: str, model: Model, tags: Tags, classes: Any, end: float) -> bytes:
        """Answer a task; while the server is too busy, try again."""
        while True:
            try:
                return await self._answer(address, model, tags, classes, end)
            except Refusal as refusal:
                pause = float(refusal.headers.get("Retry-After", 0))
                if refusal.status != 429 or time.monotonic() + pause > end:
                    raise
            await asyncio.sleep(pause)

    async def _answer(self, address: str, model: Model, tags: Tags, classes: Any, end: float) -> bytes:
        """Fetch the image of a task, segment it, and make the prediction.

        Raises:
            Refusal: If it can't be done.
        """
        if self.service.stopping:
            raise Refusal(503, "the server is being stopped: try again later")
        if time.monotonic() >= end:
            raise Refusal(504, f"not done within {SECONDS:g} s: ask for fewer tasks at once")
        predicting = self.service.predicting
        seconds = min(self.service.settings.deadline, end - time.monotonic())
        end = time.monotonic() + seconds
        timing, asked = Timing(predicting.metrics), Asked(LABEL_STUDIO, None, seconds)
        with share_of(predicting.budget) as share:
            body = await self.fetcher.fetch(address, share, end=end)
            timing.done("fetch")
            found = await predicting.segment(model, body, share, asked, end, timing)
            del body
            if found.version.about["classes"] != classes:
                raise Refusal(503, "the model was replaced by one with other classes: try again")
            about = {**tags._asdict(), "model_version": called(model, found.version.about["version"])}
            return await predicting.encode(found, about, asked, end, timing)


def called(model: Model, version: str | None = None) -> str:
    """What Label Studio calls a model; another one after the file was replaced, so that it asks for new predictions."""
    return f"{model.name} {version or model.version.about['version']}"


def add_label_studio(app: FastAPI, service: Service, fetcher: Fetcher) -> None:
    """Add what Label Studio asks for.

    Args:
        app: The application.
        service: What answers.
        fetcher: What fetches images.
    """
    backend = Backend(service, fetcher)

    async def guarded(request: Request) -> None:
        service.guard.require_token(request.headers.get("authorization"), basic=True)

    schemes: list[Any] = [HTTPBearer(auto_error=False), HTTPBasic(auto_error=False)] if service.guard.tokens else []
    # The guard comes first: it is what refuses, the schemes are for the description only.
    common: Any = {"tags": ["label studio"]}
    closed: Any = {**common, "dependencies": [Depends(guarded), *map(Security, schemes)]}
    bodies = (400, 401, 404, 408, 413, 415, 422, 429, 503, 504)

    @app.get(f"{PREFIX}/health", responses=errors(404, 422, 503), **common)
    async def health(name: str) -> BackendHealth:
        """Whether the model can compute."""
        if not service.model(name).version.ready or service.stopping:
            raise Refusal(503, "the model is not available: try again later")
        return BackendHealth(status="UP")

    @app.post(f"{PREFIX}/setup", responses=errors(*bodies), openapi_extra=body_of(SETUP_BODY), **closed)
    async def setup(request: Request, name: str) -> BackendSetup:
        """Whether the labeling config has the classes of the model. The address and token in it are not used."""
        return await backend.setup(request, name)

    described: Any = {200: {"model": Predictions, "description": "Predictions"}, **errors(*bodies)}

    @app.post(f"{PREFIX}/predict", responses=described, openapi_extra=body_of(PREDICT_BODY), **closed)
    async def predict_tasks(request: Request, name: str) -> Response:
        """Predictions for tasks, one for each."""
        return Response(await backend.predict(request, name), media_type="application/json")

    @app.post(f"{PREFIX}/webhook", responses=errors(404, 422), **common)
    async def webhook(name: str) -> BackendWebhook:
        """Nothing: the server does not train. Label Studio sends no token here."""
        service.model(name)
        return BackendWebhook(status="ignored")

    @app.get(f"{PREFIX}/versions", responses=errors(401, 404, 422), **closed)
    async def versions(name: str) -> BackendVersions:
        """The version that there is."""
        return BackendVersions(versions=[called(service.model(name))])


def body_of(schema: dict[str, Any]) -> dict[str, Any]:
    """Describe a body."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
