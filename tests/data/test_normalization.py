"""Numbers, types and memory layouts are torchvision's, bit for bit."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from semask.data.normalization import Normalization, resize_image

KINDS = (torch.uint8, torch.float32)


def picture(channels: int, dtype: torch.dtype, *, last: bool, shape: tuple[int, ...] = (37, 53)) -> Tensor:
    """An image [..., C, H, W], contiguous or with its channels last in memory."""
    *batch, height, width = shape
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (*batch, height, width, channels), dtype=torch.uint8, generator=generator)
    if dtype.is_floating_point:
        pixels = torch.rand(pixels.shape, generator=generator)
    image = pixels.to(dtype).movedim(-1, -3)
    return image if last else image.contiguous()


@pytest.mark.parametrize("dtype", [*KINDS, torch.float64, torch.float16, torch.int16])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_normalized_as_by_torchvision(channels, last, dtype):
    mean, std = [0.485, 0.456, 0.406, 0.1][:channels], [0.229, 0.224, 0.225, 0.3][:channels]
    for shape in ((37, 53), (2, 37, 53)):
        image = picture(channels, dtype, last=last, shape=shape)
        before = image.clone()
        ours = Normalization(tuple(mean), tuple(std))(image)
        theirs = TF.normalize(TF.to_dtype(image, torch.float32, scale=True), mean, std)
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)
        assert ours.stride() == theirs.stride()
        assert torch.equal(image, before)  # the caller's image is not written to


@pytest.mark.parametrize("size", [(19, 20), (74, 106), (90, 31), (37, 54), (1, 2), (37, 53)])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [*KINDS, torch.float16, torch.int16])
def test_resized_as_by_torchvision(dtype, last, antialias, size):
    for channels in (1, 3, 4):
        for shape in ((37, 53), (1, 37, 53), (2, 37, 53), (2, 3, 37, 53)):
            image = picture(channels, dtype, last=last, shape=shape)
            before = image.clone()
            ours = resize_image(image, size, antialias=antialias)
            theirs = TF.resize(image, list(size), antialias=antialias)
            assert ours.dtype == dtype
            assert torch.equal(ours, theirs)
            assert ours.stride() == theirs.stride()
            assert torch.equal(image, before)


def test_processors_without_fast_instructions_round(monkeypatch):
    image = picture(3, torch.uint8, last=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for antialias in (False, True):
        ours = resize_image(image, (20, 70), antialias=antialias)
        assert torch.equal(ours, TF.resize(image, [20, 70], antialias=antialias))
