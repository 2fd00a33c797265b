"""AOTInductor: machine code for images of one size, for any program that links with torch's C++ library."""

from pathlib import Path

from semask.engines.description import KEY, described_outputs
from semask.engines.format import Engine, Format, Options, Request


def save(request: Request) -> list[Path]:
    """Write FILE.aoti.pt2, for any number of images of the size of `sample`, and for its device.

    With free height and width the compiler does not finish: what a window's padding makes of a size takes it minutes to
    simplify, and then more memory than there is. The metadata is the package's own, under "semask".
    """
    import torch

    from semask.engines.graph import Graph, recording
    from semask.engines.torch_engine import DTYPES, InHalf

    graph: torch.nn.Module = Graph(request.model, labels=request.labels)
    if request.precision != "fp32":
        graph = InHalf(graph, DTYPES[request.precision], request.sample.device.type)
    images = request.sample.detach().float()[:1].repeat(2, 1, 1, 1)  # one would be taken for what always holds
    with recording(request.model):
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


def open_file(path: Path, options: Options) -> Engine:
    """Open what AOTInductor compiled. It is machine code: only for trusted files."""
    import torch

    from semask.engines.torch_engine import details, in_torch

    compiled = torch._inductor.aoti_load_package(str(path))
    described = compiled.get_metadata()
    made_for, device = described["AOTI_DEVICE_KEY"], options.device or described["AOTI_DEVICE_KEY"]
    if device.split(":")[0] != made_for:
        raise ValueError(f"{path}: was compiled for {made_for}, not {device}: export it with --device {device}")
    text = described.get(KEY)
    return Engine(text, described_outputs(text), in_torch(compiled, device), details(device))


FORMAT = Format(
    name="aotinductor",
    ending=".aoti.pt2",
    save=save,
    open=open_file,
    precisions=("fp32", "fp16", "bf16"),
    holds_code="compiled code",
    one_size=True,
    on_device=True,
)
