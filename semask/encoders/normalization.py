"""Mean and standard deviation of the images that a library's backbone was trained with."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from semask.files.schema import Range


class ChannelStatistics(NamedTuple):
    """One value a channel, for samples in [0, 1]; None is for those of ImageNet."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


LITE = ChannelStatistics((127 / 255,) * 3, (128 / 255,) * 3)
"""EfficientNet-Lite was trained with (x - 127) / 128 for x from 0 to 255; timm says 0.5, which is nearly that."""


def normalization_of(model: nn.Module) -> ChannelStatistics:
    """Find what a library says of its model.

    Models of timm have it with their weights (`pretrained_cfg`). Those of transformers that are known here, SegFormer,
    PVT and PVTv2, were trained with ImageNet's, and so is assumed of every other model.
    """
    said: Any = getattr(model, "pretrained_cfg", None)
    if not isinstance(said, Mapping):
        return ChannelStatistics()
    if str(said.get("architecture", "")).startswith("tf_efficientnet_lite"):
        return LITE
    mean: Any = said.get("mean")
    std: Any = said.get("std")
    if not all_in(mean, Range(-1e4, 1e4)) or not all_in(std, Range(0, 1e4, above=True)) or len(mean) != len(std):
        return ChannelStatistics()
    return ChannelStatistics(tuple(mean), tuple(std))


def all_in(values: Any, numbers: Range) -> bool:
    """Whether something is a list of numbers of a range."""
    return isinstance(values, list | tuple) and len(values) > 0 and all(x in numbers for x in values)
