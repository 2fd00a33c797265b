"""torch.export: the graph in torch's own operations, for torch without this package."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semask.acceleration.accelerate import plain
from semask.engines.description import KEY, Precision
from semask.engines.graph import Graph, example
from semask.engines.request import Request
from semask.model import SeMask

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
        """Segment normalised images [B, C, H, W]."""
        with torch.autocast(self.device, dtype=self.dtype):
            return self.inner(image)


def save(request: Request) -> list[Path]:
    """Write FILE.pt2, weights in float32 whatever it computes in; the metadata is its extra file "semask".

    Raises:
        ValueError: If the precision is not for this format.
    """
    exported = program(request.model, request.precision, request.sample)
    torch.export.save(exported, request.path, extra_files={KEY: request.described})
    return [request.path]


def program(model: SeMask, precision: Precision, sample: Tensor, *, least: int = 1) -> torch.export.ExportedProgram:
    """Record a model for images of any number and of any size.

    Args:
        model: In evaluation mode.
        precision: fp32, fp16 or bf16.
        sample: See `example`.
        least: Smallest height and width that it has to be right for.

    Raises:
        ValueError: If the precision is none of these, or this torch is too old.
    """
    if precision == "int8":
        raise ValueError("torch programs are not made in int8: take --format openvino or onnx")
    try:
        from torch.fx.experimental.dynamic_spec import ParamsSpec, ShapesSpec, ShapeVar, TensorSpec
    except ImportError as error:
        raise ValueError(f"torch {torch.__version__} can't export sizes that change: update it to 2.15") from error
    graph: nn.Module = Graph(model)
    if precision != "fp32":
        graph = InHalf(graph, DTYPES[precision], sample.device.type)
    image = example(model, sample)
    sides = (ShapeVar("height", min=least), ShapeVar("width", min=least))
    shape = TensorSpec([ShapeVar("batch", min=1), image.shape[1], *sides])
    # the shapes are unknowns to torch, not numbers that it has seen: nothing is taken for granted
    with torch.no_grad(), plain(model):
        return torch.export.export(graph, (image,), dynamic_shapes=ShapesSpec(params=ParamsSpec({"image": shape})))
