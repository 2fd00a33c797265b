"""Size and range of the images that a model takes."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation that bring images to the range which the encoder was trained on.

    Args:
        mean: One number a channel, for samples in [0, 1]; the default is ImageNet's.
        std: One number a channel, for samples in [0, 1].

    Raises:
        ValueError: Mean and std differ in length, or a std is not above 0.

    >>> Normalization()(torch.zeros(3, 2, 2, dtype=torch.uint8)).shape
    torch.Size([3, 2, 2])
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        """Validate."""
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(
                f"mean={self.mean}, std={self.std}: expected one mean and one std above 0 for every channel"
            )

    def __call__(self, image: Tensor) -> Tensor:
        """Normalise an image [..., C, H, W], uint8 or float in [0, 1], to float32."""
        if image.shape[-3] != len(self.mean):
            raise ValueError(f"an image of {image.shape[-3]} channels, but mean and std have {len(self.mean)}")
        scaled = F.to_dtype(image, torch.float32, scale=True)
        normalized: Tensor = F.normalize(scaled, list(self.mean), list(self.std))
        return normalized
