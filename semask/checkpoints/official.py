"""The verb `convert`: a checkpoint of the published SeMask code becomes one of ours."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from semask.builder import build
from semask.checkpoints.names import DROPPED, PIXEL, PREDICTOR, official_names, take
from semask.checkpoints.published import Published
from semask.checkpoints.saving import save
from semask.checkpoints.weight_files import WeightFile, read_file
from semask.data.classes import Classes
from semask.encoders.swin import SIZES, SwinSize
from semask.files.reading import sha256
from semask.model import SeMask

Scope = tuple[int | None, int | None, int | None, int | None]
PLACES = 3 * 4
"""Places that a head of the deformable attention looks at: 4 in each of 3 maps."""


def convert_published(file: Path, published: Published, *, out: Path) -> Path:
    """Convert the file of a published model to OUT.

    Raises:
        ValueError: If it can't be read, is no SeMask, or not this one.
    """
    content = read_file(file)
    settings = read_settings(content.tensors, file) | {"semantic_window": list(published.semantic_window)}
    for name in ("encoder", "decoder"):
        if settings[name] != getattr(published, name):
            raise ValueError(
                f"{file}: this is a {settings['encoder']} with {settings['decoder']}, but {published.name} is a "
                f"{published.encoder} with {published.decoder}: give the right file or name"
            )
    classes = Classes.of(published.format)
    if len(classes) != settings["num_classes"]:
        raise ValueError(f"{file}: has {settings['num_classes']} classes, {published.name} has {len(classes)}")
    facts = {
        "name": published.name,
        "miou": published.miou,
        "miou_multiscale": published.miou_multiscale,
        "licence": published.licence,
        "url": published.page,
    }
    metadata = {"recipe": published.recipe, "classes": classes.as_dict(), "published": facts}
    return write(file, content, settings, metadata, out=out)


def convert_file(file: Path, *, semantic_window: Scope | None, format: str | None, out: Path) -> Path:
    """Convert the file of a model of somebody's own to OUT.

    Raises:
        ValueError: If it can't be read, is no SeMask, or its scope was not given.
    """
    content = read_file(file)
    settings = read_settings(content.tensors, file)
    if settings["semantic_depths"] != 0:
        if semantic_window is None:
            raise ValueError(
                f"{file}: which scope has its semantic attention? The file can't tell: give --published NAME if it "
                "is a published model, or --semantic_window, e.g. [7,7,null,null] (null = global)"
            )
        settings["semantic_window"] = list(semantic_window)
    classes = Classes.of(format) if format is not None else file_classes(content, settings["num_classes"])
    if classes is not None and len(classes) != settings["num_classes"]:
        raise ValueError(
            f"{file}: has {settings['num_classes']} classes, {format} has {len(classes)}: give another format"
        )
    metadata: dict[str, Any] = {"recipe": {} if format is None else {"data": {"format": format}}}
    if classes is not None:
        metadata["classes"] = classes.as_dict()
    return write(file, content, settings, metadata, out=out)


def write(file: Path, content: WeightFile, settings: dict[str, Any], metadata: dict[str, Any], *, out: Path) -> Path:
    """Build the model, fill it, and save it; where the weights came from goes with them."""
    model = build(**settings)
    model.load_state_dict(translate(content.tensors, model, file))
    source = {"file": file.name, "sha256": sha256(file)}
    return save(out, model, {**metadata, "source": source})


def translate(tensors: Mapping[str, Tensor], model: SeMask, file: Path) -> dict[str, Tensor]:
    """Bring published tensors under the names of ours; every one has to be used, or be known not to be.

    Raises:
        ValueError: If one is missing, left over or of another shape.
    """
    state, places = model.state_dict(), official_names(model)
    used = {place.name for place in places.values()}
    missing = sorted(used - tensors.keys())
    unknown = sorted(name for name in tensors if name not in used and not DROPPED.search(name))
    if missing or unknown:
        faults = {"are missing": missing, "have no place": unknown}
        texts = [f"{len(names)} tensors {fault}: {', '.join(names)}" for fault, names in faults.items() if names]
        raise ValueError(f"{file}: not the tensors of the SeMask that it seems to be; {'; '.join(texts)}")
    ours = {name: take(tensors, place) for name, place in places.items()}
    for name, place in places.items():
        if ours[name].shape != state[name].shape:
            raise ValueError(
                f"{file}: {place.name} is {list(tensors[place.name].shape)}, which does not fit the other tensors: "
                f"expected {list(state[name].shape)}"
                + (f" for each of its {place.parts} parts" if place.parts > 1 else "")
            )
    return ours


def read_settings(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    """Read from the names and shapes of published tensors how the model was built; all but the semantic scope.

    Raises:
        ValueError: If they are those of no SeMask of a known size.
    """
    try:
        settings = encoder_settings(tensors) | decoder_settings(tensors)
    except (KeyError, IndexError, StopIteration) as error:
        raise ValueError(
            f"{file}: not a checkpoint of the published SeMask code ({error} is missing; found e.g. "
            f"{', '.join(list(tensors)[:3])}): to start from other weights, use training.pretrained"
        ) from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    if settings["prior_classes"] == settings["num_classes"]:
        settings["prior_classes"] = None
    return settings


def encoder_settings(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Size of the Swin, number of semantic blocks and classes of the priors."""
    patch = tensors["backbone.patch_embed.proj.weight"]
    tables = [tensors[f"backbone.layers.{i}.blocks.0.attn.relative_position_bias_table"] for i in range(4)]
    depths = tuple(count(tensors, rf"backbone\.layers\.{i}\.blocks\.(\d+)\.") for i in range(4))
    window = (math.isqrt(len(tables[0])) + 1) // 2
    found = SwinSize(len(patch), depths, tuple(table.shape[1] for table in tables), window, 0.0)
    name = next((name for name, size in SIZES.items() if size[:3] == found[:3]), None)
    if name is None:
        raise ValueError(f"a Swin of no known size: {found.channels} channels, depths {depths}, heads {found.heads}")
    semantic = [count(tensors, rf"backbone\.layers\.{i}\.semantic_layer\.class_injection\.(\d+)\.") for i in range(4)]
    priors = [x.shape[0] for name, x in tensors.items() if name.endswith(".mlp_cls_q.weight")]
    return {
        "encoder": name,
        "in_channels": patch.shape[1],
        "window": None if window == SIZES[name].window else window,
        "semantic_depths": semantic[0] if len(set(semantic)) == 1 else semantic,
        "prior_classes": priors[0] if priors else None,
    }


