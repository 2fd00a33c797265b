"""Models of timm and transformers as plans: one rule for all with a list of modules, a row for each other family."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from operator import mul
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from semask.encoders.backbone import Plan, keep, replace, run, sequence

LIBRARIES = ("timm.", "transformers.")
FINEST_STRIDE = 4
"""Maps finer than this are part of the stem."""


def plan_of(model: nn.Module) -> Plan:
    """Find out how a model of timm or transformers is run stage by stage.

    Raises:
        ValueError: If that is not known.
    """
    make = ROWS.get(type(model).__name__, listed if type(model).__name__ == "FeatureListNet" else None)
    ours = type(model).__module__.startswith(LIBRARIES)  # others have classes of these names too
    if make is not None and (ours or make not in OF_LIBRARIES):
        return make(model)._replace(size_divisor=patch_side(model))
    raise ValueError(
        f"{type(model).__name__} can't be run stage by stage: its stages are no list of modules. What works: every "
        "model of timm whose features come as a list (Swin, PVTv2, ConvNeXt, ResNet, MaxViT, DaViT, FocalNet, "
        f"MetaFormer, NextViT, EfficientViT, FastViT, ...), and {', '.join(ROWS)}; see docs/backbones.md"
    )


def patch_side(model: nn.Module) -> int:
    """What images have to be a multiple of: the patch of a patch embedding of timm that does not pad by itself."""
    embed = model.get_submodule("patch_embed") if "patch_embed" in dict(model.named_children()) else None
    if type(embed).__name__ != "PatchEmbed" or getattr(embed, "dynamic_img_pad", True):
        return 1
    return int(getattr(embed, "patch_size")[0])  # noqa: B009


def features(model: Any) -> list[dict[str, Any]]:
    """The last of timm's entries about the features of a model, from the finest stride that counts."""
    entries: list[dict[str, Any]] = [e for e in model.feature_info.get_dicts() if e["reduction"] >= FINEST_STRIDE]
    return entries


