"""The addresses of a server, and how they are described (OpenAPI)."""

from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from semask import __version__
from semask.files.text import one_line
from semask.serving.asking import NUMBER, TIMEOUT, Asked, form_of, seconds_of
from semask.serving.envelope import Envelope, error_response
from semask.serving.formats import FORMS
from semask.serving.label_studio import add_label_studio
from semask.serving.metrics import MEDIA
from semask.serving.page import page_of
from semask.serving.refusal import Refusal
from semask.serving.schemas import Health, ModelInfo, ModelList, Readiness, errors
from semask.serving.service import Service

FormName = Literal["json", "png", "npy", "rle", "polygons", "labelme"]
IMAGES = ("image/jpeg", "image/png", "image/tiff", "image/webp", "image/bmp", "image/gif", "application/octet-stream")
DESCRIPTION = """Semantic segmentation of images. POST the bytes of an image file to /v1/models/{name}/predict, with its
Content-Type; the header Accept or ?format= says what comes back. Errors have one form:
{"error": {"code", "message", "request_id"}}."""


def make_app(service: Service) -> ASGIApp:
    """Make the application of a server.

    Args:
        service: What answers.
    """
    app = FastAPI(
        title="semask",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # behind a proxy with TLS they would lead to http://
    )
    bearer = [Security(HTTPBearer(auto_error=False))] if service.guard.tokens else []

    async def guarded(request: Request) -> None:
        service.guard.require_token(request.headers.get("authorization"))

    closed: Any = {"dependencies": [*bearer, Depends(guarded)]}
    add_health(app, service, closed)
    add_models(app, service, closed)
    if service.fetcher is not None:
        add_label_studio(app, service, service.fetcher)
    add_errors(app)
    page = page_of(app.openapi(), protected=bool(service.guard.tokens))

    @app.get("/", include_in_schema=False)
    async def describe() -> HTMLResponse:
        return HTMLResponse(page)

    inner: ASGIApp = app
    if service.settings.origins:
        inner = CORSMiddleware(
            app,
            allow_origins=list(service.settings.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID", "X-Request-Timeout"],
            expose_headers=["X-Request-ID", "X-Model-Version", "Server-Timing", "Retry-After"],
        )
    return Envelope(inner, service.guard, service.metrics)


def add_health(app: FastAPI, service: Service, closed: Any) -> None:
    """Add what machines ask about the server itself."""

    @app.get("/healthz", tags=["server"])
    async def healthz() -> Health:
        """Whether the server lives."""
        return Health(status="ok")

    @app.get("/readyz", tags=["server"], responses={503: {"model": Readiness, "description": "not ready"}})
    async def readyz() -> JSONResponse:
        """Whether new requests should be sent here: all models can compute, and the server was not told to stop."""
        models = {name: model.version.ready for name, model in service.models.items()}
        content = {"status": "ready" if service.ready else "not ready", "models": models}
        return JSONResponse(content, 200 if service.ready else 503)

    described: Any = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **errors(401)}

    @app.get("/metrics", tags=["server"], responses=described, response_class=Response, **closed)
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        for name, model in service.models.items():
            batcher = model.version.batcher
            service.metrics.ready.labels(name).set(model.version.ready)
            service.metrics.waiting.labels(name).set(0 if batcher is None else len(batcher.waiting))
        return Response(service.metrics.text(), media_type=MEDIA)


def add_models(app: FastAPI, service: Service, closed: Any) -> None:
    """Add what is asked of models."""

    @app.get("/v1/models", tags=["models"], responses=errors(401), **closed)
    async def models() -> ModelList:
        """All models."""
        return ModelList(models=[ModelInfo(**model.about()) for model in service.models.values()])

    @app.get("/v1/models/{name}", tags=["models"], responses=errors(401, 404, 422), **closed)
    async def model(name: str) -> ModelInfo:
        """A model: its classes, and whether it is ready."""
        return ModelInfo(**service.model(name).about())

    @app.post("/v1/models/{name}/reload", tags=["models"], responses=errors(401, 403, 404, 409, 422), **closed)
    async def reload(name: str) -> ModelInfo:
        """Load the model anew and switch to it; no request is lost. If it can't be used the old one stays."""
        service.guard.require_owner()
        found = service.model(name)
        await found.reload()
        return ModelInfo(**found.about())

    body = {media: {"schema": {"type": "string", "format": "binary"}} for media in IMAGES}
    answers: Any = {form.media: {"schema": {"type": "string", "format": "binary"}} for form in FORMS.values()}
    answers |= {form.media: {"schema": {"type": "object"}} for form in FORMS.values() if form.media.endswith("json")}

    @app.post(
        "/v1/models/{name}/predict",
        tags=["models"],
        response_class=Response,
        responses={
            200: {"content": answers, "description": "What the model says of the image"},
            **errors(400, 401, 404, 406, 408, 413, 415, 422, 429, 503, 504),
        },
        openapi_extra={"requestBody": {"required": True, "description": "The bytes of an image file", "content": body}},
        **closed,
    )
    async def predict(
        request: Request,
        name: str,
        format: Annotated[
            FormName | None, Query(description="Form of the answer; without it the header Accept says it, else json")
        ] = None,
        tile: Annotated[
            int | None,
            Query(
                ge=2,
                le=16_384,
                description="Side in pixels of the tiles in which the image is segmented, at its own size",
            ),
        ] = None,
        timeout: Annotated[
            float | None,
            Query(gt=0, le=service.settings.max_deadline, description="Seconds until the answer has to be there"),
        ] = None,
        timeout_header: Annotated[
            str | None,
            Header(
                alias=TIMEOUT,
                description="The same as timeout",
                json_schema_extra={"pattern": f"^{NUMBER.pattern}$"},  # said in words of ours where it is not kept
            ),
        ] = None,
    ) -> Response:
        """Segment an image."""
        found = service.model(name)
        form = form_of(format, request.headers.get("accept", ""))
        asked = Asked(form, tile, seconds_of(timeout, timeout_header, service.settings))
        return await service.predicting(request, found, asked, request.state.request_id)


def add_errors(app: FastAPI) -> None:
    """Give all errors one form."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> JSONResponse:
        return error_response(refusal, request.scope["state"])

    @app.exception_handler(HTTPException)
    async def known(request: Request, error: HTTPException) -> JSONResponse:
        words = {404: "there is nothing at this address: / lists what there is", 405: "not with this method"}
        said = words.get(error.status_code, one_line(error.detail))
        return error_response(Refusal(error.status_code, said, headers=error.headers), request.scope["state"])

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:])) or "request"
        said = f"{one_line(where, longest=80)}: {one_line(first['msg'])}"
        return error_response(Refusal(422, said), request.scope["state"])

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        refusal = Refusal(500, "the server failed; its log says why")
        return error_response(refusal, request.scope["state"])
