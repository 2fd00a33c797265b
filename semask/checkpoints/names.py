"""What the published code and Microsoft's Swin call each tensor of ours: tables that are read both ways."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Source(NamedTuple):
    """Where a tensor of ours is in a file: all of `name`, or one of its `parts` along the first axis."""

    name: str
    part: int = 0
    parts: int = 1


DROPPED = re.compile(r"(^|\.)(relative_position_index|attn_mask)$|^criterion\.empty_weight$")
"""Published names that no tensor of ours answers to: what is computed, and what belongs to a loss."""


def official_names(model: nn.Module) -> dict[str, Source]:
    """Map the name of every tensor of a SeMask or Swin model to its place in the published checkpoint.

    Published names that no tensor of ours answers to match `DROPPED`.

    >>> from semask import build
    >>> names = official_names(build("swin_nano", num_classes=3))
    >>> names["encoder.semantic_layers.2.attentions.0.scale"].name
    'backbone.layers.2.semantic_layer.class_injection.0.gamma'
    """
    return {name: official_name(name) for name in model.state_dict()}


def to_official(model: nn.Module) -> dict[str, Tensor]:
    """Give every tensor of a model its published name and form: the table read the other way round."""
    parts: dict[str, dict[int, Tensor]] = {}
    for ours, tensor in model.state_dict().items():
        source = official_name(ours)
        parts.setdefault(source.name, {})[source.part] = tensor
    return {
        name: torch.cat([some[i] for i in sorted(some)]) if len(some) > 1 else some[0] for name, some in parts.items()
    }


def take(tensors: Mapping[str, Tensor], source: Source) -> Tensor:
    """Cut the tensor that `source` means out of a file's tensors; KeyError if it is not there."""
    tensor = tensors[source.name]
    return tensor if source.parts == 1 else tensor.chunk(source.parts)[source.part]


def microsoft_name(name: str) -> str:
    """Name a tensor of our Swin as Microsoft does: stages.1.merge.norm.weight -> layers.0.downsample.norm.weight."""
    return substitute(MERGE_BEFORE + SWIN, name)


def timm_name(name: str) -> str:
    """Name a tensor of our Swin as timm does: stages.1.merge.norm.weight -> layers.1.downsample.norm.weight."""
    return substitute(MERGE_AFTER + SWIN, name)


def official_name(name: str) -> Source:
    """Translate one name of ours into the published one."""
    if name.startswith(BACKBONE):
        return Source("backbone." + microsoft_name(name.removeprefix(BACKBONE)))
    name = substitute(ENCODER if name.startswith("encoder.") else DECODER, name)
    fused = re.fullmatch(r"(.*)\.([qkv])_proj\.(weight|bias)", name)
    if fused:
        return Source(f"{fused[1]}.in_proj_{fused[3]}", "qkv".index(fused[2]), 3)
    return Source(name)


def substitute(rules: Iterable[tuple[str, str | Callable[[re.Match[str]], str]]], name: str) -> str:
    """Apply all rules, one after another."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


BACKBONE = "encoder.backbone."

MERGE_BEFORE = ((r"^stages\.(\d+)\.merge\.", lambda match: f"layers.{int(match[1]) - 1}.downsample."),)
"""Microsoft's merging belongs to the stage before it ..."""
MERGE_AFTER = ((r"^stages\.(\d+)\.merge\.", r"layers.\1.downsample."),)
"""... and timm's to the stage after it, as ours."""

