"""Weights, gradients and moments shared out to the processes (FSDP2): a unit for each stage and semantic layer."""

import warnings

from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from semask.model import SeMask
from semask.semantic.layer import SemanticLayer


def mesh_of_all(device_type: str) -> DeviceMesh:
    """All processes in a row."""
    return init_device_mesh(device_type, (distributed.get_world_size(),))


def shard(model: SeMask, mesh: DeviceMesh) -> None:
    """Leave each process its part of every parameter, of those that the first process has.

    A unit's parameters are gathered when it runs, forward and backward, and given up after it. All others (stem, norms,
    decoder, a backbone of a library) are one more unit, which is gathered for the whole step.
    """
    # Units that return views are fine as long as nobody changes these in place, and nobody does.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor", category=UserWarning)
    model.to(mesh.device_type)
    for x in (*model.parameters(), *model.buffers()):
        distributed.broadcast(x.detach(), src=0)
    for unit in units(model):
        fully_shard(unit, mesh=mesh)
    fully_shard(model, mesh=mesh)


def units(model: SeMask) -> list[nn.Module]:
    """Modules that are gathered by themselves; a library's backbone is run by its parts, which have no common call.

    The decoder is not: its backward comes right after its forward. As a unit it would also give maps that it skips a
    gradient of zeros instead of none, and AdamW would let the weights before them decay.
    """
    stages = model.encoder.backbone.stages
    layers = [layer for layer in model.encoder.semantic_layers if isinstance(layer, SemanticLayer)]
    return [*(stages if isinstance(stages, nn.ModuleList) else []), *layers]


def exchange(optimizer: Optimizer, before: dict[str, nn.Parameter], now: dict[str, nn.Parameter]) -> None:
    """Let an optimizer without a state update other parameters, which have the names of those before."""
    names = {id(parameter): name for name, parameter in before.items()}
    for group in optimizer.param_groups:
        group["params"] = [now[names[id(parameter)]] for parameter in group["params"]]


def whole(x: Tensor) -> Tensor:
    """A tensor with the parts of all processes, which call it together; the tensor itself if it has no parts."""
    full: Tensor = x.full_tensor() if isinstance(x, DTensor) else x
    return full
