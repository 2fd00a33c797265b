"""What every exporter gets."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from semask.engines.description import Precision
from semask.model import SeMask


@dataclass(frozen=True)
class Request:
    """A model, and how and where to write it.

    Attributes:
        model: In evaluation mode.
        path: File to write, with the ending of the format.
        sample: A normalised image [1, C, H, W], on the device that the file is for.
        precision: fp32, fp16, bf16 or int8.
        metadata: What the file carries, see `exporters.metadata`.
        calibration: Normalised images [1, C, H, W], for int8.
    """

    model: SeMask
    path: Path
    sample: Tensor
    precision: Precision = "fp32"
    metadata: dict[str, Any] | None = None
    calibration: Iterable[Tensor] = ()

    @property
    def described(self) -> str:
        """The metadata as JSON."""
        return json.dumps(self.metadata or {}, ensure_ascii=False)
