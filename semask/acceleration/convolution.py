"""Convolutions that skip pixels, which oneDNN gets wrong in bfloat16 on processors with AMX."""

import torch
from torch import Tensor, nn


class SafeConv2d(nn.Conv2d):
    """A convolution that skips pixels and mixes channels, in float32 where a CPU would compute in bfloat16.

    oneDNN 3.13 (torch 2.15) reads memory that was never written in some of them where the processor has AMX: where the
    result is one pixel wide, and where kernel width times channels is 64, as in the stem of Swin with 16 channels.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        bf16 = torch.bfloat16
        autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == bf16
        if input.device.type != "cpu" or not (autocast or weight.dtype == bf16):
            result: Tensor = super()._conv_forward(input, weight, bias)
            return result
        with torch.autocast("cpu", enabled=False):
            bias = None if bias is None else bias.float()
            exact: Tensor = super()._conv_forward(input.float(), weight.float(), bias)
        return exact.to(bf16)


def skips_pixels(layer: nn.Conv2d) -> bool:
    """Whether a convolution has a stride and mixes channels."""
    return layer.groups == 1 and max(layer.stride) > 1
