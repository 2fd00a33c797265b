from pathlib import Path

import pytest

from semask.app.models import AppModel, open_models


@pytest.fixture(scope="session")
def street() -> list[AppModel]:
    return open_models([])


@pytest.fixture(scope="session")
def both(trained: Path) -> list[AppModel]:
    """Two models: one without semantic layers, and one with them."""
    return open_models(["street", str(trained)])
