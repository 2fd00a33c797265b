"""Explaining an image: one forward pass, watched at the semantic layers."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from semask import cost
from semask.acceleration.accelerate import plain
from semask.data.classes import Classes
from semask.explain.attention import AttentionMaps
from semask.explain.explanation import (
    Explanation,
    StageExplanation,
    distinct_classes,
    first_agreeing,
    first_settled,
)
from semask.model import SeMask
from semask.prediction.prediction import Prediction
from semask.prediction.score_maps import View, confidence, label_map, require_numbers
from semask.semantic.attention import SemanticAttention
from semask.semantic.layer import SemanticLayer
from semask.semantic.windows import merge


class Watched(NamedTuple):
    """What a semantic layer did with one image."""

    query: Tensor
    """Semantic query of each token, [hp, wp, K]."""
    key: Tensor
    """Semantic key, [hp, wp, K]."""
    change: Tensor
    """Relative change of the features, [h, w]."""


def semantic_layers(model: object) -> dict[int, SemanticLayer]:
    """Find the semantic layers, by their stage (from 0); a plain model has none.

    Raises:
        ValueError: If it is an exported file, or the classes of the priors are not those of the model.
    """
    if not isinstance(model, SeMask):
        raise ValueError("an exported file gives no priors: explain the checkpoint that it was made of")
    layers = {i: layer for i, layer in enumerate(model.encoder.semantic_layers) if isinstance(layer, SemanticLayer)}
    classes, priors = model.config["num_classes"], model.config["prior_classes"]
    if layers and priors not in (None, classes):
        raise ValueError(f"its priors have {priors} classes and the model {classes}: they can't be compared")
    return layers


@contextlib.contextmanager
def watching(model: object) -> Iterator[dict[int, Watched]]:
    """Watch the semantic layers while the context lasts: gives what each of them did, by its stage (from 0)."""
    seen: dict[int, Watched] = {}

    def watch(stage: int) -> Any:
        def hook(layer: SemanticLayer, inputs: tuple[Tensor], output: tuple[Tensor, Tensor | None]) -> None:
            seen[stage] = watched(layer, inputs[0], output[0])

        return hook

    handles = [layer.register_forward_hook(watch(i)) for i, layer in semantic_layers(model).items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def watched(layer: SemanticLayer, x: Tensor, refined: Tensor) -> Watched:
    """Say what a semantic layer did with features [1, h, w, C]; the last block's query and key are computed again."""
    normed = layer.norm(x)
    tokens = layer.cut(normed)  # [n, N, C]
    *earlier, last = layer.attentions
    assert isinstance(last, SemanticAttention)
    for attention in earlier:
        tokens = tokens + attention(tokens)[1]
    _, h, w, _ = x.shape
    query, key = (whole(layer, part(tokens), h, w) for part in (last.semantic_query, last.semantic_key))
    before = (normed if layer.residual == "normed" else x).float()
    change = (refined.float() - before).norm(dim=-1) / before.norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
    return Watched(query, key, change[0])


def whole(layer: SemanticLayer, tokens: Tensor, h: int, w: int) -> Tensor:
    """Undo the layer's `cut` but keep the padding of the windows: [n, N, K] -> [hp, wp, K]."""
    if layer.window is None:
        return tokens[0].view(h, w, -1).float()
    return merge(tokens, layer.window, h, w)[0].float()


def explained(
    model: SeMask,
    image: Tensor,
    views: Sequence[View],
    seen: dict[int, Watched],
    *,
    classes: Classes,
    temperature: float | None,
) -> Explanation:
    """Put together what one pass has shown.

    Args:
        model: The model.
        image: The image [C, H, W], uint8 or float in [0, 1].
        views: What the decoder and the priors say of it, first to last.
        seen: What the semantic layers did, by stage (from 0).
        classes: Names and colors.
        temperature: What the confidence of the decoder is calibrated with; None: nothing is changed.
    """
    size = (image.shape[-2], image.shape[-1])
    require_numbers(views)
    label, *priors = (label_map([view], size)[0].cpu().numpy() for view in views)
    sure, *of_priors = (confidence([v], size, None if i else temperature)[0].cpu().numpy() for i, v in enumerate(views))
    with plain(model):
        flops, until = cost.flops(model, views[0].size), cost.flops_until(model, views[0].size)
    stages = []
    for place, (stage, layer) in enumerate(semantic_layers(model).items()):
        found = seen[stage]
        stages.append(
            StageExplanation(
                stage=stage + 1,
                label=priors[place],
                confidence=of_priors[place],
                agreement=float((priors[place] == label).mean()),
                change=found.change.cpu().numpy(),
                scales=tuple(x.scale.item() for x in layer.attentions if isinstance(x, SemanticAttention)),
                residual=layer.residual,
                flops=until[stage],
                attention=attention_maps(layer, found, views[0]),
            )
        )
    return Explanation(
        prediction=Prediction(label, sure, tuple(priors), classes, image.permute(1, 2, 0).cpu().numpy()),
        stages=tuple(stages),
        first=first_agreeing(priors, label),
        settled=first_settled(priors, label),
        disagreement=distinct_classes(priors, label.shape),
        seen=views[0].size,
        flops=flops,
    )


def attention_maps(layer: SemanticLayer, found: Watched, view: View) -> AttentionMaps:
    """Give query and key of a layer with the place of the image on its map."""
    h, w = found.change.shape
    (height, width), padded = view.size, view.padded
    covered = (h * height / padded[0], w * width / padded[1])
    return AttentionMaps(found.query.cpu().numpy(), found.key.cpu().numpy(), (h, w), covered, layer.window)
