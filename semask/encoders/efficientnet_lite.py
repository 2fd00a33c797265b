"""EfficientNet-Lite0 as timm computes it, with the names of timm's weights, and without timm.

Importing timm takes longer than importing torch, and this is the encoder of the model in the package, which people
start for one photo. The network: EfficientNet (Tan & Le, arXiv 1905.11946, table 1) without squeeze and excitation,
with ReLU6 in place of swish, and with TensorFlow's padding.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semask.encoders.backbone import Plan

NAME = "timm/tf_efficientnet_lite0"
STEM = 32
BLOCKS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks of one kind each: how many, side of the kernel, stride of the first, expansion, channels."""
ENDS = (1, 2, 4, 6)
"""Which of them end a stage, at strides 4, 8, 16 and 32."""


class EfficientNetLite0(nn.Module):
    """The weights of an EfficientNet-Lite0 without its classifier; `plan` says how they are run.

    Args:
        in_channels: Channels of the image.
    """

    pretrained_cfg: Mapping[str, str] = {"architecture": NAME.removeprefix("timm/")}
    """What tells which mean and standard deviation it was trained with, as timm's models do."""

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.conv_stem = SameConv(in_channels, STEM, 3, stride=2)
        self.bn1 = norm(STEM)
        stages, channels = [], STEM
        for count, kernel, stride, expansion, wider in BLOCKS:
            blocks = []
            for index in range(count):
                blocks.append(Block(channels, wider, kernel, stride=1 if index else stride, expansion=expansion))
                channels = wider
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.apply(initialize)


class Block(nn.Module):
    """Inverted residual (MobileNetV2, arXiv 1801.04381): expand, filter each channel, project; add the input.

    Args:
        channels: Channels of the input.
        wider: Channels of the output.
        kernel: Side of the kernel.
        stride: Stride.
        expansion: Factor on the channels in between; 1 leaves the expansion out.
    """

    def __init__(self, channels: int, wider: int, kernel: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.residual = stride == 1 and channels == wider
        self.expands = expansion > 1
        depthwise = SameConv(inner, inner, kernel, stride=stride, groups=inner)
        if self.expands:
            self.conv_pw, self.bn1 = nn.Conv2d(channels, inner, 1, bias=False), norm(inner)
            self.conv_dw, self.bn2 = depthwise, norm(inner)
            self.conv_pwl, self.bn3 = nn.Conv2d(inner, wider, 1, bias=False), norm(wider)
        else:
            self.conv_dw, self.bn1 = depthwise, norm(inner)
            self.conv_pw, self.bn2 = nn.Conv2d(inner, wider, 1, bias=False), norm(wider)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, h, w] -> [B, C', h / stride, w / stride]."""
        if self.expands:
            y: Tensor = F.relu6(self.bn1(self.conv_pw(x)), inplace=True)
            y = F.relu6(self.bn2(self.conv_dw(y)), inplace=True)
            y = self.bn3(self.conv_pwl(y))
        else:
            y = F.relu6(self.bn1(self.conv_dw(x)), inplace=True)
            y = self.bn2(self.conv_pw(y))
        return y + x if self.residual else y


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's padding: as much as it takes for ceil(size / stride), the odd pixel at the end."""

    def __init__(self, channels: int, wider: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        padding = 0 if stride > 1 else kernel // 2
        super().__init__(channels, wider, kernel, stride=stride, padding=padding, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, h, w] -> [B, C', ceil(h / stride), ceil(w / stride)]."""
        if self.stride[0] > 1:
            rows, columns = (missing(x.shape[axis], self.kernel_size[0], self.stride[0]) for axis in (-2, -1))
            x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        if not (self.has_slow_gradient(x) or self.is_misread(x)):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            x = x.float().contiguous(memory_format=torch.channels_last)
            y: Tensor = self._conv_forward(x, self.weight.float(), None)
        return y.to(self.weight.dtype)

    def has_slow_gradient(self, x: Tensor) -> bool:
        """Whether x is of those whose gradient oneDNN computes many times slower in bfloat16 than in float32.

        They are the filters of each channel that skip pixels or are wider than 3 (docs/benchmarks.md).
        """
        return (
            self.groups > 1
            and (self.stride[0] > 1 or self.kernel_size[0] > 3)
            and x.device.type == "cpu"
            and torch.is_grad_enabled()
            and torch.is_autocast_enabled("cpu")
        )

    def is_misread(self, x: Tensor) -> bool:
        """Whether oneDNN may compute x wrongly in bfloat16; see `semask.acceleration.convolution`."""
        bf16 = torch.is_autocast_enabled("cpu") or self.weight.dtype == torch.bfloat16
        return self.groups == 1 and self.stride[0] > 1 and x.device.type == "cpu" and bf16


def missing(length: int, kernel: int, stride: int) -> int:
    """How many more a kernel needs to take ceil(length / stride) steps: positive operands, for exporters.

    >>> missing(9, 3, 2), missing(8, 3, 2), missing(8, 5, 2)
    (2, 1, 3)
    """
    return (length + stride - 1) // stride * stride + kernel - stride - length


def norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm as TensorFlow's models have it."""
    return nn.BatchNorm2d(channels, eps=1e-3)


def initialize(module: nn.Module) -> None:
    """Give a convolution fresh weights: normal, by its outputs (the paper's code)."""
    if isinstance(module, nn.Conv2d):
        side = module.kernel_size[0]
        nn.init.normal_(module.weight, std=math.sqrt(2 * module.groups / (side * side * module.out_channels)))


def plan() -> Plan:
    """How it is run stage by stage."""
    starts = (0, *(end + 1 for end in ENDS[:-1]))
    return Plan(
        stem,
        tuple(partial(stage, first=first, last=last) for first, last in zip(starts, ENDS, strict=True)),
        tuple(BLOCKS[end][-1] for end in ENDS),
        tuple(4 * 2**i for i in range(len(ENDS))),
    )


def stem(model: Any, image: Tensor) -> Tensor:
    """Image [B, in_channels, H, W] -> [B, 32, H / 2, W / 2]."""
    if image.device.type == "cpu":  # oneDNN's filters of each channel are faster on it, most of all their gradients
        image = image.contiguous(memory_format=torch.channels_last)
    return F.relu6(model.bn1(model.conv_stem(image)), inplace=True)


def stage(model: Any, x: Tensor, *, first: int, last: int) -> Tensor:
    """State after a stage -> state after the next one, [B, C, h, w]."""
    for blocks in model.blocks[first : last + 1]:
        x = blocks(x)
    return x
