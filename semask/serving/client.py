"""A client of `semask serve`: predictions over HTTP, with time limits and patience when the server is busy.

It believes nothing: what comes has a largest size and has to be what was asked for, or it is an error.
"""

import contextlib
import http.client
import io
import json
import math
import os
import random
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.classes import IGNORE_INDEX, Classes
from semask.data.images import encoded
from semask.files.reading import require_file
from semask.files.text import one_line, reason
from semask.prediction.prediction import Prediction
from semask.serving.connections import GONE, Answer, Connections, TooLarge

BUSY = (429, 503)
"""Answers after which it is tried again."""
MOST_PAUSE = 60.0
"""Seconds of a pause between two attempts, whatever the server says."""
MOST_LABEL = 2**31
"""Bytes of a label map."""
MOST_TEXT = 2**24
"""Bytes of an answer of JSON."""
LABELS = "application/x-npy"
REPLACED = 3
"""How often an image is sent again because the model was replaced meanwhile."""
TOKEN = re.compile(r"[\x21-\x7e]+")


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


class Client:
    """Asks a server for predictions. Several threads may use it; each request has a connection to itself.

    Args:
        address: Of the server, e.g. http://127.0.0.1:8000.
        model: Name of the model; None for the only one that the server has.
        token: Token of the server. It is sent to `address` only; redirects are not followed.
        timeout: Seconds that a prediction may take, pauses included.
        retries: How often it is tried again when the server is busy or can't be reached.

    Raises:
        ValueError: If the address is none, or another argument can't be used.
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
        if token is not None and not TOKEN.fullmatch(token):  # not shown: it is a secret
            raise ValueError("token is empty, or has spaces or characters beyond ASCII: give that of the server")
        if not 0 < timeout <= 86_400:
            raise ValueError(f"timeout is {timeout}: give seconds, above 0 and up to a day")
        if retries < 0:
            raise ValueError(f"retries is {retries}: give 0 or more")
        self.connections = Connections(address)
        self.model, self.timeout, self.retries = model, timeout, retries
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}
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
            ServerError: If the server refuses, does not answer in time, or answers something else.
            ValueError: If the image can't be read.
        """
        end = time.monotonic() + self.timeout
        body = body_of(image)
        name = model or self.model or self._only(end)
        query = "" if tile is None else f"?tile={tile}"
        headers = {"Content-Type": "application/octet-stream", "Accept": LABELS}
        for _ in range(REPLACED):
            answer = self._ask("POST", f"{path_of(name)}/predict{query}", end, body, headers, most=MOST_LABEL)
            classes = self._classes(name, answer.headers.get("x-model-version", ""), end)
            if classes is not None:
                return Prediction(label_of(answer.body, len(classes)), None, (), classes)
        raise ServerError("the model was replaced again and again while it was asked: try again later")

    def models(self) -> list[dict[str, Any]]:
        """What the server says of its models.

        Raises:
            ServerError: If it does not answer.
        """
        return self._models(time.monotonic() + self.timeout)

    def close(self) -> None:
        """Close the connections."""
        self.connections.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _models(self, end: float) -> list[dict[str, Any]]:
        with understood():
            found = self._json("/v1/models", end)["models"]
            if not all(isinstance(model["name"], str) for model in found):
                raise TypeError
            return list(found)

    def _only(self, end: float) -> str:
        """Name of the only model of the server."""
        names: list[str] = [model["name"] for model in self._models(end)]
        if len(names) != 1:
            raise ServerError(f"the server has several models: give one of {one_line(', '.join(names))}")
        self.model = names[0]
        return names[0]

    def _classes(self, name: str, version: str, end: float) -> Classes | None:
        """Classes of a version of a model; None if the server has another one by now."""
        if (name, version) not in self.classes:
            described = self._json(path_of(name), end)
            with understood():
                if version not in ("", described["version"]):  # a proxy may have left it out
                    return None
                rows = described["classes"]
                values = {"classes": [row["name"] for row in rows], "palette": [row["color"] for row in rows]}
                self.classes[name, version] = Classes.from_dict(values)
        return self.classes[name, version]

    def _json(self, path: str, end: float) -> Any:
        answer = self._ask("GET", path, end, most=MOST_TEXT)
        with understood():
            return json.loads(answer.body)

    def _ask(
        self,
        method: str,
        path: str,
        end: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        most: int,
    ) -> Answer:
        """Ask until there is an answer, the server is no longer busy, or time is over."""
        said: BaseException = TimeoutError("time was over before it was asked")
        for attempt in range(self.retries + 1):
            left = end - time.monotonic()
            if left <= 0:
                break
            timed = {} if method == "GET" else {"X-Request-Timeout": f"{max(left, 0.001):.3f}"}
            head = {**self.headers, **timed, **(headers or {})}
            answer: Answer | None = None
            try:
                answer = self.connections.ask(method, path, end, body, head, most)
            except TooLarge as error:
                raise ServerError(f"the answer has more than {error} bytes: is it semask serve?") from None
            except (OSError, http.client.HTTPException, UnicodeError) as error:
                if isinstance(error, ssl.SSLError) and not isinstance(error, GONE):
                    raise ServerError(
                        f"{self.connections.host}: no secure connection ({reason(error)}): if its certificate is one "
                        "of your own, name the file in the environment variable SSL_CERT_FILE; if it has none, give http://"
                    ) from error
                said = error
            if answer is not None and answer.status == 200:
                return answer
            pause = min(max(seconds_of(answer), 0.1 * 2**attempt), MOST_PAUSE) * random.uniform(1.0, 1.25)
            last = attempt == self.retries or time.monotonic() + pause > end
            if answer is not None and (answer.status not in BUSY or last):
                raise refusal(answer)
            if last:
                break
            time.sleep(pause)
        raise ServerError(
            f"{self.connections.host}, port {self.connections.port}: no answer ({reason(said)}): is the server "
            f"running? It had {self.timeout:g} s and {self.retries + 1} attempts"
        ) from said


