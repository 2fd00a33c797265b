"""Which parameters learn, how fast, and with how much weight decay."""

from typing import Any

import torch
from torch import Tensor, nn

from semask.encoders.backbone import Backbone, evaluating
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.swin import Swin
from semask.model import SeMask
from semask.settings.training import Training

SIZES = (64, 224, 512)
"""Sides of the image that shows which module belongs to which stage, tried in turn: some backbones take one only."""


def parameter_groups(model: SeMask, training: Training) -> list[dict[str, Any]]:
    """Split parameters by weight decay and learning rate as the published recipes do.

    LayerNorm, GroupNorm, embeddings and relative position tables have no weight decay; BatchNorm, biases and the scale
    of the semantic attention have. The encoder's learning rate is `encoder_lr` times the others', and that of its
    layers is lower still with `layer_decay`.
    """
    kinds = (nn.LayerNorm, nn.GroupNorm, nn.Embedding)
    exempt = {id(p) for module in model.modules() if isinstance(module, kinds) for p in module.parameters()}
    exempt |= {id(p) for name, p in model.named_parameters() if name.endswith("relative_position_bias_table")}
    factors = {id(p): training.encoder_lr for p in model.encoder.parameters()}
    if training.layer_decay is not None:
        scales = layer_scales(model.encoder, training.layer_decay)
        factors = {key: factor * scales.get(key, 1.0) for key, factor in factors.items()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        decay = 0.0 if id(parameter) in exempt else training.weight_decay
        groups.setdefault((decay, factors.get(id(parameter), 1.0)), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "factor": factor, "lr": training.lr * factor}
        for (decay, factor), parameters in groups.items()
    ]


def layer_scales(encoder: SemanticEncoder, decay: float) -> dict[int, float]:
    """Factor on the learning rate of each parameter of an encoder: decay^(L + 1 - l) in layer l of L.

    Layer 0 is the stem, what comes after the encoder has 1, as in BEiT (arXiv 2106.08254) and ELECTRA (2003.10555). A
    semantic layer, and the norm after it, are in the last layer of their stage.

    Returns:
        Factors by id of the parameter; the pyramid of a plain backbone has none, it is new.
    """
    layers, ends = layers_of(encoder.backbone)
    for stage, end in enumerate(ends):
        for module in (encoder.semantic_layers[stage], encoder.norms[stage]):
            layers |= {id(p): end for p in module.parameters()}
    return {key: decay ** (ends[-1] + 1 - layer) for key, layer in layers.items()}


def layers_of(backbone: Backbone) -> tuple[dict[int, int], list[int]]:
    """Layers of a backbone: the blocks of a Swin, the stages of any other.

    Returns:
        Layer of each parameter by its id, and the last layer of each stage.
    """
    if not isinstance(backbone, Swin):
        return stages_of(backbone), list(range(1, len(backbone.channels) + 1))
    stem: nn.Module = backbone.get_submodule("stem")
    layers = {id(p): 0 for p in stem.parameters()}
    ends: list[int] = []
    last = 0
    for stage in backbone.stages:
        layers |= {id(p): last + 1 for p in stage.merge.parameters()}  # a stage begins with its merging
        for block in stage.blocks:
            last += 1
            layers |= {id(p): last for p in block.parameters()}
        ends.append(last)
    return layers, ends


def stages_of(backbone: Backbone) -> dict[int, int]:
    """Stage of each parameter of a backbone by its id, the first being 1; 0 is the stem.

    A parameter belongs to where its module is called first, found by running a small image; one of no module that is
    called, such as a position embedding, to the stem.

    Raises:
        ValueError: If the backbone takes none of the images.
    """
    called: dict[nn.Module, int] = {}
    place = 0

    def note(module: nn.Module, _: object) -> None:
        called.setdefault(module, place)

    hooks = [module.register_forward_pre_hook(note) for module in backbone.modules()]
    try:
        with evaluating(backbone):
            for image in images(backbone):
                called.clear()
                place = 0
                try:
                    state = backbone.stem(image)
                    for place, stage in enumerate(backbone.stages, start=1):
                        state = stage(state)
                        backbone.read(state, place - 1)
                    break
                except (AssertionError, RuntimeError, IndexError, ValueError):
                    continue  # another size
            else:
                raise ValueError("training.layer_decay: the layers of this backbone could not be told, leave it out")
    finally:
        for hook in hooks:
            hook.remove()
    return {id(parameter): place_of(backbone, name, called) for name, parameter in backbone.named_parameters()}


def images(backbone: Backbone) -> list[Tensor]:
    """Black images of several sizes, with the channels that a backbone takes."""
    first = next(p for p in backbone.parameters() if p.dim() == 4)
    channels = next((x.in_channels for x in backbone.modules() if isinstance(x, nn.Conv2d)), 3)
    return [first.new_zeros(1, channels, size, size) for size in SIZES]


def place_of(backbone: nn.Module, name: str, called: dict[nn.Module, int]) -> int:
    """Stage of a parameter: that of the innermost module around it that was called; 0 if none was."""
    path = name.split(".")[:-1]
    while path:
        module = backbone.get_submodule(".".join(path))
        if module in called:
            return called[module]
        path.pop()
    return 0


def drop_gradients(backbone: nn.Module) -> None:
    """Let the next step of the optimizer leave a backbone as it is: no update, no weight decay, no moments.

    The gradients were computed all the same: that is what semantic layers inside the backbone learn from, and every
    process of DistributedDataParallel expects them.
    """
    for parameter in backbone.parameters():
        parameter.grad = None


def keep_statistics(backbone: nn.Module) -> None:
    """Let a backbone's BatchNorm use the statistics that it has, and not change them."""
    for module in backbone.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
