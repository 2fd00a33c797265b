"""From a model and an image to a label map: whole image, sliding window, several scales and flips, in strips."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from semask.data.dataset import Classes
from semask.data.images import max_pixels, read_image
from semask.data.transforms import Normalization, fitted_size
from semask.model import SeMask
from semask.outputs import MaskOutput, SeMaskOutput
from semask.schema import Length, Range, Sides, require_fields
from semask.views import View, label_map, require_numbers
from semask.views import confidence as confidence_of

if TYPE_CHECKING:
    from semask.runtime import Runtime  # builds on this module

Mode = Literal["whole", "slide"]
MOST_WINDOWS = 2**15
"""Windows of one image, so that settings of anybody's file end some time."""


@dataclass(frozen=True)
class Inference:
    """How an image is put through the model.

    Attributes:
        scale: Long and short side in pixels that an image is fitted into, keeping its shape; null keeps its size.
        mode: whole: the image in one piece; slide: overlapping windows whose class scores are averaged.
        crop: Height and width of a window in pixels of the resized image, for slide.
        stride: Rows and columns from one window to the next, for slide; at most the crop.
        window_batch: Windows that go through the model at once: memory against speed.
        ratios: Factors on the scale; with several, or with flip, the probabilities are averaged (multi-scale).
        flip: Whether each scale is also seen mirrored left to right.
        antialias: Whether images are smoothed when they are made smaller, as PIL and detectron2 do it and the published
            mask models expect it; OpenCV and mmsegmentation do not, nor does training here.

    Raises:
        ValueError: If a setting is out of its range.
    """

    scale: Sides | None = None
    mode: Mode = "whole"
    crop: Sides = (512, 512)
    stride: Sides = (341, 341)
    window_batch: Annotated[int, Range(1, 256)] = 4
    ratios: Annotated[tuple[Annotated[float, Range(0, 16, above=True)], ...], Length(1, 32)] = (1.0,)
    flip: bool = False
    antialias: bool = False

    def __post_init__(self) -> None:
        require_fields(self, "evaluation")
        if self.scale is not None and self.scale[0] < self.scale[1]:
            raise ValueError(f"evaluation.scale is {self.scale}: give the long side, then the short side, in pixels")
        if any(stride > crop for stride, crop in zip(self.stride, self.crop, strict=True)):
            raise ValueError(
                f"evaluation.stride {self.stride} is larger than crop {self.crop}: pixels would be left out"
            )