def label_of(content: bytes, count: int) -> NDArray[np.uint8]:
    """The label map [H, W] in a file of NumPy.

    Raises:
        ServerError: If it is none, or has classes beyond the `count` of the model.
    """
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(file)
        if fortran or dtype != np.uint8 or len(shape) != 2 or math.prod(shape) != len(content) - file.tell():
            raise ValueError(f"it has {dtype} {shape}")
    except ValueError as error:
        raise ServerError(f"the server gave no label map ({reason(error)}): is it semask serve?") from error
    label = np.frombuffer(content, np.uint8, offset=file.tell()).reshape(shape).copy()
    if (label[label != IGNORE_INDEX] >= count).any():
        raise ServerError(f"the server gave a label map with classes that the model lacks: it has {count}")
    return label


def path_of(name: str) -> str:
    """Path of a model."""
    return f"/v1/models/{quote(name, safe='', errors='replace')}"


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
        if pixels.ndim not in (2, 3) or 0 in pixels.shape or (pixels.ndim == 3 and pixels.shape[-1] > 4):
            said = ", ".join(map(str, pixels.shape))
            raise ValueError(f"image has the shape [{said}]: give [H, W], or [H, W, C] of 1 to 4 channels")
        image = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)
    if isinstance(image, Image.Image):
        try:
            return encoded(image, "PNG", compress_level=1)
        except OSError as error:
            raise ValueError(f"image can't be sent ({reason(error)}): convert it to RGB") from error
    raise ValueError(f"image is a {type(image).__name__}: give a path, bytes, a PIL image or an array")


@contextlib.contextmanager
def understood() -> Iterator[None]:
    """Say of what can't be read that no server of ours sent it.

    Raises:
        ServerError: Instead.
    """
    try:
        yield
    except ServerError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ServerError(f"the answer can't be understood ({reason(error)}): is it semask serve?") from error


def seconds_of(answer: Answer | None) -> float:
    """Seconds that the server asks to wait."""
    said = "" if answer is None else answer.headers.get("retry-after", "")
    return float(said) if said.isascii() and said.isdecimal() and len(said) < 9 else 0.0


def refusal(answer: Answer) -> ServerError:
    """The error of an answer."""
    try:
        error = json.loads(answer.body)["error"]
        message, code, request_id = (str(error[name]) for name in ("message", "code", "request_id"))
    except (ValueError, KeyError, TypeError, RecursionError):
        message, code, request_id = "the answer is none of semask serve: is the address right?", "", ""
        if 300 <= answer.status < 400:
            message = f"redirects are not followed; this one leads to {answer.headers.get('location', 'nowhere')}"
    said = f"the server answered {answer.status}: {one_line(message)}"
    return ServerError(said, status=answer.status, code=one_line(code), request_id=one_line(request_id))
