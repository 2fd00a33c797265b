"""Libraries that tell their makers over the network that they are used: not from here."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

REPORTER = "openvino_telemetry"
"""What OpenVINO and NNCF send with, as soon as they are imported; without it they send nothing."""
SWITCH = "ORT_DISABLE_TELEMETRY"
"""Environment variable that onnxruntime reads when it is imported; else it writes an identifier of the machine."""


@contextlib.contextmanager
def declined() -> Iterator[None]:
    """Import openvino, nncf or onnxruntime in here: nothing is sent, and no identifier is written."""
    os.environ.setdefault(SWITCH, "1")
    modules: dict[str, Any] = sys.modules  # None stands for a package that is not there
    known = modules.get(REPORTER)
    modules[REPORTER] = None
    try:
        yield
    finally:
        del modules[REPORTER]
        if known is not None:
            modules[REPORTER] = known