def look(
    model: "SeMask | Runtime", image: Tensor, inference: Inference, *, mirrored: bool = False, priors: bool = False
) -> list[View]:
    """Put one image through the model.

    Args:
        model: In evaluation mode.
        image: Normalised images [B, C, H, W].
        inference: Whole or slide, and the windows.
        mirrored: Whether `image` is mirrored; the scores are mirrored back.
        priors: Whether the semantic priors count as further maps of class scores.

    Returns:
        One view for the decoder's scores and, with `priors`, one for the prior of each stage.
    """

    def run(x: Tensor) -> list[View]:
        output: SeMaskOutput = model(x, masks_only=not priors)
        size, divisor = (x.shape[-2], x.shape[-1]), model.size_divisor
        padded = (-(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor)
        prediction = output.prediction
        if isinstance(prediction, MaskOutput):
            classes = prediction.classes.float().softmax(-1)[..., :-1]
            first = View(prediction.masks, size, padded, "masks", classes)
        else:
            first = View(prediction.logits, size, padded)
        return [first, *(View(prior, size, padded) for prior in (output.priors if priors else ()))]

    views = slide(run, image, inference) if inference.mode == "slide" else run(image)
    return [view._replace(mirrored=mirrored) for view in views]


def slide(run: Callable[[Tensor], list[View]], image: Tensor, inference: Inference) -> list[View]:
    """Average the class scores of overlapping windows, `window_batch` of them at a time.

    Windows at the right and the bottom edge are moved inside; a window is never larger than the image.

    Args:
        run: Gives views of images [B, C, H, W].
        image: Normalised images [B, C, H, W].
        inference: Crop, stride and window_batch.

    Returns:
        For each view that `run` gives, one of the whole image with class scores [B, K, H, W] at the image's size.
    """
    B, _, H, W = image.shape
    height, width = min(inference.crop[0], H), min(inference.crop[1], W)
    rows, columns = starts(H, height, inference.stride[0]), starts(W, width, inference.stride[1])
    if len(rows) * len(columns) > MOST_WINDOWS:
        raise ValueError(
            f"an image of {H} x {W} has {len(rows) * len(columns):,} windows of {height} x {width}, a stride of "
            f"{inference.stride} apart, more than {MOST_WINDOWS:,}: set evaluation.crop and evaluation.stride larger"
        )
    corners = [(y, x) for y in rows for x in columns]
    totals: list[Tensor] = []
    views: list[View] = []
    count = image.new_zeros(H, W)
    for first in range(0, len(corners), inference.window_batch):
        chunk = corners[first : first + inference.window_batch]
        views = run(torch.cat([image[:, :, y : y + height, x : x + width] for y, x in chunk]))
        maps = [view.rows(range(height)) for view in views]
        totals = totals or [scores.new_zeros(B, scores.shape[1], H, W) for scores in maps]
        for total, scores in zip(totals, maps, strict=True):
            for (y, x), window in zip(chunk, torch.split(scores, B), strict=True):
                total[:, :, y : y + height, x : x + width] += window
        for y, x in chunk:
            count[y : y + height, x : x + width] += 1
    return [
        View(total.div_(count), (H, W), (H, W), "probabilities" if view.kind == "masks" else "logits")
        for total, view in zip(totals, views, strict=True)
    ]


def starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows start along an axis, the last one moved inside.

    >>> starts(100, 40, 30), starts(40, 40, 30), starts(101, 40, 30)
    ([0, 30, 60], [0], [0, 30, 60, 61])
    """
    count = -(-(length - crop) // stride) + 1
    return [min(i * stride, length - crop) for i in range(count)]


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image, at the image's size."""

    label: NDArray[np.uint8]
    """Class index of each pixel, [H, W]."""
    confidence: NDArray[np.float32] | None
    """Probability of the chosen class, [H, W] in [0, 1]; None if not asked for."""
    priors: tuple[NDArray[np.uint8], ...]
    """Class index that the semantic prior of each stage favours, [H, W]; empty unless asked for."""
    classes: Classes
    """Names and colours of the class indices."""


class Predictor:
    """Segments images of any kind and size with a model.

    Args:
        model: A SeMask, which is put in evaluation mode; or an exported file, opened with `runtime.load`.
        inference: How images are put through it; None: as the model's recipe evaluates it.
        device: Where to run; None: where the model is.

    >>> model = SeMask(encoder="swin_nano", num_classes=4, channels=32)
    >>> prediction = Predictor(model)(np.zeros((50, 60, 3), dtype=np.uint8))
    >>> prediction.label.shape, len(prediction.classes)
    ((50, 60), 4)
    """

    def __init__(
        self, model: "SeMask | Runtime", inference: Inference | None = None, *, device: torch.device | str | None = None
    ) -> None:
        self.model = model.eval() if device is None else model.to(device).eval()
        self.inference = inference or recipe_inference(model)
        self.normalization = Normalization(tuple(model.config["mean"]), tuple(model.config["std"]))
        self.classes = model_classes(model)

    def __call__(
        self,
        image: str | Path | Image.Image | NDArray[Any] | Tensor,
        *,
        confidence: bool = True,
        priors: bool = False,
    ) -> Prediction:
        """Segment one image.

        Args:
            image: Path of a file; PIL image; array [H, W, C] or [H, W], uint8 or float in [0, 1]; or tensor [C, H, W],
                likewise. Colours are RGB.
            confidence: Whether to give the probability of the chosen classes; for a large image it takes longer than
                the classes.
            priors: Whether to give the prior of each stage too.

        Raises:
            ValueError: If the image can't be read or has another number of bands than the model takes, the model gives
                scores that are no numbers, or priors are asked of an exported file.
        """
        pixels = to_tensor(image, channels=self.model.config["in_channels"])
        size = (pixels.shape[-2], pixels.shape[-1])
        maps = self.views(pixels, priors=priors)
        require_numbers(maps[0])
        label, *favoured = (label_map(views, size)[0].cpu().numpy() for views in maps)
        return Prediction(
            label=label,
            confidence=confidence_of(maps[0], size)[0].cpu().numpy() if confidence else None,
            priors=tuple(favoured),
            classes=self.classes,
        )

    @torch.inference_mode()
    def views(self, image: Tensor, *, priors: bool = False) -> list[list[View]]:
        """See an image [C, H, W] (uint8, or float in [0, 1]) at every ratio and flip.

        Returns:
            The views of the decoder and, with `priors`, of each stage's prior: [maps][ratios and flips].
        """
        if priors and not hasattr(self.model, "encoder"):
            raise ValueError("an exported file gives no priors: use the checkpoint that it was made of")
        device = next(self.model.parameters()).device
        seen = [
            look(self.model, x, self.inference, mirrored=mirrored, priors=priors)
            for x, mirrored in self._inputs(image.to(device))
        ]
        return [list(views) for views in zip(*seen, strict=True)]

    def _inputs(self, image: Tensor) -> Iterator[tuple[Tensor, bool]]:
        """Normalised [1, C, h, w] at every ratio, plain and mirrored."""
        for ratio in self.inference.ratios:
            size = fitted_size((image.shape[-2], image.shape[-1]), self.inference.scale, ratio=ratio)
            require_pixels(size)
            x = self.normalization(TF.resize(image, list(size), antialias=self.inference.antialias))[None]
            yield x, False
            if self.inference.flip:
                yield x.flip(-1), True


def require_pixels(size: tuple[int, int]) -> None:
    """Refuse to enlarge an image beyond what is read from a file.

    Raises:
        ValueError: If the settings ask for it.
    """
    if size[0] * size[1] > (most := max_pixels()):
        raise ValueError(
            f"evaluation.scale and ratios make an image of {size[0]:,} x {size[1]:,}, more than {most:,} pixels: set "
            "them lower, or SEMASK_MAX_PIXELS higher"
        )


def recipe_inference(model: "SeMask | Runtime") -> Inference:
    """How the recipe of a model evaluates it; the defaults for a model without one."""
    settings: dict[str, Any] = model.metadata.get("recipe", {}).get("evaluation", {})
    tuples: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in settings.items()}
    return Inference(**tuples)


