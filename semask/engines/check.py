"""Whether an exported file does what the model does, and how fast: measured as `predict` would use both."""

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from semask.data.normalization import resize_image
from semask.data.sizes import fitted_size
from semask.engines.runtime import Runtime
from semask.model import SeMask
from semask.prediction.predictor import Predictor
from semask.prediction.score_maps import View, label_map, probabilities
from semask.settings.inference import Inference

LIMITS = {"fp32": 0.1, "fp16": 0.5, "bf16": 0.5, "int8": 2.0}
"""Largest share of pixels, in percent, whose label may differ."""
NEAR_TIE = 0.01
"""Below this lead of one class over another, in probability, either is as good an answer."""
ODD_SHARE, ODD_LEAST = 0.7, 65
"""Share of the usual sides, and pixels: at least two locations of the coarsest map a side."""
TURNS = 5


@dataclass(frozen=True)
class Check:
    """How far an exported file is from the model.

    Attributes:
        sizes: Height and width of every image that was compared, as the model saw it.
        pixels: Pixels that were compared, at the size of the images.
        different: Those of them whose label differs.
        max_difference: Largest difference of a class score (logits; of a mask decoder the sum of its masks'
            probabilities).
        mean_difference: The same, on average.
        largest_lead: Of the pixels whose label differs, the largest lead of the model's own class over the file's, in
            the model's probabilities; near 0 where both were as likely.
    """

    sizes: tuple[tuple[int, int], ...]
    pixels: int
    different: int
    max_difference: float
    mean_difference: float
    largest_lead: float

    @property
    def percent(self) -> float:
        """Share of the pixels whose label differs, in percent."""
        return 100 * self.different / self.pixels

    def passes(self, limit: float) -> bool:
        """Whether no score is NaN and at most `limit` percent of the labels differ."""
        return self.percent <= limit and self.mean_difference < float("inf")  # NaN is not below


@dataclass(frozen=True)
class Latency:
    """Median time of one image, in turns with the other.

    Attributes:
        size: Height and width of the image.
        model: Seconds of the model, in float32 and without compilation.
        exported: Seconds of the exported file.
    """

    size: tuple[int, int]
    model: float
    exported: float


def compare(model: SeMask, runtime: Runtime, images: Iterable[Tensor], inference: Inference) -> Check:
    """Put images through both, and the first of them also at an odd size, unless the file takes one size only.

    Args:
        model: The model, in evaluation mode.
        runtime: The file that it was exported to.
        images: Images [C, H, W], uint8 or float in [0, 1]; at least one.
        inference: How images are put through them; of its ratios 1 alone counts, and no flip.
    """
    inference = replace(inference, ratios=(1.0,), flip=False)
    parts: list[_Part] = []
    for image in images:
        if not parts and runtime.size is None:
            odd = _oddly_sized(image, inference)
            parts.append(_compare(model, runtime, odd, replace(inference, scale=None, mode="whole")))
        parts.append(_compare(model, runtime, image, inference))
    return Check(
        sizes=tuple(part.size for part in parts),
        pixels=sum(part.pixels for part in parts),
        different=sum(part.different for part in parts),
        max_difference=float(np.max([part.largest for part in parts])),  # unlike Python's, NaN if one is
        mean_difference=sum(part.total for part in parts) / sum(part.values for part in parts),
        largest_lead=max(part.lead for part in parts),
    )


def measure(model: SeMask, runtime: Runtime, image: Tensor) -> Latency:
    """Time both on one normalized image [1, C, H, W], in turns so that other work on the machine meets both."""
    times: dict[nn.Module, list[float]] = {model: [], runtime: []}
    for turn in range(1 + TURNS):
        for module, taken in times.items():
            start = time.perf_counter()
            with torch.inference_mode():
                module(image, masks_only=True)
            if image.is_cuda:
                torch.cuda.synchronize()
            if turn > 0:  # the first makes ready for the size
                taken.append(time.perf_counter() - start)
    before, after = (statistics.median(taken) for taken in times.values())
    return Latency((image.shape[-2], image.shape[-1]), before, after)


class _Part(NamedTuple):
    """The comparison of one image."""

    size: tuple[int, int]
    pixels: int
    different: int
    largest: float
    total: float
    values: int
    lead: float


def _compare(model: SeMask, runtime: Runtime, image: Tensor, inference: Inference) -> _Part:
    size = (image.shape[-2], image.shape[-1])
    before, after = (Predictor(module, inference).views(image)[0] for module in (model, runtime))
    if runtime.makes_labels:  # there are no scores to compare, and labels are those at the size that the model saw
        difference, size = torch.zeros(1), before[0].size
    else:
        difference = (_class_scores(after[0]) - _class_scores(before[0])).abs()
    labels = label_map(before, size).cpu(), label_map(after, size).cpu()
    return _Part(
        size=before[0].size,
        pixels=labels[0].numel(),
        different=int((labels[0] != labels[1]).sum()),
        largest=float(difference.max()),
        total=float(difference.sum(dtype=torch.float64)),
        values=difference.numel(),
        lead=_largest_lead(before, *labels),
    )


def _class_scores(view: View) -> Tensor:
    """Scores of classes [B, K, h, w] at the size that the decoder gives; on the CPU."""
    scores = view.scores.float()
    if view.classes is not None:
        scores = torch.einsum("bqk,bqhw->bkhw", view.classes, scores.sigmoid())
    return scores.cpu()


def _largest_lead(views: Sequence[View], label: Tensor, other: Tensor) -> float:
    """Largest lead in probability of one label map [B, H, W] over another where they differ, strip by strip."""
    size = (label.shape[-2], label.shape[-1])
    rows = torch.nonzero((label != other).any(dim=-1).any(dim=0)).flatten().tolist()
    lead = 0.0
    for row in rows:
        shares = probabilities(views, size, range(row, row + 1)).cpu()
        pair = (shares.gather(1, x[:, None, row : row + 1].long()) for x in (label, other))
        lead = max(lead, float(torch.sub(*pair).max()))
    return lead


def _oddly_sized(image: Tensor, inference: Inference) -> Tensor:
    """Resize an image to a size that is no multiple of anything, somewhat below the usual one if that is not small."""
    height, width = fitted_size((image.shape[-2], image.shape[-1]), inference.scale)
    if inference.mode == "slide":
        height, width = min(height, inference.crop[0]), min(width, inference.crop[1])
    sides = [max(int(side * ODD_SHARE), ODD_LEAST) | 1 for side in (height, width)]
    return resize_image(image, sides, antialias=True)
