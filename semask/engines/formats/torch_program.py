"""torch.export: the graph in torch's own operations, for torch without this package."""

from pathlib import Path
from typing import TYPE_CHECKING

from semask.engines.description import KEY, Precision, described_outputs
from semask.engines.format import Engine, Format, Options, Request

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from semask.model import SeMask


def save(request: Request) -> list[Path]:
    """Write FILE.pt2, weights in float32 whatever it computes in; the metadata is its extra file "semask"."""
    import torch

    exported = program(request.model, request.precision, request.sample, labels=request.labels)
    torch.export.save(exported, request.path, extra_files={KEY: request.described})
    return [request.path]


def program(
    model: "SeMask", precision: Precision, sample: "Tensor", *, least: int = 1, labels: bool = False
) -> "ExportedProgram":
    """Record a model for images of any number and of any size.

    Args:
        model: In evaluation mode.
        precision: fp32, fp16 or bf16.
        sample: See `example`.
        least: Smallest height and width that it has to be right for.
        labels: Whether the graph gives the label map, and no scores.

    Raises:
        ValueError: If this torch is too old.
    """
    import torch

    from semask.engines.graph import Graph, example, recording
    from semask.engines.torch_engine import DTYPES, InHalf

    try:
        from torch.fx.experimental.dynamic_spec import ParamsSpec, ShapesSpec, ShapeVar, TensorSpec
    except ImportError as error:
        raise ValueError(f"torch {torch.__version__} can't export sizes that change: update it to 2.15") from error
    plain = Graph(model, labels=labels)
    graph = plain if precision == "fp32" else InHalf(plain, DTYPES[precision], sample.device.type)
    image = example(model, sample)
    sides = (ShapeVar("height", min=least), ShapeVar("width", min=least))
    shape = TensorSpec([ShapeVar("batch", min=1), image.shape[1], *sides])
    with recording(model):  # the shapes are unknowns to torch, not numbers that it has seen
        return torch.export.export(graph, (image,), dynamic_shapes=ShapesSpec(params=ParamsSpec({"image": shape})))


def open_file(path: Path, options: Options) -> Engine:
    """Open a torch.export program. It unpickles: only for trusted files."""
    import torch

    from semask.engines.torch_engine import details, in_torch

    device = options.device or "cpu"
    extra = {KEY: ""}
    program = torch.export.load(path, extra_files=extra)
    module = program.module().to(device)
    return Engine(extra[KEY], described_outputs(extra[KEY]), in_torch(module, device), details(device))


FORMAT = Format(
    name="torch",
    ending=".pt2",
    save=save,
    open=open_file,
    precisions=("fp32", "fp16", "bf16"),
    holds_code="pickled Python objects",
    on_device=True,
)
