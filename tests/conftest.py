from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode


class LargestTensor(TorchDispatchMode):
    """Notes how many values the largest tensor has that any operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.values = max(self.values, tensor.numel())
        return result


@pytest.fixture
def largest_tensor() -> LargestTensor:
    """Use as `with largest_tensor: ...`, then look at `largest_tensor.values`."""
    return LargestTensor()


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
