"""Images that an export is calibrated on and checked with."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from semask.data.bands import PHOTO_CHANNELS, Window
from semask.data.images import ImageSource, read_image
from semask.data.normalization import Normalization, resize_image
from semask.data.reading import read_picture
from semask.data.sizes import fitted_size
from semask.data.source import Data
from semask.model import SeMask
from semask.prediction.files import find_images, first_files
from semask.prediction.predictor import to_tensor
from semask.prediction.recipe import model_reading
from semask.settings.inference import Inference
from semask.synthetic.scene import draw_scene

SCENE_SIZE = (384, 512)


class Part(NamedTuple):
    """A part of an image that may be too large to be read whole."""

    path: Path
    window: Window


Picture = Path | Part | Image.Image | NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Some images, in an order that is random but always the same; each is read when it is needed.

    Attributes:
        images: Files, parts of files, pictures, or arrays [H, W].
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
        images: Files, parts of files, pictures, or arrays [H, W].
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
            pixels = sample_tensor(image, self.model)
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
    files: list[Path | Part | ImageSource]
    if images:
        files = [*first_files(find_images(list(images)), recipe.get("data", {}).get("band_files"))]
        source = ", ".join(images)
    else:
        files, source = recipe_images(recipe.get("data", {})), "the validation data of the recipe"
    if files:
        chosen = random.Random(0).sample(files, min(count, len(files)))
        opened = (x if isinstance(x, Path | Part) else read_image(x, channels=channels) for x in chosen)
        return Samples(tuple(opened), source)
    scenes = [draw_scene(0, 2 * index + 1, size=SCENE_SIZE)[0] for index in range(count)]
    pictures: list[Picture] = list(scenes)
    if recipe.get("model", {}).get("value_range") is not None:  # in [0, 1], whatever samples the model is used to
        pictures = [np.array(scene.convert("L"), np.float32) / np.float32(255) for scene in scenes]
    elif channels not in PHOTO_CHANNELS:
        pictures = [np.array(scene.convert("L")) for scene in scenes]
    return Samples(tuple(pictures), f"{count} synthetic scenes", synthetic=True)


def recipe_images(settings: dict[str, Any]) -> "list[Path | Part | ImageSource]":
    """Validation images of a recipe's data; none where it does not lie on this machine."""
    try:
        source = Data(**settings)
        dataset = None if source.remote else source.dataset("val")
    except (TypeError, ValueError, OSError):
        return []
    if dataset is None:
        return []
    samples = zip(dataset.pairs, dataset.windows, strict=True)
    return [
        Part(path, window) if window is not None and isinstance(path, Path) else path for (path, _), window in samples
    ]


def sample_tensor(image: "Picture", model: SeMask) -> Tensor:
    """Read a sample as the model takes it: [C, H, W], uint8 or float32 in [0, 1]."""
    reading = model_reading(model)
    if isinstance(image, Part):
        image = read_picture(image.path, reading, window=image.window).pixels
    return to_tensor(image, channels=reading.channels, reading=reading)


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
