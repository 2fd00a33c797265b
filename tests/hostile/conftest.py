import signal
from collections.abc import Iterator

import pytest

collect_ignore = ["conftest.py"]
"""As in serving/conftest.py."""
SECONDS = 240
"""What never ends is stopped after so long; on a busy machine the slowest test takes a fraction of it."""


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """Stop a reader that would go on for ever."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not done after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
