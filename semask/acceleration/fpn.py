"""Semantic FPN with fewer doublings, in prediction by rows of the largest map."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semask.acceleration.guards import recorded, sliced
from semask.acceleration.strips import resize_rows, source_rows
from semask.decoders.fpn import SemanticFPN
from semask.outputs import PixelOutput, resize

LOCATIONS = 2**14
"""Locations of the first map that are decoded at once; 256 channels of them are 16 MiB."""


class FastSemanticFPN(SemanticFPN):
    """Semantic FPN: levels of one size are summed before their last doubling; prediction goes by rows of the map."""

    def forward(self, maps: Sequence[Tensor]) -> PixelOutput:
        """Decode the maps [B, C_i, h_i, w_i] to class scores [B, K, h_0, w_0]."""
        doubled = all(isinstance(chain[-1], nn.Upsample) for chain in cast(list[nn.Sequential], self.levels[1:]))
        if recorded() or not doubled:
            return super().forward(maps)
        learning = any(module.training for module in self.modules())  # a BatchNorm that learns needs whole maps
        if sliced(maps[0]) and not learning and type(self.classifier) is nn.Conv2d:
            return PixelOutput(self._by_rows(maps))
        total = self.levels[0](maps[0])  # [B, channels, h_0, w_0]
        for part in self._summed(maps, classify=False):
            x = F.interpolate(part, scale_factor=2, mode="bilinear", align_corners=False)
            total = total + (x if x.shape == total.shape else resize(x, total.shape[-2:]))
        return PixelOutput(self.classifier(self.dropout(total)))

    def _summed(self, maps: Sequence[Tensor], *, classify: bool) -> list[Tensor]:
        """All levels but the first before their last doubling, which is linear: those of one size are summed.

        Args:
            maps: Features [B, C_i, h_i, w_i].
            classify: Whether to apply the classifier, which is linear too, but for its bias.

        Returns:
            [B, channels or K, h, w] for every size.
        """
        parts: list[Tensor] = []
        for chain, x in zip(cast(list[nn.Sequential], self.levels[1:]), maps[1:], strict=True):
            part = chain[:-1](x)
            part = F.conv2d(part, self.classifier.weight) if classify else part
            if parts and part.shape == parts[-1].shape:
                parts[-1] = parts[-1] + part
            else:
                parts.append(part)
        return parts

    def _by_rows(self, maps: Sequence[Tensor]) -> Tensor:
        """Compute the scores [B, K, h_0, w_0], and what is as large as the first map in slices of its rows.

        Where there are fewer classes than channels it is the scores that are doubled.
        """
        (first,) = cast(nn.Sequential, self.levels[0])
        size = (maps[0].shape[-2], maps[0].shape[-1])
        classify = self.classifier.out_channels < self.classifier.in_channels
        parts = self._summed(maps, classify=classify)
        step = max(LOCATIONS // size[1], 1)
        scores: Tensor | None = None
        for start in range(0, size[0], step):
            rows = range(start, min(start + step, size[0]))
            total = rows_of(first, maps[0], rows)
            total = self.classifier(total) if classify else total
            for part in parts:
                total += doubled_rows(part, size, rows)
            strip = total if classify else self.classifier(total)
            if scores is None:
                shape = (*strip.shape[:2], *size)
                last = torch.channels_last
                scores = torch.empty(shape, dtype=strip.dtype, device=strip.device, memory_format=last)
            scores[:, :, start : rows.stop] = strip
        assert scores is not None
        return scores


def rows_of(convolution: nn.Module, x: Tensor, rows: range) -> Tensor:
    """Some rows of a 3 x 3 convolution of x [B, C, h, w], zero around it."""
    above, below = min(rows.start, 1), min(x.shape[-2] - rows.stop, 1)
    y: Tensor = convolution(x[:, :, rows.start - above : rows.stop + below])
    return y[:, :, above : y.shape[-2] - below]


def doubled_rows(x: Tensor, size: tuple[int, int], rows: range) -> Tensor:
    """Some rows of x [B, C, h, w] that is first doubled and then resized to `size`."""
    doubled = (2 * x.shape[-2], 2 * x.shape[-1])
    needed = source_rows(rows, doubled[0], size[0])
    return resize_rows(resize_rows(x, doubled, needed), size, rows, source=(needed.start, doubled[0]))
