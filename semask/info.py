"""The verb `info`: what a model is made of, and what it costs."""

import copy
import math
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from semask import checkpoint
from semask.encoders.swin import Block
from semask.model import SeMask
from semask.semantic import SemanticLayer


def info(source: str | SeMask, *, size: tuple[int, int] = (512, 512)) -> dict[str, Any]:
    """Describe a model: parameters, FLOPs at a size, and what each stage is; prints a table.

    A multiplication and an addition count as 2 FLOPs; matrix products and convolutions are counted, norms, softmax and
    resizing are not.

    Args:
        source: Checkpoint, recipe (.yaml), or in Python a model.
        size: Height and width of the image that FLOPs are counted for.

    Returns:
        The same as a dictionary.

    Raises:
        ValueError: If the source can't be read or the size is not positive.
    """
    if min(size) < 1:
        raise ValueError(f"size is {size}: give height and width of at least 1 pixel")
    model = source if isinstance(source, SeMask) else open_model(source)
    report: dict[str, Any] = {
        "parameters": parameters(model),
        "parts": {name: parameters(part) for name, part in model.named_children() if parameters(part)},
        "size": size,
        "flops": flops(model, size),
        "stages": [stage(model, i, size) for i in range(len(model.encoder.channels))],
    }
    console = Console()
    parts = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in report["parts"].items())
    console.print(f"{report['parameters']:,} parameters ({parts})", highlight=False)
    console.print(f"{report['flops'] / 1e9:.2f} GFLOPs at {size[0]} x {size[1]}", highlight=False)
    table = Table(*report["stages"][0])
    for row in report["stages"]:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
    return report


def open_model(source: str) -> SeMask:
    """Load a checkpoint, or build the model of a recipe.

    Raises:
        ValueError: If there is neither.
    """
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        return checkpoint.load(source)
    try:
        return SeMask(**yaml.safe_load(path.read_text(encoding="utf-8"))["model"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no recipe with a section `model` ({' '.join(str(error).split())})") from error


def parameters(module: nn.Module) -> int:
    """Count parameters."""
    return sum(p.numel() for p in module.parameters())


def flops(model: SeMask, size: tuple[int, int]) -> int:
    """Count the FLOPs of one image of height x width; nothing is computed."""
    shadow = copy.deepcopy(model).to("meta").eval().requires_grad_(False)
    counted = {torch.ops.torchvision.deform_conv2d: deformable_flops}
    with FlopCounterMode(display=False, custom_mapping=counted) as counter, torch.no_grad():
        shadow(torch.empty(1, model.config["in_channels"], *size, device="meta"))
    return int(counter.get_total_flops())


def deformable_flops(image: torch.Size, weight: torch.Size, *_: Any, out_shape: torch.Size, **__: Any) -> int:
    """FLOPs of a deformable convolution, from shapes: those of the plain one; the sampling is not counted."""
    batch, height, width = out_shape[0], *out_shape[-2:]
    return 2 * batch * height * width * math.prod(weight)


def stage(model: SeMask, index: int, size: tuple[int, int]) -> dict[str, Any]:
    """Describe one stage of the encoder."""
    encoder, backbone_stage = model.encoder, model.encoder.backbone.stages[index]
    layer, stride = encoder.semantic_layers[index], encoder.strides[index]
    row = {
        "stage": index + 1,
        "blocks": sum(isinstance(module, Block) for module in backbone_stage.modules()),
        "channels": encoder.channels[index],
        "cells": f"{-(-size[0] // stride)} x {-(-size[1] // stride)}",
        "parameters": parameters(encoder.backbone.stages[index]),
        "semantic layer": "none",
        "semantic parameters": parameters(layer),
    }
    if isinstance(layer, SemanticLayer):
        scope = "global" if layer.window is None else f"{layer.window} x {layer.window} windows"
        row["semantic layer"] = f"{scope}, depth {len(layer.attentions)}, residual {layer.residual}"
    return row
