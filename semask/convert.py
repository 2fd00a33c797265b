"""Names of tensors in the published SeMask code, for every tensor of ours."""

import re

from semask.encoders.pretrained import microsoft_name
from semask.model import SeMask


def official_names(model: SeMask) -> dict[str, str]:
    """Map the name of every tensor of a SeMask or Swin FPN model to its name in the published checkpoint.

    Published names that no tensor of ours answers to: `relative_position_index`, which is computed.

    >>> names = official_names(SeMask(encoder="swin_nano", num_classes=3))
    >>> names["encoder.semantic_layers.2.attentions.0.scale"]
    'backbone.layers.2.semantic_layer.class_injection.0.gamma'
    """
    return {name: official_name(name) for name in model.state_dict()}


def official_name(name: str) -> str:
    """Translate one name of ours into the published one."""
    if name.startswith("encoder.backbone."):
        return "backbone." + microsoft_name(name.removeprefix("encoder.backbone."))
    for pattern, replacement in FPN_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


FPN_NAMES = (
    (r"^encoder\.norms\.(\d+)\.", r"backbone.norm\1."),
    (r"^encoder\.semantic_layers\.(\d+)\.norm\.", r"backbone.layers.\1.semantic_layer.norm1."),
    (r"^encoder\.semantic_layers\.(\d+)\.attentions\.", r"backbone.layers.\1.semantic_layer.class_injection."),
    (r"\.scale$", ".gamma"),
    (r"\.semantic_query\.", ".mlp_cls_q."),
    (r"\.semantic_key\.", ".mlp_cls_k."),
    (r"\.value\.", ".mlp_v."),
    (r"\.projection\.", ".mlp_res."),
    (r"^decoder\.levels\.(\d+)\.(\d+)\.0\.", r"decode_head.scale_heads.\1.\2.conv."),
    (r"^decoder\.levels\.(\d+)\.(\d+)\.1\.", r"decode_head.scale_heads.\1.\2.bn."),
    (r"^decoder\.classifier\.", "decode_head.conv_seg."),
)
