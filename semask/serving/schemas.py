"""The forms of answers, as the OpenAPI description has them."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from semask.serving.refusal import CODES


class ErrorDetail(BaseModel):
    """What is wrong."""

    code: str = Field(description="A word for programs")
    message: str = Field(description="One line: what came, what was expected, what to do")
    request_id: str = Field(description="The same as in the header X-Request-ID and in the log")


class Error(BaseModel):
    """The body of every answer with an error."""

    error: ErrorDetail


class ModelClass(BaseModel):
    """A class of a model."""

    id: int
    name: str
    color: list[int] = Field(description="Red, green, blue")


class ModelInfo(BaseModel):
    """A model."""

    name: str
    version: str = Field(description="Changes with the file")
    ready: bool
    loaded: str = Field(description="When it was loaded, UTC")
    precision: str
    channels: int = Field(description="Channels of the images that it takes")
    classes: list[ModelClass]
    fault: str | None = Field(description="Why the newest file is not used; null if it is")


class ModelList(BaseModel):
    """All models."""

    models: list[ModelInfo]


class Health(BaseModel):
    """Whether the server lives."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Whether new requests should be sent here."""

    status: Literal["ready", "not ready"]
    models: dict[str, bool]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe answers with an error."""
    return {
        status: {"model": Error, "description": CODES.get(status, "conflict").replace("_", " ")} for status in statuses
    }


class BackendHealth(BaseModel):
    """Whether a model can compute."""

    status: Literal["UP"]


class BackendSetup(BaseModel):
    """What Label Studio calls the model."""

    model_version: str


class BackendVersions(BaseModel):
    """The versions of a model."""

    versions: list[str]


class BackendWebhook(BaseModel):
    """What came of an event."""

    status: Literal["ignored"]


class TaskError(BaseModel):
    """What is wrong with a task."""

    code: str
    message: str


class TaskPrediction(BaseModel):
    """The prediction of a task, or what is wrong with it."""

    model_version: str | None = None
    result: list[dict[str, Any]] | None = Field(
        None, description="Brushes, one a class; not there if there is an error"
    )
    error: TaskError | None = None


class Predictions(BaseModel):
    """Predictions in the order of the tasks."""

    results: list[TaskPrediction]
