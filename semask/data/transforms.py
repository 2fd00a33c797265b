"""What happens to an image and its label between the file and the model in training.

    resize -> crop -> flip -> photometric distortion -> normalize -> pad      both to [.., crop]

What published recipes do not use, and draws no random numbers unless it is asked for:

    resize -> rotate -> crop -> flips -> photometric distortion -> blur -> JPEG -> normalize -> noise -> pad

The steps are in `transform_steps.py`, which needs torchvision; it is imported when a transform is built.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from semask.data.normalization import Normalization
from semask.data.rare import RareClasses
from semask.files.schema import Length, Probability, Range, Sides, require_fields

Transform = Callable[..., Any]
"""Takes (image, label) or an image alone and returns the same."""


Ratio = Annotated[float, Range(0, 16, above=True)]
CropSide = Annotated[int, Range(1, 2**13)]
Sigma = Annotated[float, Range(0, 16, above=True)]
Quality = Annotated[int, Range(1, 100)]


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
        vertical_flip: Probability of a vertical flip, for images from above.
        rotation: Greatest angle in degrees; each image is rotated by up to so much to either side. Its new corners are
            ignored.
        blur: Probability of a Gaussian blur.
        blur_sigma: Least and greatest standard deviation of the blur, in pixels.
        jpeg: Probability that the image is compressed as a JPEG file; for images of 1 or 3 channels.
        jpeg_quality: Lowest and highest quality of the JPEG.
        noise: Probability of Gaussian noise.
        noise_sigma: Greatest standard deviation of the noise, in those of the channel (the model's std).
        rare_images: Share of the samples that are drawn by class: a class, the rarer the more often, then any image
            that shows it. The others come in turn.
        rare_crop: Probability that the crop shows a pixel of a class that is drawn like that among those of the image.
        copy_paste: Probability that objects of a class that is drawn like that are pasted into the image, from another
            training image. Needs scipy (extra "mask").
        rare_temperature: How much more often rare classes are drawn by the three settings above: a class of the share f
            of the pixels with a probability proportional to exp(-f / temperature).

    Raises:
        ValueError: A number is out of range, a range begins with its end, or not exactly one of scale_ratios and
            scale_range is given.
    """

    scale: Sides | None = (2048, 512)
    scale_ratios: Annotated[tuple[Ratio, ...], Length(1, 256)] | None = None
    scale_range: tuple[Ratio, Ratio] | None = (0.5, 2.0)
    crop: tuple[CropSide, CropSide] = (512, 512)
    largest_class: Annotated[float, Range(0, 1, above=True)] = 0.75
    flip: Probability = 0.5
    photometric: bool = True
    vertical_flip: Probability = 0.0
    rotation: Annotated[float, Range(0, 180)] = 0.0
    blur: Probability = 0.0
    blur_sigma: tuple[Sigma, Sigma] = (0.1, 2.0)
    jpeg: Probability = 0.0
    jpeg_quality: tuple[Quality, Quality] = (30, 95)
    noise: Probability = 0.0
    noise_sigma: Annotated[float, Range(0, 4)] = 0.2
    rare_images: Probability = 0.0
    rare_crop: Probability = 0.0
    copy_paste: Probability = 0.0
    rare_temperature: Annotated[float, Range(1e-4, 1e4)] = 0.01

    def __post_init__(self) -> None:
        """Validate."""
        require_fields(self, "augmentation")
        if (self.scale_ratios is None) == (self.scale_range is None):
            raise ValueError(
                "give augmentation.scale_ratios (to choose from) or scale_range (least, greatest) and set the other to "
                "null"
            )
        for name in ("scale_range", "blur_sigma", "jpeg_quality"):
            given = getattr(self, name)
            if given is not None and given[0] > given[1]:
                least = "ratio " if name == "scale_range" else ""
                raise ValueError(f"augmentation.{name} is {given}: give the least {least}first")
        if self.scale is not None and self.scale[0] < self.scale[1]:
            raise ValueError(f"augmentation.scale is {self.scale}: give the long side, then the short side, in pixels")

    @property
    def needs_rare(self) -> bool:
        """Whether something is drawn by class, for which the pixels of the classes have to be known."""
        return any((self.rare_images, self.rare_crop, self.copy_paste))

    def require_channels(self, channels: int) -> None:
        """Refuse images that a step cannot take.

        Raises:
            ValueError: If JPEG is asked for, and the images are neither gray nor RGB.
        """
        if self.jpeg and channels not in (1, 3):
            raise ValueError(
                f"augmentation.jpeg is {self.jpeg:g}, but the images have {channels} channels and a JPEG has 1 or 3: "
                "set it to 0"
            )


def training_transform(
    augmentation: Augmentation, normalization: Normalization, *, rare: RareClasses | None = None
) -> Transform:
    """Build (image [C, H, W] uint8, label [H, W]) -> (image [C, *crop] float32, label [*crop]).

    Args:
        augmentation: How images are varied.
        normalization: Mean and standard deviation of the channels.
        rare: How often each class is drawn, for `rare_crop`.

    Raises:
        ValueError: If a step is asked for that cannot take images of so many channels, or `rare` is missing.
    """
    from torchvision.transforms import v2

    from semask.data import transform_steps as steps

    augmentation.require_channels(len(normalization.mean))
    if augmentation.rare_crop and rare is None:
        raise ValueError("augmentation.rare_crop needs to know how rare the classes are: give `rare`, or set it to 0")
    resize = steps.RandomResize(
        augmentation.scale, ratios=augmentation.scale_ratios, ratio_range=augmentation.scale_range
    )
    crop = steps.RandomCrop(
        augmentation.crop,
        largest_class=augmentation.largest_class,
        rare=rare if augmentation.rare_crop else None,
        rare_probability=augmentation.rare_crop,
    )
    # A step that is off is left out: it would draw a number, and change all that come after.
    chain: list[Any] = [
        resize,
        *([steps.Rotate(augmentation.rotation, normalization)] if augmentation.rotation else []),
        crop,
        v2.RandomHorizontalFlip(augmentation.flip),
        *([v2.RandomVerticalFlip(augmentation.vertical_flip)] if augmentation.vertical_flip else []),
        *([steps.PhotometricDistortion()] if augmentation.photometric else []),
        *([v2.RandomApply([steps.Blur(augmentation.blur_sigma)], augmentation.blur)] if augmentation.blur else []),
        *([v2.RandomApply([steps.Jpeg(augmentation.jpeg_quality)], augmentation.jpeg)] if augmentation.jpeg else []),
        steps.Normalize(normalization),
        *([v2.RandomApply([steps.Noise(augmentation.noise_sigma)], augmentation.noise)] if augmentation.noise else []),
        steps.PadTo(augmentation.crop),
    ]
    return v2.Compose(chain)  # type: ignore[no-any-return]