def numbers(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Channels and strides of timm's entries."""
    return {"channels": tuple(e["num_chs"] for e in entries), "strides": tuple(e["reduction"] for e in entries)}


def listed(model: Any) -> Plan:
    """Plan for a model whose features timm takes off a list of modules (`features_only=True`)."""
    ends = [name for name in model if name in model.return_layers]
    entries = features(model)
    return sequence(
        model,
        list(model),
        ends[-len(entries) :],
        **numbers(entries),
        channels_last=str(getattr(model.output_fmt, "value", model.output_fmt)) == "NHWC",
    )


def convolutional(model: Any) -> Plan:
    """EfficientNet and MobileNet: a stem, then numbered blocks."""
    stem = [name for name in ("conv_stem", "bn1", "act1") if hasattr(model, name)]
    names = [*stem, *(f"blocks.{i}" for i in range(len(model.blocks)))]
    entries = features(model)
    return sequence(model, names, [e["module"] for e in entries], **numbers(entries))


def twins(model: Any) -> Plan:
    """Twins SVT and PCPVT: lists of patch embeddings, blocks, and position encodings that come after a first block."""
    stages = tuple(partial(twins_stage, index=i) for i in range(len(model.blocks)))
    return Plan(nothing, stages, **numbers(features_of_lists(model)), read=keep, write=replace)


def twins_stage(model: Any, x: Tensor, *, index: int) -> Tensor:
    """Image, or map [B, h, w, C] of the stage before -> map."""
    x, size = model.patch_embeds[index](x if index == 0 else x.permute(0, 3, 1, 2).contiguous())
    x = model.pos_drops[index](x)
    for number, block in enumerate(model.blocks[index]):
        x = block(x, size)
        if number == 0:
            x = model.pos_block[index](x, size)
    return x.reshape(len(x), *size, -1)


def features_of_lists(model: Any) -> list[dict[str, Any]]:
    """Timm's entries of a model that keeps them as plain dictionaries."""
    return [dict(entry) for entry in model.feature_info]


def mvit(model: Any) -> Plan:
    """MViTv2: stages that pass tokens and the size of their map on."""
    if model.cls_token is not None:
        raise ValueError("MViTv2 with a class token: choose a variant without one, e.g. timm/mvitv2_tiny")
    stages = tuple(partial(mvit_stage, index=i) for i in range(len(model.stages)))
    return Plan(mvit_stem, stages, **numbers(features_of_lists(model)), read=keep, write=replace)


def mvit_stem(model: Any, image: Tensor) -> Tensor:
    """Image -> map [B, h, w, C]."""
    x, size = model.patch_embed(image)
    if model.pos_embed is not None:
        x = x + model.pos_embed
    map_: Tensor = x.reshape(len(x), *size, -1)
    return map_


def mvit_stage(model: Any, x: Tensor, *, index: int) -> Tensor:
    """Map [B, h, w, C] -> map."""
    tokens, size = model.stages[index](x.flatten(1, 2), [x.shape[1], x.shape[2]])
    map_: Tensor = tokens.reshape(len(tokens), *size, -1)
    return map_


def coat(model: Any) -> Plan:
    """CoaT-Lite: four patch embeddings, class tokens and lists of serial blocks."""
    if model.parallel_blocks is not None:
        raise ValueError("CoaT with parallel blocks mixes its stages: choose CoaT-Lite, e.g. timm/coat_lite_tiny")
    stages = tuple(partial(coat_stage, index=i) for i in (1, 2, 3, 4))
    return Plan(nothing, stages, **numbers(features_of_lists(model)), read=keep, write=replace)


def coat_stage(model: Any, x: Tensor, *, index: int) -> Tensor:
    """Image, or map [B, h, w, C] of the stage before -> map; the class token lives within the stage."""
    part: Callable[[str], Any] = lambda name: getattr(model, f"{name}{index}")  # noqa: E731
    embed = part("patch_embed")
    x = embed(x if index == 1 else x.permute(0, 3, 1, 2).contiguous())
    size = embed.grid_size
    x = torch.cat([part("cls_token").expand(len(x), -1, -1), x], dim=1)
    for block in part("serial_blocks"):
        x = block(x, size=size)
    return x[:, 1:].reshape(len(x), *size, -1)


def hiera(model: Any) -> Plan:
    """Hiera: numbered blocks over tokens in the order of its mask units; a map is read by rolling them up again."""
    entries = features_of_lists(model)
    ends = [int(entry["module"].split(".")[-1]) for entry in entries]
    read, write = partial(hiera_read, ends=ends), partial(hiera_write, ends=ends)
    return Plan(hiera_stem, blocks_between(ends), **numbers(entries), read=read, write=write)


def hiera_stem(model: Any, image: Tensor) -> Tensor:
    """Image -> tokens [B, N, C], in the order of mask units."""
    tokens: Tensor = model.unroll(model._pos_embed(model.patch_embed(image, mask=None)))
    return tokens


def hiera_read(model: Any, tokens: Tensor, stage: int, *, ends: Sequence[int]) -> Tensor:
    """Tokens -> map [B, h, w, C]."""
    map_: Tensor = model.reroll(tokens, ends[stage])
    return map_


def hiera_write(model: Any, tokens: Tensor, map: Tensor, stage: int, *, ends: Sequence[int]) -> Tensor:
    """Map [B, h, w, C] -> tokens: where each came from shows by rolling up their numbers."""
    numbers_ = torch.arange(tokens.shape[1], device=tokens.device).view(1, -1, 1)
    order = model.reroll(numbers_, ends[stage]).flatten()
    return map.flatten(1, 2)[:, order.argsort()]


def hiera_det(model: Any) -> Plan:
    """Hiera of SAM 2: numbered blocks over maps [B, h, w, C]."""
    entries = features_of_lists(model)
    ends = [int(entry["module"].split(".")[-1]) for entry in entries]
    return Plan(hiera_det_stem, blocks_between(ends), **numbers(entries), read=keep, write=replace)


def hiera_det_stem(model: Any, image: Tensor) -> Tensor:
    """Image -> map [B, h, w, C]."""
    map_: Tensor = model._pos_embed(model.patch_embed(image))
    return map_


def blocks_between(ends: Sequence[int]) -> tuple[Callable[[nn.Module, Any], Any], ...]:
    """Stages of numbered blocks, of which `ends` are the last ones."""
    starts = [0, *(end + 1 for end in ends[:-1])]
    return tuple(
        partial(run, names=tuple(f"blocks.{i}" for i in range(start, end + 1)))
        for start, end in zip(starts, ends, strict=True)
    )


class Tokens(NamedTuple):
    """What passes between the blocks of a plain ViT."""

    x: Tensor
    """[B, P + h * w, C]: P prefix tokens (class, registers), then the map's."""
    size: tuple[int, int]
    """Height and width of the map."""
    rope: Tensor | None
    """Rotary position embedding, which every block gets."""


def vit(model: Any) -> Plan:
    """Plain ViT (DeiT, BEiT, EVA, DINOv2, DINOv3, ...): four groups of blocks of one size, the last of each read.

    The paper's method is for hierarchical backbones; this goes beyond it. A pyramid is made of the four maps.
    """
    depth = len(model.blocks)
    ends = [depth * quarter // 4 for quarter in (1, 2, 3, 4)]
    stages = tuple(partial(vit_stage, start=start, end=end) for start, end in zip([0, *ends], ends, strict=False))
    return Plan(vit_stem, stages, (model.embed_dim,) * 4, (16,) * 4, read=vit_read, write=vit_write, plain=True)


def vit_stem(model: Any, image: Tensor) -> Tokens:
    """Image -> tokens."""
    height, width = model.patch_embed.dynamic_feat_size((image.shape[-2], image.shape[-1]))
    placed = model._pos_embed(model.patch_embed(image))
    x, rope = placed if isinstance(placed, tuple) else (model.patch_drop(placed), None)
    return Tokens(model.norm_pre(x), (height, width), rope)


def vit_stage(model: Any, tokens: Tokens, *, start: int, end: int) -> Tokens:
    """Some blocks."""
    x = tokens.x
    for i in range(start, end):
        if tokens.rope is None:
            x = model.blocks[i](x)
        else:  # some models have an embedding for each block
            x = model.blocks[i](x, rope=tokens.rope[i] if getattr(model, "rope_mixed", False) else tokens.rope)
    return tokens._replace(x=x)


def vit_read(model: Any, tokens: Tokens, stage: int) -> Tensor:
    """Tokens -> map [B, h, w, C]."""
    return tokens.x[:, model.num_prefix_tokens :].reshape(len(tokens.x), *tokens.size, -1)


def vit_write(model: Any, tokens: Tokens, map: Tensor, stage: int) -> Tokens:
    """Map [B, h, w, C] -> tokens, next to the old prefix."""
    return tokens._replace(x=torch.cat([tokens.x[:, : model.num_prefix_tokens], map.flatten(1, 2)], dim=1))


def segformer(model: Any) -> Plan:
    """Mix Transformer of `transformers`."""
    names = [f"stages.{i}" for i in range(len(model.stages))]
    config = model.config
    strides = tuple(accumulate(config.strides, mul))
    return sequence(model, names, names, channels=config.hidden_sizes, strides=strides)


def pvt(model: Any) -> Plan:
    """PVT of `transformers`: patch embeddings and blocks in lists; a class token in the last stage."""
    config = model.config
    strides = tuple(accumulate(config.strides, mul))
    stages = tuple(partial(pvt_stage, index=i) for i in range(len(config.depths)))
    return Plan(nothing, stages, tuple(config.hidden_sizes), strides, read=keep, write=replace)


def pvt_stage(model: Any, x: Tensor, *, index: int) -> Tensor:
    """Image, or map [B, h, w, C] of the stage before -> map."""
    embed = model.encoder.patch_embeddings[index]
    tokens, height, width = embed(x if index == 0 else x.permute(0, 3, 1, 2).contiguous())
    for block in model.encoder.block[index]:
        tokens = block(tokens, height, width)[0]
    if embed.cls_token is not None:
        tokens = tokens[:, 1:]
    map_: Tensor = tokens.reshape(len(tokens), height, width, -1)
    return map_


def pvt_v2(model: Any) -> Plan:
    """PVTv2 of `transformers`."""
    config = model.config
    strides = tuple(accumulate(config.strides, mul))
    stages = tuple(partial(pvt_v2_stage, index=i) for i in range(len(config.depths)))
    return Plan(nothing, stages, tuple(config.hidden_sizes), strides, read=keep, write=replace)


def pvt_v2_stage(model: Any, x: Tensor, *, index: int) -> Tensor:
    """Image, or map [B, h, w, C] of the stage before -> map."""
    x = x if index == 0 else x.permute(0, 3, 1, 2).contiguous()
    outputs, height, width = model.encoder.layers[index](x, False)
    map_: Tensor = outputs[0].reshape(len(x), height, width, -1)
    return map_


def nothing(model: nn.Module, image: Tensor) -> Tensor:
    """Stem of a model whose first stage takes the image."""
    return image


ROWS: dict[str, Callable[[Any], Plan]] = {
    "CoaT": coat,
    "EfficientNetFeatures": convolutional,
    "Eva": vit,
    "Hiera": hiera,
    "HieraDet": hiera_det,
    "MobileNetV3Features": convolutional,
    "MultiScaleVit": mvit,
    "PvtModel": pvt,
    "PvtV2Model": pvt_v2,
    "SegformerModel": segformer,
    "Twins": twins,
    "VisionTransformer": vit,
}
"""Families that need a word of their own, by the name of their class."""
OF_LIBRARIES = (listed, *ROWS.values())
"""Rows for classes of timm and transformers; you may add rows for others."""