SWIN = (
    (r"^stem\.projection\.", "patch_embed.proj."),
    (r"^stem\.norm\.", "patch_embed.norm."),
    (r"^stages\.", "layers."),
    (r"\.attention\.projection\.", ".attn.proj."),
    (r"\.attention\.", ".attn."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.2\.", ".mlp.fc2."),
)

ENCODER = (
    (r"^encoder\.norms\.(\d+)\.", r"backbone.norm\1."),
    (r"^encoder\.semantic_layers\.(\d+)\.norm\.", r"backbone.layers.\1.semantic_layer.norm1."),
    (r"^encoder\.semantic_layers\.(\d+)\.attentions\.", r"backbone.layers.\1.semantic_layer.class_injection."),
    (r"\.scale$", ".gamma"),
    (r"\.semantic_query\.", ".mlp_cls_q."),
    (r"\.semantic_key\.", ".mlp_cls_k."),
    (r"\.value\.", ".mlp_v."),
    (r"\.projection\.", ".mlp_res."),
)

PIXEL, PREDICTOR = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."

DECODER = (
    # Semantic FPN
    (r"^decoder\.levels\.(\d+)\.(\d+)\.0\.", r"decode_head.scale_heads.\1.\2.conv."),
    (r"^decoder\.levels\.(\d+)\.(\d+)\.1\.", r"decode_head.scale_heads.\1.\2.bn."),
    (r"^decoder\.classifier\.", "decode_head.conv_seg."),
    # Mask decoders
    (r"^decoder\.class_predictor\.", PREDICTOR + "class_embed."),
    # Mask2Former: transformer
    (r"^decoder\.transformer\.queries_embedder\.", PREDICTOR + "query_embed."),
    (r"^decoder\.transformer\.queries_features\.", PREDICTOR + "query_feat."),
    (r"^decoder\.transformer\.level_embed\.", PREDICTOR + "level_embed."),
    (r"^decoder\.transformer\.input_projections\.", PREDICTOR + "input_proj."),
    (r"^decoder\.transformer\.decoder\.layernorm\.", PREDICTOR + "decoder_norm."),
    (
        r"^decoder\.transformer\.decoder\.mask_predictor\.mask_embedder\.(\d+)\.0\.",
        PREDICTOR + r"mask_embed.layers.\1.",
    ),
    (
        r"^decoder\.transformer\.decoder\.layers\.(\d+)\.self_attn\.",
        PREDICTOR + r"transformer_self_attention_layers.\1.self_attn.",
    ),
    (
        r"^decoder\.transformer\.decoder\.layers\.(\d+)\.self_attn_layer_norm\.",
        PREDICTOR + r"transformer_self_attention_layers.\1.norm.",
    ),
    (
        r"^decoder\.transformer\.decoder\.layers\.(\d+)\.cross_attn\.",
        PREDICTOR + r"transformer_cross_attention_layers.\1.multihead_attn.",
    ),
    (
        r"^decoder\.transformer\.decoder\.layers\.(\d+)\.cross_attn_layer_norm\.",
        PREDICTOR + r"transformer_cross_attention_layers.\1.norm.",
    ),
    (r"^decoder\.transformer\.decoder\.layers\.(\d+)\.fc(\d)\.", PREDICTOR + r"transformer_ffn_layers.\1.linear\2."),
    (
        r"^decoder\.transformer\.decoder\.layers\.(\d+)\.final_layer_norm\.",
        PREDICTOR + r"transformer_ffn_layers.\1.norm.",
    ),
    # MaskFormer
    (r"^decoder\.pixel_decoder\.fpn\.stem\.", PIXEL + "layer_4."),
    *((rf"^decoder\.pixel_decoder\.fpn\.layers\.{i}\.proj\.", f"{PIXEL}adapter_{3 - i}.") for i in range(3)),
    *((rf"^decoder\.pixel_decoder\.fpn\.layers\.{i}\.block\.", f"{PIXEL}layer_{3 - i}.") for i in range(3)),
    (r"^decoder\.pixel_decoder\.mask_projection\.", PIXEL + "mask_features."),
    (r"^decoder\.input_projection\.", PREDICTOR + "input_proj."),
    (r"^decoder\.queries\.", PREDICTOR + "query_embed."),
    (r"^decoder\.layers\.", PREDICTOR + "transformer.decoder.layers."),
    (r"^decoder\.norm\.", PREDICTOR + "transformer.decoder.norm."),
    (r"^decoder\.mask_embedding\.(\d+)\.0\.", PREDICTOR + r"mask_embed.layers.\1."),
    (r"\.decoder\.layers\.(\d+)\.encoder_attn\.", r".decoder.layers.\1.multihead_attn."),
    (r"\.decoder\.layers\.(\d+)\.self_attn_layer_norm\.", r".decoder.layers.\1.norm1."),
    (r"\.decoder\.layers\.(\d+)\.encoder_attn_layer_norm\.", r".decoder.layers.\1.norm2."),
    (r"\.decoder\.layers\.(\d+)\.final_layer_norm\.", r".decoder.layers.\1.norm3."),
    (r"\.mlp\.fc(\d)\.", r".linear\1."),
    (r"\.o_proj\.", ".out_proj."),
    # Mask2Former: pixel decoder
    (r"^decoder\.pixel_decoder\.projections\.", PIXEL + "input_proj."),
    (r"^decoder\.pixel_decoder\.(level_embed$|encoder\.)", PIXEL + r"transformer.\1"),
    (r"(encoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.norm1."),
    (r"(encoder\.layers\.\d+)\.final_layer_norm\.", r"\1.norm2."),
    (r"(encoder\.layers\.\d+)\.fc(\d)\.", r"\1.linear\2."),
    # Pyramids of FaPN, MSFaPN and Mask2Former
    (r"^decoder\.pixel_decoder\.top\.", PIXEL + "layer_4."),
    *((rf"^decoder\.pixel_decoder\.levels\.{i}\.", f"{PIXEL}LEVEL_{i + 1}.") for i in range(3)),
    (r"^decoder\.pixel_decoder\.level\.", PIXEL + "LEVEL_1."),
    (r"LEVEL_(\d)\.lateral\.", r"adapter_\1."),
    (r"LEVEL_(\d)\.output\.", r"layer_\1."),
    (r"LEVEL_(\d)\.align\.norm\.", r"align_\1.offset.norm."),
    (r"LEVEL_(\d)\.align\.offset\.", r"align_\1.offset."),
    (r"LEVEL_(\d)\.align\.offset_mask\.", r"align_\1.dcpack_L2.conv_offset_mask."),
    (r"LEVEL_(\d)\.align\.", r"align_\1.dcpack_L2."),
    (r"^decoder\.pixel_decoder\.mask_features\.", PIXEL + "mask_features."),
    (r"(adapter|layer)_(\d)\.0\.", r"\1_\2."),
    (r"(adapter|layer)_(\d)\.1\.", r"\1_\2.norm."),
)
"""Rules that are tried in this order, one decoder's after another's; what one changes no other's matches."""
