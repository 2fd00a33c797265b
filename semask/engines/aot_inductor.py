"""AOTInductor: machine code for images of one size, for any program that links with torch's C++ library."""

from pathlib import Path

import torch
from torch import nn

from semask.acceleration.accelerate import plain
from semask.engines.description import KEY
from semask.engines.graph import Graph
from semask.engines.request import Request
from semask.engines.torch_program import DTYPES, InHalf


def save(request: Request) -> list[Path]:
    """Write FILE.aoti.pt2, for any number of images of the size of `sample`, and for its device.

    With free height and width the compiler does not finish: what a window's padding makes of a size takes it minutes to
    simplify, and then more memory than there is. The metadata is the package's own, under "semask".

    Raises:
        ValueError: If the precision is not for this format.
    """
    if request.precision == "int8":
        raise ValueError("AOTInductor files are not made in int8: take --format openvino or onnx")
    graph: nn.Module = Graph(request.model)
    if request.precision != "fp32":
        graph = InHalf(graph, DTYPES[request.precision], request.sample.device.type)
    images = request.sample.detach().float()[:1].repeat(2, 1, 1, 1)  # one would be taken for what always holds
    with torch.no_grad(), plain(request.model):
        program = torch.export.export(graph, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch._inductor.aoti_compile_and_package(
        program,
        package_path=str(request.path),
        inductor_configs={
            "aot_inductor.metadata": {KEY: request.described},
            "aot_inductor.compile_wrapper_opt_level": "O0",  # it only calls the kernels, not worth a compiler's time
        },
    )
    return [request.path]
