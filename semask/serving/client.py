"""A client of `semask serve`: one image after another, with time limits and patience when the server is busy."""

import http.client
import io
import json
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.classes import Classes
from semask.data.images import encoded
from semask.files.reading import require_file
from semask.files.text import one_line, reason
from semask.prediction.prediction import Prediction

BUSY = (429, 503)
"""Answers after which it is tried again."""
MOST_PAUSE = 60.0
"""Seconds of a pause between two attempts, whatever the server says."""
MOST_ANSWER = 2**31
"""Bytes of an answer."""
LABELS = "application/x-npy"


class ServerError(ValueError):
    """The server did not answer with a prediction.

    Attributes:
        status: HTTP status; None if there was no answer.
        code: What the error is called.
        request_id: What the log of the server calls the request.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.request_id = status, code, request_id


class Answer(NamedTuple):
    """An answer of the server."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Asks a server for predictions. Not for several threads at once: give each its own.

    Args:
        address: Of the server, e.g. http://127.0.0.1:8000.
        model: Name of the model; None for the only one that the server has.
        token: Token of the server. It is sent to `address` only; redirects are not followed.
        timeout: Seconds that a prediction may take, pauses included.
        retries: How often it is tried again when the server is busy.

    Raises:
        ValueError: If the address is none.
    """

    def __init__(
        self,
        address: str = "http://127.0.0.1:8000",
        *,
        model: str | None = None,
        token: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
    ) -> None:
        url = urlsplit(address)
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.username:
            raise ValueError(f"address is {one_line(address)}: give one such as http://127.0.0.1:8000")
        self.host, self.port, self.prefix = url.hostname, url.port, url.path.rstrip("/")
        self.kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self.model, self.timeout, self.retries = model, timeout, retries
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.connection: http.client.HTTPConnection | None = None
        self.classes: dict[tuple[str, str], Classes] = {}

    def predict(self, image: Any, *, model: str | None = None, tile: int | None = None) -> Prediction:
        """Segment an image.

        Args:
            image: Path of a file, its bytes, a PIL image, or an array [H, W, C] or [H, W] of uint8.
            model: Name of the model, if not that of the client.
            tile: Side in pixels of the tiles in which to segment it; None as the server decides.

        Returns:
            The label map and the classes; without confidence and priors.

        Raises:
            ServerError: If the server refuses, or does not answer in time.
            ValueError: If the image can't be read.
        """
        end = time.monotonic() + self.timeout
        body = body_of(image)
        name = model or self.model or self._only(end)
        query = "" if tile is None else f"?tile={tile}"
        headers = {"Content-Type": "application/octet-stream", "Accept": LABELS}
        answer = self._ask("POST", f"/v1/models/{quote(name, safe='')}/predict{query}", end, body, headers)
        try:
            label = np.lib.format.read_array(io.BytesIO(answer.body), allow_pickle=False)
        except ValueError as error:
            raise ServerError(f"the server gave no label map ({reason(error)}): is it semask serve?") from error
        if label.dtype != np.uint8 or label.ndim != 2:
            raise ServerError("the server gave no label map: is it semask serve?")
        return Prediction(label, None, (), self._classes(name, answer.headers.get("x-model-version", ""), end))

    def models(self) -> list[dict[str, Any]]:
        """What the server says of its models.

        Raises:
            ServerError: If it does not answer.
        """
        found: list[dict[str, Any]] = self._json("/v1/models", time.monotonic() + self.timeout)["models"]
        return found

    def close(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _only(self, end: float) -> str:
        """Name of the only model of the server."""
        names = [str(model["name"]) for model in self._json("/v1/models", end)["models"]]
        if len(names) != 1:
            raise ServerError(f"the server has several models: give one of {', '.join(names)}")
        self.model = names[0]
        return names[0]

    def _classes(self, name: str, version: str, end: float) -> Classes:
        """Classes of a version of a model."""
        if (name, version) not in self.classes:
            described = self._json(f"/v1/models/{quote(name, safe='')}", end)
            rows = described["classes"]
            values = {"classes": [row["name"] for row in rows], "palette": [row["color"] for row in rows]}
            self.classes[name, str(described["version"])] = Classes.from_dict(values)
            self.classes.setdefault((name, version), Classes.from_dict(values))
        return self.classes[name, version]

    def _json(self, path: str, end: float) -> Any:
        return json.loads(self._ask("GET", path, end).body)

    def _ask(
        self, method: str, path: str, end: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask until there is an answer, the server is no longer busy, or time is over."""
        for attempt in range(self.retries + 1):
            left = end - time.monotonic()
            if left <= 0:
                raise ServerError(f"no answer within {self.timeout:g} s: try again later, or give a longer timeout")
            timed = {} if method == "GET" else {"X-Request-Timeout": f"{max(left, 0.001):.3f}"}
            answer: Answer | None = None
            try:
                answer = self._once(method, path, left, body, {**self.headers, **timed, **(headers or {})})
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if attempt == self.retries:
                    raise ServerError(f"{self.host}: no answer ({reason(error)}): is the server running?") from error
            if answer is not None and answer.status == 200:
                return answer
            pause = min(max(seconds_of(answer), 0.1 * 2**attempt), MOST_PAUSE) * random.uniform(1.0, 1.25)
            last = attempt == self.retries or time.monotonic() + pause > end
            if answer is not None and (answer.status not in BUSY or last):
                raise refusal(answer)
            time.sleep(max(min(pause, end - time.monotonic()), 0))
        raise AssertionError

    def _once(self, method: str, path: str, left: float, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        if self.connection is None:
            self.connection = self.kind(self.host, self.port, timeout=left)
        self.connection.timeout = left
        if self.connection.sock is not None:
            self.connection.sock.settimeout(left)
        self.connection.request(method, self.prefix + path, body=body, headers=dict(headers))
        response = self.connection.getresponse()
        if (response.length or 0) > MOST_ANSWER:
            raise http.client.HTTPException("the answer is too large")
        content = response.read()
        if response.will_close:
            self.close()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)


def body_of(image: Any) -> bytes:
    """Bytes of an image file.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return require_file(Path(image), otherwise="give the path of an image").read_bytes()
    if isinstance(image, np.ndarray):
        pixels: NDArray[Any] = image
        if pixels.dtype != np.uint8:
            raise ValueError(f"image has values of type {pixels.dtype}: give uint8, or the path of a file")
        image = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)
    if isinstance(image, Image.Image):
        return encoded(image, "PNG", compress_level=1)
    raise ValueError(f"image is a {type(image).__name__}: give a path, bytes, a PIL image or an array")


def seconds_of(answer: Answer | None) -> float:
    """Seconds that the server asks to wait."""
    said = "" if answer is None else answer.headers.get("retry-after", "")
    return float(said) if said.isascii() and said.isdecimal() and len(said) < 9 else 0.0


def refusal(answer: Answer) -> ServerError:
    """The error of an answer."""
    try:
        error = json.loads(answer.body)["error"]
        message, code, request_id = (str(error[name]) for name in ("message", "code", "request_id"))
    except (ValueError, KeyError, TypeError):
        message, code, request_id = "the answer is none of semask serve", "", ""
    said = f"the server answered {answer.status}: {one_line(message)}"
    return ServerError(said, status=answer.status, code=one_line(code), request_id=one_line(request_id))
