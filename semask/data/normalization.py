"""Size and range of the images that a model takes.

Numerically identical to torchvision's `resize`, `to_dtype` and `normalize`, which pull in torch's compiler.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


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
        """Normalize an image [..., C, H, W], uint8 or float in [0, 1], to float32."""
        if image.shape[-3] != len(self.mean):
            raise ValueError(f"an image of {image.shape[-3]} channels, but mean and std have {len(self.mean)}")
        mean, std = (torch.tensor(x, device=image.device)[:, None, None] for x in (self.mean, self.std))  # [C, 1, 1]
        if image.is_floating_point():
            return image.to(torch.float32).sub(mean).div_(std)
        # In place from here on: the copy in float32 is ours.
        return image.to(torch.float32).mul_(1 / torch.iinfo(image.dtype).max).sub_(mean).div_(std)


def resize_image(image: Tensor, size: Sequence[int], *, antialias: bool) -> Tensor:
    """Resize an image bilinearly; numbers and memory layout are those of torchvision's `resize` of a tensor.

    Args:
        image: Image [..., C, H, W] of any type; whole numbers are rounded.
        size: Height h and width w of the result.
        antialias: Whether to smooth when the image is made smaller.

    Returns:
        Image [..., C, h, w] of the same type; the image itself if it has that size.
    """
    channels, height, width = image.shape[-3:]
    if (height, width) == tuple(size):
        return image
    batch = image.reshape(-1, channels, height, width)  # [B, C, H, W]
    pixels = batch[0].permute(1, 2, 0)  # [H, W, C]
    if len(batch) == 1 and pixels.is_contiguous():
        # With these strides torch sees that it is channels-last: https://github.com/pytorch/pytorch/issues/68430
        batch = pixels[None].permute(0, 3, 1, 2)  # [1, C, H, W]
    computed = batch if _resizes_as_it_is(image) else batch.to(torch.float32)
    resized = F.interpolate(computed, list(size), mode="bilinear", align_corners=False, antialias=antialias)
    if not image.is_floating_point() and resized.is_floating_point():
        resized = resized.round_()
    return resized.to(image.dtype).reshape(*image.shape[:-2], *size)


def _resizes_as_it_is(image: Tensor) -> bool:
    """Whether torch resizes the type of an image itself; uint8 only on processors with vector instructions for it."""
    if image.dtype == torch.uint8 and image.device.type == "cpu":
        vectors = torch.backends.cpu.get_cpu_capability()
        return vectors in ("AVX2", "AVX512") or platform.machine() in ("aarch64", "arm64")
    return image.dtype in (torch.float32, torch.float64)
