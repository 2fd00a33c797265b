"""What a setting may hand to a library's backbone: numbers and flags of its architecture, and nothing else.

A checkpoint or recipe of anybody can hold `encoder_options`. Libraries take far more than an architecture there: code
to run (`trust_remote_code`), addresses and files to read (`pretrained_cfg`, `checkpoint_path`). So this is a list of
what is admitted. For anything else build the backbone in Python and give it to `semask.attach`.
"""

from typing import Annotated, Any, Literal

from semask.files.schema import Probability, Range

Kind = Literal["pvt", "pvt_v2", "segformer"]
"""Kinds of models of transformers that are known (`model_type` of a configuration)."""

_Count = Annotated[int, Range(1, 4096)]
_Depth = Annotated[int, Range(0, 64)]
_Ratio = Annotated[float, Range(0, 64, above=True)]
_Counts = tuple[_Count, ...]
_Depths = tuple[_Depth, ...]
_Ratios = tuple[_Ratio, ...]

TIMM: dict[str, Any] = {
    "always_partition": bool,
    "attn_drop_rate": Probability,
    "class_token": bool,
    "depth": Annotated[int, Range(1, 64)],
    "depths": _Depths,
    "drop_path_rate": Probability,
    "drop_rate": Probability,
    "dynamic_img_pad": bool,
    "dynamic_img_size": bool,
    "embed_dim": _Count | _Counts,
    "img_size": _Count | tuple[_Count, _Count],
    "mlp_ratio": _Ratio | _Ratios,
    "num_heads": _Count | _Counts,
    "output_stride": Annotated[int, Range(8, 32)],
    "patch_size": _Count | tuple[_Count, _Count],
    "pos_drop_rate": Probability,
    "proj_drop_rate": Probability,
    "qk_norm": bool,
    "qkv_bias": bool,
    "reg_tokens": Annotated[int, Range(0, 64)],
    "strict_img_size": bool,
    "window_size": _Count | tuple[_Count, _Count],
}
"""Arguments of timm's constructors."""

TRANSFORMERS: dict[str, Any] = {
    "model_type": Kind,
    "attention_probs_dropout_prob": Probability,
    "depths": _Depths,
    "drop_path_rate": Probability,
    "hidden_act": Literal["gelu", "gelu_new", "relu", "silu"],
    "hidden_dropout_prob": Probability,
    "hidden_sizes": _Counts,
    "image_size": _Count | tuple[_Count, _Count],
    "initializer_range": Annotated[float, Range(0, 10)],
    "layer_norm_eps": Annotated[float, Range(0, 1)],
    "linear_attention": bool,
    "mlp_ratios": _Ratios,
    "num_attention_heads": _Counts,
    "num_encoder_blocks": Annotated[int, Range(1, 8)],
    "patch_sizes": _Counts,
    "qkv_bias": bool,
    "sequence_reduction_ratios": _Counts,
    "sr_ratios": _Counts,
    "strides": _Counts,
}
"""Entries of the configurations of transformers, and which kind of model it is."""
