from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from exported_files import described, write_onnx
from servers import Running, picture, running

collect_ignore = ["conftest.py"]
"""Or a run of this folder and of another with a conftest of its own would look for doctests in both, as one."""


@pytest.fixture(scope="session")
def served(trained: Path) -> Iterator[Running]:
    """A server with a model called mine, for tests that leave it as it is."""
    with running({"mine": trained / "best.safetensors"}) as server:
        yield server


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported file of next to nothing, whose process starts without torch."""
    path: Path = write_onnx(tmp_path_factory.mktemp("small") / "mine.onnx", described())
    return path


@pytest.fixture
def client(served: Running) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


@pytest.fixture(scope="session")
def photo() -> bytes:
    return picture((48, 64))


Post = Callable[..., httpx.Response]


@pytest.fixture
def post(client: httpx.Client) -> Post:
    """Send an image: post(body, format="png", headers={...})."""

    def send(body: Any, *, model: str = "mine", headers: dict[str, str] | None = None, **query: Any) -> httpx.Response:
        head = {"Content-Type": "image/png", **(headers or {})}
        return client.post(f"/v1/models/{model}/predict", content=body, headers=head, params=query)

    return send
