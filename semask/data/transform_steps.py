"""The steps between an image with its label and a training sample.

Each is a torchvision v2 transform on `tv_tensors`; the random ones draw from torch's generator of the CPU alone.
"""

import io
import math
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from semask.data.classes import IGNORE_INDEX
from semask.data.normalization import Normalization
from semask.data.rare import RareClasses
from semask.data.sizes import fitted_size


def _uniform(low: float, high: float) -> float:
    return float(torch.empty(()).uniform_(low, high))


def _coin() -> bool:
    return bool(torch.rand(()) < 0.5)


def _integer(count: int) -> int:
    return int(torch.randint(count, ()))


class RandomResize(v2.Transform):  # type: ignore[misc]
    """Fit image and label into scale x a random ratio.

    Args:
        scale: Long and short side in pixels; None multiplies the image's own size.
        ratios: Ratios to choose from, or None.
        ratio_range: Least and greatest ratio, drawn uniformly; used when `ratios` is None.
    """

    def __init__(
        self,
        scale: tuple[int, int] | None,
        *,
        ratios: tuple[float, ...] | None = None,
        ratio_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.ratios = ratios
        self.ratio_range = ratio_range or (1.0, 1.0)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the size."""
        ratio = self.ratios[_integer(len(self.ratios))] if self.ratios else _uniform(*self.ratio_range)
        return {"size": fitted_size(v2.query_size(flat_inputs), self.scale, ratio=ratio)}

    def transform(self, item: Any, params: dict[str, Any]) -> Any:
        """Resize images bilinearly without antialias; labels take the nearest pixel by themselves."""
        return F.resize(item, list(params["size"]), interpolation=v2.InterpolationMode.BILINEAR, antialias=False)


class RandomCrop(v2.Transform):  # type: ignore[misc]
    """Cut out a random part; images smaller than the crop stay whole in that direction.

    Args:
        size: Height and width in pixels.
        largest_class: Fraction of the labeled pixels that one class may not reach; drawn again up to 10 times. 1 = off.
        rare: How often each class is drawn; None = off.
        rare_probability: Probability that a class of the image is drawn, and a crop that shows a pixel of it.
    """

    _REDRAWS = 10

    def __init__(
        self,
        size: tuple[int, int],
        *,
        largest_class: float = 1.0,
        rare: RareClasses | None = None,
        rare_probability: float = 0.0,
    ) -> None:
        super().__init__()
        self.size = size
        self.largest_class = largest_class
        self.rare = rare
        self.rare_probability = rare_probability

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the place."""
        height, width = v2.query_size(flat_inputs)
        label = next((item for item in flat_inputs if isinstance(item, tv_tensors.Mask)), None)
        if self.rare is not None and label is not None and torch.rand(()) < self.rare_probability:
            pixel = _rare_pixel(label, self.rare)
            if pixel is not None:
                return self._draw_around(pixel, height, width)
        box = self._draw(height, width)
        if label is not None and self.largest_class < 1:
            for _ in range(self._REDRAWS):
                if self._is_varied(F.crop(label, **box)):
                    break
                box = self._draw(height, width)
        return box

    def transform(self, item: Any, params: dict[str, Any]) -> Any:
        """Crop."""
        return F.crop(item, **params)

    def _draw(self, height: int, width: int) -> dict[str, int]:
        crop_height, crop_width = min(height, self.size[0]), min(width, self.size[1])
        top, left = _integer(height - crop_height + 1), _integer(width - crop_width + 1)
        return {"top": top, "left": left, "height": crop_height, "width": crop_width}

    def _draw_around(self, pixel: tuple[int, int], height: int, width: int) -> dict[str, int]:
        """Draw one of the crops that show a pixel (row, column), wherever in it."""
        box = {"height": min(height, self.size[0]), "width": min(width, self.size[1])}
        for start, side, place, whole in (("top", "height", pixel[0], height), ("left", "width", pixel[1], width)):
            first, last = max(0, place - box[side] + 1), min(place, whole - box[side])
            box[start] = first + _integer(last - first + 1)
        return box

    def _is_varied(self, label: Tensor) -> bool:
        counts = torch.bincount(label.flatten(), minlength=IGNORE_INDEX + 1)
        counts[IGNORE_INDEX] = 0
        return int((counts > 0).sum()) > 1 and bool(counts.max() < self.largest_class * counts.sum())


def _rare_pixel(label: Tensor, rare: RareClasses) -> tuple[int, int] | None:
    """Draw a class of a label [H, W], and the row and column of a pixel of it; None if every pixel is ignored."""
    shown = torch.bincount(label.flatten().long(), minlength=IGNORE_INDEX + 1)[: len(rare.share)] > 0
    drawn = rare.draw_class(_uniform(0, 1), among=shown.numpy())
    if drawn is None:
        return None
    places = (label == drawn).nonzero()  # [pixels, 2]
    row, column = places[_integer(len(places))].tolist()
    return row, column


class Rotate(v2.Transform):  # type: ignore[misc]
    """Rotate about the center; the size stays. New corners get the mean of the images, and are ignored.

    Args:
        degrees: Greatest angle to either side, drawn uniformly.
        normalization: Has the mean of each channel.
    """

    def __init__(self, degrees: float, normalization: Normalization) -> None:
        super().__init__()
        self.degrees = degrees
        self.mean = normalization.mean

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the angle."""
        return {"angle": _uniform(-self.degrees, self.degrees)}

    def transform(self, item: Any, params: dict[str, Any]) -> Any:
        """Rotate images bilinearly; labels take the nearest pixel."""
        if isinstance(item, tv_tensors.Mask):
            return F.rotate(item, params["angle"], fill=IGNORE_INDEX)
        top = 1.0 if item.is_floating_point() else float(torch.iinfo(item.dtype).max)
        fill = [top * x for x in self.mean]
        return F.rotate(item, params["angle"], interpolation=v2.InterpolationMode.BILINEAR, fill=fill)


class PhotometricDistortion(v2.Transform):  # type: ignore[misc]
    """Vary brightness, contrast, saturation and hue, each with probability 1/2 (as in SSD, arXiv 1512.02325).

    Brightness adds up to 32/255, contrast multiplies by 0.5..1.5 and comes, at random, before or after saturation
    (times 0.5..1.5 in HSV) and hue (turned by up to 0.1 of the circle). Images that are not of 3 channels have neither
    saturation nor hue. The image becomes float32 in [0, 1].
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the strengths; None leaves a property alone."""
        return {
            "brightness": _uniform(-32 / 255, 32 / 255) if _coin() else None,
            "contrast_first": _coin(),
            "contrast": _uniform(0.5, 1.5) if _coin() else None,
            "saturation": _uniform(0.5, 1.5) if _coin() else None,
            "hue": _uniform(-0.1, 0.1) if _coin() else None,
        }

    def transform(self, item: Any, params: dict[str, Any]) -> Any:
        """Distort an image; labels pass."""
        if isinstance(item, tv_tensors.Mask):
            return item
        image = F.to_dtype(item, torch.float32, scale=True).as_subclass(Tensor)
        if params["brightness"] is not None:
            image = (image + params["brightness"]).clamp_(0, 1)
        if params["contrast_first"]:
            image = _contrast(image, params["contrast"])
        if image.shape[-3] == 3:
            image = _saturation(image, params["saturation"])
            image = image if params["hue"] is None else F.adjust_hue(image, params["hue"])
        if not params["contrast_first"]:
            image = _contrast(image, params["contrast"])
        return tv_tensors.Image(image)


def _contrast(image: Tensor, factor: float | None) -> Tensor:
    return image if factor is None else (image * factor).clamp_(0, 1)


def _saturation(image: Tensor, factor: float | None) -> Tensor:
    """Multiply the saturation of HSV, at most up to 1: the greatest channel stays, the others move away from it."""
    if factor is None:
        return image
    value = image.amax(-3, keepdim=True)
    spread = value - image.amin(-3, keepdim=True)
    most = value / spread.clamp(min=1e-6)
    return (value - (value - image) * most.clamp(max=factor)).clamp_(min=0)


class Blur(v2.Transform):  # type: ignore[misc]
    """Blur images with a Gaussian.

    Args:
        sigma: Least and greatest standard deviation in pixels, drawn uniformly.
    """

    def __init__(self, sigma: tuple[float, float]) -> None:
        super().__init__()
        self.sigma = sigma

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the standard deviation."""
        return {"sigma": _uniform(*self.sigma)}

    def transform(self, item: Any, params: dict[str, Any]) -> Any:
        """Blur an image; labels pass."""
        if isinstance(item, tv_tensors.Mask):
            return item
        radius = min(math.ceil(3 * params["sigma"]), min(item.shape[-2:]) - 1)  # its border is reflected once
        return F.gaussian_blur(item, [2 * radius + 1] * 2, [params["sigma"]] * 2) if radius else item


class Jpeg(v2.Transform):  # type: ignore[misc]
    """Compress images as a JPEG file and read them again; of 8 bits, as such files are.

    Args:
        quality: Lowest and highest quality, drawn uniformly.
    """

    def __init__(self, quality: tuple[int, int]) -> None:
        super().__init__()
        self.quality = quality

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the quality."""
        return {"quality": self.quality[0] + _integer(self.quality[1] - self.quality[0] + 1)}

    def transform(self, item: Any, params: dict[str, Any]) -> Any:
        """Compress an image; labels pass."""
        if isinstance(item, tv_tensors.Mask):
            return item
        file = io.BytesIO()  # torchvision's own coder is going to leave it
        F.to_pil_image(F.to_dtype(item, torch.uint8, scale=True)).save(file, "JPEG", quality=params["quality"])
        with Image.open(file, formats=["JPEG"]) as picture:
            compressed = F.pil_to_tensor(picture)
        return tv_tensors.Image(F.to_dtype(compressed, item.dtype, scale=True))


class Noise(v2.Transform):  # type: ignore[misc]
    """Add Gaussian noise to normalized images, in which a channel of any range has about the standard deviation 1.

    Args:
        sigma: Greatest standard deviation; that of an image is drawn uniformly from 0.
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the standard deviation."""
        return {"sigma": _uniform(0, self.sigma)}

    def transform(self, item: Any, params: dict[str, Any]) -> Any:
        """Add noise to an image; labels pass."""
        if isinstance(item, tv_tensors.Mask):
            return item
        return tv_tensors.Image(item + params["sigma"] * torch.randn(item.shape))


class Normalize(v2.Transform):  # type: ignore[misc]
    """Apply a `Normalization` to the image; labels pass."""

    def __init__(self, normalization: Normalization) -> None:
        super().__init__()
        self.normalization = normalization

    def transform(self, item: Any, params: dict[str, Any]) -> Any:
        """Normalize an image."""
        return item if isinstance(item, tv_tensors.Mask) else tv_tensors.Image(self.normalization(item))


class PadTo(v2.Transform):  # type: ignore[misc]
    """Pad at the right and the bottom up to a size: images with 0 (the mean, once normalized), labels with 255.

    Args:
        size: Height and width in pixels; what is larger stays.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def transform(self, item: Any, params: dict[str, Any]) -> Any:
        """Pad."""
        height, width = item.shape[-2:]
        right, bottom = max(0, self.size[1] - width), max(0, self.size[0] - height)
        if right == bottom == 0:
            return item
        return F.pad(item, [0, 0, right, bottom], fill=IGNORE_INDEX if isinstance(item, tv_tensors.Mask) else 0)
