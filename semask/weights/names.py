"""Names of tensors in the published SeMask code, for every tensor of ours."""

import re
from typing import NamedTuple

from semask.model import SeMask
from semask.weights.pretrained import microsoft_name


class Source(NamedTuple):
    """Where a tensor of ours is in a published file: all of `name`, or one of its `parts` along the first axis."""

    name: str
    part: int = 0
    parts: int = 1


def official_names(model: SeMask) -> dict[str, Source]:
    """Map the name of every tensor of a SeMask or Swin model to its place in the published checkpoint.

    Published names that no tensor of ours answers to: `relative_position_index`, which is computed, and
    `criterion.empty_weight`, which belongs to the loss.

    >>> names = official_names(SeMask(encoder="swin_nano", num_classes=3))
    >>> names["encoder.semantic_layers.2.attentions.0.scale"].name
    'backbone.layers.2.semantic_layer.class_injection.0.gamma'
    """
    return {name: official_name(name) for name in model.state_dict()}


def official_name(name: str) -> Source:
    """Translate one name of ours into the published one."""
    if name.startswith("encoder.backbone."):
        return Source("backbone." + microsoft_name(name.removeprefix("encoder.backbone.")))
    rules = ENCODER if name.startswith("encoder.") else DECODER
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    fused = re.fullmatch(r"(.*)\.([qkv])_proj\.(weight|bias)", name)
    if fused:
        return Source(f"{fused[1]}.in_proj_{fused[3]}", "qkv".index(fused[2]), 3)
    return Source(name)


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
    (r"^decoder\.pixel_decoder\.decoder\.(adapter_1|layer_1|mask_projection)", PIXEL + r"\1"),
    (r"\.mask_projection\.", ".mask_features."),
    (r"^decoder\.pixel_decoder\.decoder\.input_projections\.", PIXEL + "input_proj."),
    (r"^decoder\.pixel_decoder\.decoder\.", PIXEL + "transformer."),
    (r"(encoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.norm1."),
    (r"(encoder\.layers\.\d+)\.final_layer_norm\.", r"\1.norm2."),
    (r"(encoder\.layers\.\d+)\.fc(\d)\.", r"\1.linear\2."),
    # FaPN and MSFaPN
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