def decoder_settings(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Kind of decoder, classes, widths, queries and layers."""
    head = "decode_head.conv_seg.weight"
    if head in tensors:
        return {"decoder": "fpn", "num_classes": tensors[head].shape[0], "channels": tensors[head].shape[1]}
    queries, channels = tensors[PREDICTOR + "query_embed.weight"].shape
    settings: dict[str, Any] = {
        "num_classes": tensors[PREDICTOR + "class_embed.weight"].shape[0] - 1,
        "channels": channels,
        "queries": queries,
    }
    maskformer = count(tensors, r"sem_seg_head\.predictor\.transformer\.decoder\.layers\.(\d+)\.")
    settings["decoder_options"] = mask_decoder_options(tensors, channels, maskformer=maskformer > 0) or None
    if maskformer:
        return settings | {"decoder": "maskformer", "decoder_layers": maskformer}
    pixel = {name.split(".")[2] for name in tensors if name.startswith(PIXEL)}
    aligned = {"fapn": "align_2" in pixel, "msfapn": "align_1" in pixel and "transformer" in pixel}
    ending = next((f"_{kind}" for kind, fits in aligned.items() if fits), "")
    layers = count(tensors, r"sem_seg_head\.predictor\.transformer_cross_attention_layers\.(\d+)\.")
    return settings | {"decoder": "mask2former" + ending, "decoder_layers": layers}


def mask_decoder_options(tensors: Mapping[str, Tensor], channels: int, *, maskformer: bool) -> dict[str, Any]:
    """Settings that only mask decoders have, as the tensors show them, but for those that every published model has.

    Into how many heads a width is split is seen in the deformable attention only.
    """
    layer = "transformer.decoder.layers.0." if maskformer else "transformer_ffn_layers.0."
    mask_channels, pixel_channels = tensors[PIXEL + "mask_features.weight"].shape[:2]
    found = {
        "pixel_channels": pixel_channels,
        "mask_channels": mask_channels,
        "feedforward": tensors[f"{PREDICTOR}{layer}linear1.weight"].shape[0],
        "input_projection": any(name.startswith(PREDICTOR + "input_proj.") for name in tensors),
    }
    if any(name.startswith(PIXEL + "transformer.") for name in tensors):
        found["encoder_layers"] = count(tensors, re.escape(PIXEL) + r"transformer\.encoder\.layers\.(\d+)\.")
    weights = tensors.get(PIXEL + "transformer.encoder.layers.0.self_attn.attention_weights.bias")
    if weights is not None:
        found["heads"] = len(weights) // PLACES
    usual = {
        "pixel_channels": channels,
        "mask_channels": channels,
        "feedforward": 2048,
        "input_projection": maskformer or pixel_channels != channels,
        "encoder_layers": 6,
        "heads": 8,
    }
    return {name: value for name, value in found.items() if value != usual[name]}


def count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """Count modules of a list by the numbers in the names."""
    return len({match[1] for match in map(re.compile(pattern).match, tensors) if match})


def file_classes(content: WeightFile, num_classes: int) -> Classes | None:
    """Names and colors that an mmsegmentation checkpoint carries; None if it has none that fit."""
    meta = content.about.get("meta") or {}
    values = {"classes": meta.get("CLASSES"), "palette": meta.get("PALETTE")}
    try:
        classes = Classes.from_dict(values)
    except ValueError:
        return None
    return classes if len(classes) == num_classes else None
