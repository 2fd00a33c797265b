"""What a model is made of, and what it costs: parameters, FLOPs, stages."""

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode

from semask.encoders.swin import Block
from semask.files.schema import Sides, require
from semask.model import SeMask
from semask.semantic.layer import SemanticLayer
from semask.semantic.windows import pad_image


def info(model: SeMask, *, size: tuple[int, int] = (512, 512)) -> dict[str, Any]:
    """Describe a model: parameters, FLOPs at a size, and what each stage is.

    A multiplication and an addition count as 2 FLOPs; matrix products and convolutions are counted, norms, softmax and
    resizing are not.

    Args:
        model: The model; nothing is computed with its weights, which may be on the meta device.
        size: Height and width of the image that FLOPs are counted for.

    Returns:
        JSON: "parameters", "parts" (parameters of each part), "size", "flops", "stages" (a row each).

    Raises:
        ValueError: If the size is not positive.
    """
    require(size, Sides, "size")
    return {
        "parameters": parameters(model),
        "parts": {name: parameters(part) for name, part in model.named_children() if parameters(part)},
        "size": size,
        "flops": flops(model, size),
        "stages": stages(model, size),
    }


def parameters(module: nn.Module) -> int:
    """Count parameters."""
    return sum(p.numel() for p in module.parameters())


def flops(model: SeMask, size: tuple[int, int]) -> int:
    """Count the FLOPs of one image of height x width; nothing is computed."""
    with shadow(model, size) as (twin, image), counting() as counter:
        twin(image)
    return int(counter.get_total_flops())


def flops_until(model: SeMask, size: tuple[int, int]) -> list[int]:
    """Count the FLOPs from one image of height x width to the end of each stage, its semantic layer included."""
    found = []
    with shadow(model, size) as (twin, image), counting() as counter:
        backbone = twin.encoder.backbone
        state = backbone.stem(pad_image(image, model.size_divisor).to(next(twin.encoder.parameters()).dtype))
        for index, run in enumerate(backbone.stages):
            state = run(state)
            layer = twin.encoder.semantic_layers[index]
            if isinstance(layer, SemanticLayer):
                state = backbone.write(state, layer(backbone.read(state, index))[0], index)
            found.append(int(counter.get_total_flops()))
    return found


def counting() -> FlopCounterMode:
    """Count what is computed, deformable convolutions too."""
    import_module("torchvision.ops")  # registers deform_conv2d; here, because it takes as long as torch
    return FlopCounterMode(display=False, custom_mapping={torch.ops.torchvision.deform_conv2d: deformable_flops})


@contextlib.contextmanager
def shadow(model: SeMask, size: tuple[int, int]) -> Iterator[tuple[SeMask, Tensor]]:
    """Give a copy of the model in evaluation mode and an image; what they are put through has shapes but no values."""
    twin = copy.deepcopy(model).to("meta").eval().requires_grad_(False)
    with torch.no_grad():
        yield twin, torch.empty(1, model.config["in_channels"], *size, device="meta")


def deformable_flops(image: torch.Size, weight: torch.Size, *_: Any, out_shape: torch.Size, **__: Any) -> int:
    """FLOPs of a deformable convolution, from shapes: those of the plain one; the sampling is not counted."""
    batch, height, width = out_shape[0], *out_shape[-2:]
    return 2 * batch * height * width * math.prod(weight)


def stages(model: SeMask, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Describe the stages of the encoder by running them: those of libraries are functions, not modules."""
    rows = []
    with shadow(model, size) as (twin, image):
        image = F.pad(image, (0, -size[1] % model.size_divisor, 0, -size[0] % model.size_divisor))
        backbone = twin.encoder.backbone
        state = backbone.stem(image)
        for i, run in enumerate(backbone.stages):
            called: list[nn.Module] = []
            with register_module_forward_pre_hook(lambda module, _, called=called: called.append(module)):
                state = run(state)
            rows.append(stage(model, i, called, backbone.read(state, i).shape[1:3]))
    return rows


def stage(model: SeMask, index: int, called: Sequence[nn.Module], size: Sequence[int]) -> dict[str, Any]:
    """Describe a stage that called some modules and gave a map of a height and width."""
    layer = model.encoder.semantic_layers[index]
    row = {
        "stage": index + 1,
        "blocks": sum(isinstance(module, Block) for module in called) or None,  # only ours are known as such
        "channels": model.encoder.channels[index],
        "locations": f"{size[0]} x {size[1]}",
        "parameters": sum({id(p): p.numel() for module in called for p in module.parameters()}.values()),
        "semantic layer": "none",
        "semantic parameters": parameters(layer),
    }
    if isinstance(layer, SemanticLayer):
        scope = "global" if layer.window is None else f"{layer.window} x {layer.window} windows"
        row["semantic layer"] = f"{scope}, depth {len(layer.attentions)}, residual {layer.residual}"
    return row
