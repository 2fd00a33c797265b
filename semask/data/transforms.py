"""What happens to an image and its label between the file and the model in training.

    resize -> crop -> flip -> photometric distortion -> normalize -> pad      both to [.., crop]

The steps are in `transform_steps.py`, which needs torchvision; it is imported when a transform is built.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from semask.data.normalization import Normalization
from semask.files.schema import Length, Probability, Range, Sides, require_fields

Transform = Callable[..., Any]
"""Takes (image, label) or an image alone and returns the same."""


Ratio = Annotated[float, Range(0, 16, above=True)]
CropSide = Annotated[int, Range(1, 2**13)]


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied, in the published order.

    An image is resized by a random ratio, cropped, flipped, distorted in color, normalized and padded to the crop.

    Args:
        scale: Long and short side in pixels that images fit into at ratio 1, keeping their shape; null keeps the size
            of the file.
        scale_ratios: Ratios to choose from, for example [0.5, 0.75, 1.0]; null when scale_range is used.
        scale_range: Least and greatest ratio, drawn uniformly; null when scale_ratios is used.
        crop: Height and width in pixels of the training image.
        largest_class: Crops are drawn again, up to 10 times, until they show two classes and the largest has less than
            this fraction of the labeled pixels; 1 takes the first crop.
        flip: Probability of a horizontal flip.
        photometric: Distort brightness, contrast, saturation and hue at random.

    Raises:
        ValueError: A number is out of range, or not exactly one of scale_ratios and scale_range is given.
    """

    scale: Sides | None = (2048, 512)
    scale_ratios: Annotated[tuple[Ratio, ...], Length(1, 256)] | None = None
    scale_range: tuple[Ratio, Ratio] | None = (0.5, 2.0)
    crop: tuple[CropSide, CropSide] = (512, 512)
    largest_class: Annotated[float, Range(0, 1, above=True)] = 0.75
    flip: Probability = 0.5
    photometric: bool = True

    def __post_init__(self) -> None:
        """Validate."""
        require_fields(self, "augmentation")
        if (self.scale_ratios is None) == (self.scale_range is None):
            raise ValueError(
                "give augmentation.scale_ratios (to choose from) or scale_range (least, greatest) and set the other to "
                "null"
            )
        if self.scale_range is not None and self.scale_range[0] > self.scale_range[1]:
            raise ValueError(f"augmentation.scale_range is {self.scale_range}: give the least ratio first")
        if self.scale is not None and self.scale[0] < self.scale[1]:
            raise ValueError(f"augmentation.scale is {self.scale}: give the long side, then the short side, in pixels")


def training_transform(augmentation: Augmentation, normalization: Normalization) -> Transform:
    """Build (image [C, H, W] uint8, label [H, W]) -> (image [C, *crop] float32, label [*crop])."""
    from torchvision.transforms import v2

    from semask.data.transform_steps import Normalize, PadTo, PhotometricDistortion, RandomCrop, RandomResize

    steps: list[Any] = [
        RandomResize(augmentation.scale, ratios=augmentation.scale_ratios, ratio_range=augmentation.scale_range),
        RandomCrop(augmentation.crop, largest_class=augmentation.largest_class),
        v2.RandomHorizontalFlip(augmentation.flip),
    ]
    if augmentation.photometric:
        steps.append(PhotometricDistortion())
    steps += [Normalize(normalization), PadTo(augmentation.crop)]
    return v2.Compose(steps)  # type: ignore[no-any-return]
