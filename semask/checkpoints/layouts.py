"""Families of weight files that a SeMask can start from, told apart by the names in them."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from semask.checkpoints.names import BACKBONE, Source, microsoft_name, official_name, substitute, timm_name


class Layout(NamedTuple):
    """The names of one family of files."""

    title: str
    """What the family is called, for messages."""
    mark: str
    """Pattern that a name of every such file matches, and no name of the layouts before it in `LAYOUTS`."""
    rename: Callable[[str], Source | None]
    """Our name of a tensor -> its place there; None where the family has no such thing."""
    unify: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    """Brings tensors of the file that others keep in another form to that form, before they are looked up."""


def recognize(tensors: Mapping[str, Tensor]) -> Layout:
    """Find the layout of a file's tensors.

    Raises:
        ValueError: If no layout has such names.
    """
    for layout in LAYOUTS:
        if any(re.search(layout.mark, name) for name in tensors):
            return layout
    known = "; ".join(layout.title for layout in LAYOUTS)
    raise ValueError(f"no known names of tensors in it (found e.g. {', '.join(list(tensors)[:3])}): give {known}")


def swin_only(rename: Callable[[str], str]) -> Callable[[str], Source | None]:
    """Names of a file that holds nothing but a Swin."""
    return lambda name: Source(rename(name.removeprefix(BACKBONE))) if name.startswith(BACKBONE) else None


def transformers_name(name: str) -> Source | None:
    """Translate a name of ours into that of the Mask2Former with a Swin in `transformers`, once `fused`."""
    return None if ".semantic_layers." in name else Source(substitute(TRANSFORMERS, name))


def fused(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join the queries, keys and values of a Swin, three tensors in `transformers`, to the one that all others have."""
    result = dict(tensors)
    for name in tensors:
        if ".attention.self.query." in name:
            three = [name.replace(".query.", f".{role}.") for role in ("query", "key", "value")]
            if all(part in tensors for part in three):
                result[name.replace(".query.", ".qkv.")] = torch.cat([result.pop(part) for part in three])
    return result


def openmmlab_name(name: str) -> Source | None:
    """Translate a name of ours into that of OpenMMLab's own Swin, once `concatenated`; its decoders are others."""
    if not name.startswith((BACKBONE, "encoder.norms.")):
        return None
    return Source(substitute(OPENMMLAB, official_name(name).name))


def concatenated(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reorder the input channels of OpenMMLab's patch merging as all others have them.

    Its four neighbors come from an unfolding: channel by channel, each (0, 0), (0, 1), (1, 0), (1, 1) by row and
    column. Elsewhere they are concatenated: neighbor by neighbor, (0, 0), (1, 0), (0, 1), (1, 1).
    """

    def reorder(x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], -1, 4)[..., [0, 2, 1, 3]].transpose(-1, -2).flatten(-2)

    return {name: reorder(x) if re.search(r"\.downsample\.", name) else x for name, x in tensors.items()}


def renamed_queries(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the query features of early Mask2Former checkpoints their later name."""
    return {name.replace(".static_query.", ".query_feat."): x for name, x in tensors.items()}


_PIXEL_LEVEL = "model.pixel_level_module."

TRANSFORMERS = (
    (r"^encoder\.norms\.(\d+)\.", lambda m: f"{_PIXEL_LEVEL}encoder.hidden_states_norms.stage{int(m[1]) + 1}."),
    (r"^encoder\.backbone\.stem\.projection\.", _PIXEL_LEVEL + "encoder.embeddings.patch_embeddings.projection."),
    (r"^encoder\.backbone\.stem\.norm\.", _PIXEL_LEVEL + "encoder.embeddings.norm."),
    (
        r"^encoder\.backbone\.stages\.(\d+)\.merge\.",
        lambda m: f"{_PIXEL_LEVEL}encoder.encoder.layers.{int(m[1]) - 1}.downsample.",
    ),
    (r"^encoder\.backbone\.stages\.", _PIXEL_LEVEL + "encoder.encoder.layers."),
    (r"(blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
    (r"(blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
    (r"(blocks\.\d+)\.attention\.projection\.", r"\1.attention.output.dense."),
    (r"(blocks\.\d+)\.attention\.(qkv|relative)", r"\1.attention.self.\2"),
    (r"(blocks\.\d+)\.mlp\.0\.", r"\1.intermediate.dense."),
    (r"(blocks\.\d+)\.mlp\.2\.", r"\1.output.dense."),
    (r"^decoder\.pixel_decoder\.projections\.", _PIXEL_LEVEL + "decoder.input_projections."),
    (r"^decoder\.pixel_decoder\.level\.lateral\.", _PIXEL_LEVEL + "decoder.adapter_1."),
    (r"^decoder\.pixel_decoder\.level\.output\.", _PIXEL_LEVEL + "decoder.layer_1."),
    (r"^decoder\.pixel_decoder\.mask_features\.", _PIXEL_LEVEL + "decoder.mask_projection."),
    (r"^decoder\.pixel_decoder\.", _PIXEL_LEVEL + "decoder."),
    (r"^decoder\.transformer\.", "model.transformer_module."),
    (r"^decoder\.class_predictor\.", "class_predictor."),
)

OPENMMLAB = (
    (r"^backbone\.layers\.", "backbone.stages."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"\.attn\.", ".attn.w_msa."),
    (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
    (r"\.mlp\.fc2\.", ".ffn.layers.1."),
)

LAYOUTS = (
    Layout("a checkpoint of semask", r"^encoder\.backbone\.", Source),
    Layout("Mask2Former with a Swin of transformers", r"^model\.pixel_level_module\.", transformers_name, fused),
    Layout("mmsegmentation with its own Swin", r"^backbone\.stages\.\d+\.blocks\.", openmmlab_name, concatenated),
    Layout(
        "SeMask, MaskFormer or Mask2Former of detectron2, or SeMask of mmsegmentation",
        r"^backbone\.layers\.\d+\.blocks\.",
        official_name,
        renamed_queries,
    ),
    Layout("Swin of Microsoft", r"^layers\.0\.downsample\.", swin_only(microsoft_name)),
    Layout("Swin of timm", r"^layers\.\d+\.blocks\.", swin_only(timm_name)),
)
"""Families of files that can be read, in the order in which they are tried."""