def model_classes(model: "SeMask | Runtime") -> Classes:
    """Names and colours of the classes of a model; numbers for a model that was not trained."""
    if "classes" in model.metadata:
        return Classes.from_dict(model.metadata["classes"])
    return Classes(tuple(f"class {i}" for i in range(model.config["num_classes"])))


def to_tensor(image: str | Path | Image.Image | NDArray[Any] | Tensor, *, channels: int) -> Tensor:
    """Bring an image of any kind to [C, H, W], uint8 or float in [0, 1].

    Raises:
        ValueError: If it can't be read, or has another shape or number of bands.
    """
    if isinstance(image, str | Path):
        image = read_image(image, channels=channels)
    if isinstance(image, Image.Image):
        image = np.array(image.convert({1: "L", 3: "RGB", 4: "RGBA"}.get(channels, "RGB")))
    if isinstance(image, np.ndarray):
        if image.ndim == 2:
            image = np.repeat(image[..., None], channels, axis=-1)
        if image.ndim != 3:
            raise ValueError(f"image array has shape {list(image.shape)}: give [H, W, C] or [H, W]")
        image = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    if image.ndim != 3 or image.shape[0] != channels or 0 in image.shape:
        raise ValueError(
            f"image has shape {list(image.shape)} as [C, H, W], the model takes {channels} bands: "
            "give an array [H, W, C] or a tensor [C, H, W]"
        )
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise ValueError(f"image has values of type {image.dtype}: give uint8, or float in [0, 1]")
    if image.is_floating_point() and (not image.isfinite().all() or image.min() < 0 or image.max() > 1):
        raise ValueError("image has float values outside [0, 1]: divide by the largest possible value")
    return image


def to_image(image: Tensor) -> Image.Image:
    """Make a picture of a tensor [C, H, W], uint8 or float in [0, 1]: of its first three bands, or its first."""
    bands = image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)
    picture: Image.Image = TF.to_pil_image(bands)
    return picture
