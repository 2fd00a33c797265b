"""What the formats of torch's own share: a graph in 16 bits, and running what takes tensors."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class InHalf(nn.Module):
    """A graph in 16 bits where torch's autocast thinks it safe; images and outputs stay in float32.

    Args:
        graph: Graph in float32.
        dtype: float16 or bfloat16.
        device: Kind of device that it will run on: cpu or cuda.
    """

    def __init__(self, graph: nn.Module, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        self.inner, self.dtype, self.device = graph, dtype, device
        self.eval()

    def forward(self, image: Tensor) -> Any:
        """Segment normalized images [B, C, H, W]."""
        with torch.autocast(self.device, dtype=self.dtype):
            return self.inner(image)


def in_torch(module: Callable[[Tensor], Any], device: str) -> Callable[[Tensor], Sequence[Tensor]]:
    """Run what takes and gives tensors of one device."""

    def run(image: Tensor) -> Sequence[Tensor]:
        with torch.inference_mode():
            outputs = module(image.to(device))
        return [x.float() for x in (outputs if isinstance(outputs, tuple | list) else (outputs,))]

    return run


def details(device: str) -> dict[str, Any]:
    """Version, device and threads of torch."""
    return {"engine": f"torch {torch.__version__}", "device": device, "threads": torch.get_num_threads()}
