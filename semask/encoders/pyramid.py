"""A pyramid of maps for a backbone whose stages all have the same size."""

from collections.abc import Sequence

from torch import Tensor, nn


class SimpleFeaturePyramid(nn.Module):
    """Brings four maps of one size to four sizes: x 4, x 2, as it is, and half, which count as strides 4, 8, 16 and 32.

    ViTDet (Li et al., arXiv 2203.16527), section 3 and figure 2, with the map of another depth for each size as in SETR
    and DPT, and without its last convolutions, which the decoders have.

    Args:
        channels: Channels of the maps, the same for all.

    >>> import torch
    >>> maps = SimpleFeaturePyramid(8)([torch.zeros(1, 8, 6, 5)] * 4)
    >>> [tuple(x.shape[-2:]) for x in maps]
    [(24, 20), (12, 10), (6, 5), (3, 3)]
    """

    strides = (4, 8, 16, 32)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            (
                nn.Sequential(double(channels), nn.GroupNorm(1, channels), nn.GELU(), double(channels)),
                double(channels),
                nn.Identity(),
                nn.MaxPool2d(2, ceil_mode=True),
            )
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Resize maps [B, C, h, w], shallow to deep, to sides of 4 h, 2 h, h and h / 2 (rounded up)."""
        return tuple(level(x) for level, x in zip(self.levels, maps, strict=True))


def double(channels: int) -> nn.ConvTranspose2d:
    """Double the sides of a map."""
    return nn.ConvTranspose2d(channels, channels, kernel_size=2, stride=2)
