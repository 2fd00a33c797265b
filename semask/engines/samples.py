"""Images that an export is calibrated on and checked with."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from semask.data.images import ImageSource, read_image
from semask.data.normalization import Normalization, resize_image
from semask.data.sizes import fitted_size
from semask.data.source import Data
from semask.model import SeMask
from semask.prediction.files import find_images
from semask.prediction.predictor import to_tensor
from semask.settings.inference import Inference
from semask.synthetic.scene import draw_scene

SCENE_SIZE = (384, 512)
Picture = Path | Image.Image | NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Some images, in an order that is random but always the same; each is read when it is needed.

    Attributes:
        images: Files, pictures, or arrays [H, W].
        source: Where they are from, in words.
        synthetic: Whether they are synthetic scenes, for want of photographs.
    """

    images: tuple[Picture, ...]
    source: str
    synthetic: bool = False


@dataclass(frozen=True)
class Inputs:
    """What the model sees of some images; may be gone through more than once.

    Attributes:
        images: Files, pictures, or arrays [H, W].
        model: Model that they are made ready for.
        inference: Their size.
    """

    images: Sequence[Picture]
    model: SeMask
    inference: Inference

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __iter__(self) -> Iterator[Tensor]:
        """Give normalized images [1, C, h, w], one at a time."""
        for image in self.images:
            pixels = to_tensor(image, channels=self.model.config["in_channels"])
            yield model_input(pixels, self.model, self.inference)


def choose_samples(images: Sequence[str] | None, recipe: dict[str, Any], *, count: int, channels: int) -> Samples:
    """Choose images: those that were given, else of the recipe's validation data, else synthetic scenes.

    Args:
        images: Files, folders and patterns; None for none.
        recipe: Recipe of the checkpoint.
        count: How many images to take, if there are as many.
        channels: Channels that the model takes.

    Raises:
        ValueError: If an entry of `images` stands for no image.
    """
    files: list[Path] | list[Path | ImageSource]
    if images:
        files, source = find_images(list(images)), ", ".join(images)
    else:
        files, source = recipe_images(recipe.get("data", {})), "the validation data of the recipe"
    if files:
        chosen = random.Random(0).sample(files, min(count, len(files)))
        return Samples(tuple(x if isinstance(x, Path) else read_image(x, channels=channels) for x in chosen), source)
    scenes = [draw_scene(0, 2 * index + 1, size=SCENE_SIZE)[0] for index in range(count)]
    pictures = scenes if channels in (1, 3, 4) else [np.array(scene.convert("L")) for scene in scenes]
    return Samples(tuple(pictures), f"{count} synthetic scenes", synthetic=True)


def recipe_images(settings: dict[str, Any]) -> list[Path | ImageSource]:
    """Validation images of a recipe's data; none where it does not lie on this machine."""
    try:
        return [image for image, _ in Data(**settings).dataset("val").pairs]
    except (TypeError, ValueError, OSError):
        return []


def model_input(image: Tensor, model: SeMask, inference: Inference) -> Tensor:
    """Bring an image [C, H, W] to what the model sees of it: [1, C, h, w], whole or the window in its middle."""
    size = fitted_size((image.shape[-2], image.shape[-1]), inference.scale)
    normalization = Normalization(tuple(model.config["mean"]), tuple(model.config["std"]))
    x = normalization(resize_image(image, size, antialias=inference.antialias))[None]
    if inference.mode == "slide":
        height, width = min(inference.crop[0], size[0]), min(inference.crop[1], size[1])
        y, left = (size[0] - height) // 2, (size[1] - width) // 2
        x = x[..., y : y + height, left : left + width]
    return x.contiguous()
