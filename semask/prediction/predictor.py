"""From a model and an image to a label map: whole image, sliding window, several scales and flips, in strips."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from semask.acceleration.accelerate import accelerate
from semask.data.bands import Reading
from semask.data.normalization import Normalization, resize_image
from semask.data.sizes import fitted_size
from semask.model import SeMask
from semask.outputs import MaskOutput, SeMaskOutput
from semask.prediction.inputs import (
    Picture,
    in_range,
    is_one,
    numbered,
    outside,
    require_pixels,
    require_shape,
    to_array,
    windows,
)
from semask.prediction.prediction import Prediction
from semask.prediction.recipe import model_classes, model_reading, recipe_inference, temperature_of
from semask.prediction.score_maps import View, all_probabilities, label_map, require_numbers
from semask.prediction.score_maps import confidence as confidence_of
from semask.settings.inference import Inference

if TYPE_CHECKING:
    from semask.engines.runtime import Runtime  # builds on this module
    from semask.explain.explanation import Explanation

AHEAD = 16
"""Images of a list that are read before they are predicted, so that those of one size can go together."""
PIXELS_AT_ONCE = 2**21
"""Pixels of several images that go through the model at once; a larger image goes alone."""


def look(
    model: "SeMask | Runtime", image: Tensor, inference: Inference, *, mirrored: bool = False, priors: bool = False
) -> list[View]:
    """Put one image through the model.

    Args:
        model: In evaluation mode.
        image: Normalized images [B, C, H, W].
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
        image: Normalized images [B, C, H, W].
        inference: Crop, stride and window_batch.

    Returns:
        For each view that `run` gives, one of the whole image with class scores [B, K, H, W] at the image's size.
    """
    B, _, H, W = image.shape
    (height, width), corners = windows((H, W), inference)
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


class Predictor:
    """Segments images of any kind and size with a model.

    Args:
        model: A SeMask, which is put in evaluation mode and accelerated in place; or an exported file, opened with
            `load_exported`.
        inference: How images are put through it; None: as the model's recipe evaluates it.
        device: Where to run; None: where the model is.

    >>> import numpy as np
    >>> from semask.builder import build
    >>> model = build("swin_nano", num_classes=4, channels=32)
    >>> prediction = Predictor(model)(np.zeros((50, 60, 3), dtype=np.uint8))
    >>> prediction.label.shape, len(prediction.classes)
    ((50, 60), 4)
    """

    def __init__(
        self, model: "SeMask | Runtime", inference: Inference | None = None, *, device: torch.device | str | None = None
    ) -> None:
        self.model = model.eval() if device is None else model.to(device).eval()
        if isinstance(model, nn.Module):
            accelerate(model)
        self.inference = inference or recipe_inference(model)
        self.reading = model_reading(model)
        self.normalization = Normalization(tuple(model.config["mean"]), tuple(model.config["std"]))
        self.classes = model_classes(model)
        self.temperature = temperature_of(model)

    @overload  # a text is a path, and not several of its letters
    def __call__(  # type: ignore[overload-overlap]
        self, image: Picture, *, confidence: bool = True, priors: bool = False, probabilities: bool = False
    ) -> Prediction: ...
    @overload  # a batch gives a list
    def __call__(
        self,
        image: NDArray[Any] | Tensor,
        *,
        confidence: bool = True,
        priors: bool = False,
        probabilities: bool = False,
    ) -> Any: ...
    @overload
    def __call__(
        self,
        image: Iterable[Picture | NDArray[Any] | Tensor],
        *,
        confidence: bool = True,
        priors: bool = False,
        probabilities: bool = False,
    ) -> list[Prediction]: ...
    def __call__(
        self, image: Any, *, confidence: bool = True, priors: bool = False, probabilities: bool = False
    ) -> Any:
        """Segment one image or several.

        Args:
            image: Path of a file; PIL image; array [H, W, C] or [H, W], uint8 or float in [0, 1]; or tensor [C, H, W],
                likewise. Colors are RGB. Or several: a list, tuple or generator of these in any mixture, an array
                [B, H, W, C] or a tensor [B, C, H, W].
            confidence: Whether to give the probability of the chosen classes; for a large image it takes longer than
                the classes.
            priors: Whether to give the prior of each stage too.
            probabilities: Whether to give the probability of every class too, in 2 bytes a class and pixel.

        Returns:
            The prediction of one image; of several a list of them in the same order. Those of one size go through the
            model together, at most `window_batch` of them.

        Raises:
            ValueError: If the image can't be read or has another number of channels than the model takes, the model
                gives NaN or infinite scores, or priors are asked of an exported file.
        """
        options = {"confidence": confidence, "priors": priors, "probabilities": probabilities}
        if is_one(image):
            return self._together([self._pixels(image)], **options)[0]
        predictions: list[Prediction] = []
        images = iter(image)
        while chunk := list(islice(images, AHEAD)):
            numbers = range(len(predictions), len(predictions) + len(chunk))
            pixels = [self._pixels(x, number) for x, number in zip(chunk, numbers, strict=True)]
            done: dict[int, Prediction] = {}
            for places in self._batches(pixels):
                predicted = self._together([pixels[place] for place in places], **options)
                done |= dict(zip(places, predicted, strict=True))
            predictions += [done[place] for place in range(len(chunk))]
        return predictions

    def explain(self, image: Picture | NDArray[Any] | Tensor) -> "Explanation":
        """Say what each stage of the model already believes of an image.

        Args:
            image: One image, as for a prediction. It goes through the model once, in one piece, at the scale of the
                settings: without windows, further ratios or mirroring.

        Returns:
            Priors, confidence, where the stages disagree, early exits, and what the semantic attention looks at; a
            notebook shows it as a page in which one clicks. A model without semantic layers has no stages in it.

        Raises:
            ValueError: If the model is an exported file, its priors have classes of their own, or the image can't be
                read.
        """
        from semask.explain.compute import explained, watching

        pixels, once = self._pixels(image), copy(self)
        once.inference = replace(self.inference, mode="whole", ratios=(1.0,), flip=False)
        with watching(self.model) as seen:
            views = [maps[0] for maps in once.views(pixels, priors=True)]
        assert isinstance(self.model, SeMask)  # else watching has refused it
        return explained(self.model, pixels, views, seen, classes=self.classes, temperature=self.temperature)

    def _pixels(self, image: Any, number: int | None = None) -> Tensor:
        """One image as [C, H, W]; `number` is its place among several, for messages."""
        with numbered(number):
            return to_tensor(image, channels=self.reading.channels, reading=self.reading)

    def _batches(self, pixels: Sequence[Tensor]) -> list[list[int]]:
        """Which images go through the model together: some of one size, as many as memory is meant for."""
        sizes: dict[torch.Size, list[int]] = {}
        for place, image in enumerate(pixels):
            sizes.setdefault(image.shape, []).append(place)
        batches = []
        for shape, places in sizes.items():
            largest = max(math.prod(self._size(shape, ratio)) for ratio in self.inference.ratios)
            most = max(1, min(self.inference.window_batch, PIXELS_AT_ONCE // largest))
            most = 1 if self.inference.mode == "slide" else most  # its windows fill the batch
            batches += [places[first : first + most] for first in range(0, len(places), most)]
        return batches

    def _together(
        self, images: Sequence[Tensor], *, confidence: bool, priors: bool, probabilities: bool
    ) -> list[Prediction]:
        """Predict images [C, H, W] of one size in one pass."""
        size = (images[0].shape[-2], images[0].shape[-1])
        maps = self.views(images, priors=priors)
        require_numbers(maps[0])
        labels, *favored = (label_map(views, size).cpu().numpy() for views in maps)
        sure = confidence_of(maps[0], size, self.temperature).cpu().numpy() if confidence else None
        shares = all_probabilities(maps[0], size, self.temperature).numpy() if probabilities else None
        return [
            Prediction(
                label=labels[i],
                confidence=None if sure is None else sure[i],
                priors=tuple(prior[i] for prior in favored),
                classes=self.classes,
                image=images[i].permute(1, 2, 0).cpu().numpy(),  # a view: nothing is copied
                probabilities=None if shares is None else shares[i],
            )
            for i in range(len(images))
        ]

    @torch.inference_mode()
    def views(self, image: Tensor | Sequence[Tensor], *, priors: bool = False) -> list[list[View]]:
        """See an image [C, H, W] (uint8, or float in [0, 1]) at every ratio and flip, or B images of one size.

        Returns:
            The views of the decoder and, with `priors`, of each stage's prior: [maps][ratios and flips]; their scores
            are [B, ...], B is 1 for one image.
        """
        if priors and not hasattr(self.model, "encoder"):
            raise ValueError("an exported file gives no priors: use the checkpoint that it was made of")
        device = next(self.model.parameters()).device
        images = [image] if isinstance(image, Tensor) and image.ndim == 3 else image
        seen = [
            look(self.model, x, self.inference, mirrored=mirrored, priors=priors)
            for x, mirrored in self._inputs(*(x.to(device) for x in images))
        ]
        return [list(views) for views in zip(*seen, strict=True)]

    def _inputs(self, *images: Tensor) -> Iterator[tuple[Tensor, bool]]:
        """Normalized [B, C, h, w] at every ratio, plain and mirrored."""
        for ratio in self.inference.ratios:
            size, antialias = self._size(images[0].shape, ratio), self.inference.antialias
            require_pixels(size)
            x = torch.stack([self.normalization(resize_image(x, size, antialias=antialias)) for x in images])
            yield x, False
            if self.inference.flip:
                yield x.flip(-1), True

    def _size(self, shape: torch.Size, ratio: float) -> tuple[int, int]:
        """Height and width at which the model sees an image [..., H, W]."""
        return fitted_size((shape[-2], shape[-1]), self.inference.scale, ratio=ratio)


def to_tensor(image: object, *, channels: int, reading: Reading | None = None) -> Tensor:
    """Bring an image of any kind to [C, H, W], uint8 or float32 in [0, 1].

    Args:
        image: Path, PIL image, array [H, W, C] or [H, W], or tensor [C, H, W]; anything else is refused.
        channels: Channels C that it has to have.
        reading: How files, and whole numbers in arrays and tensors, are read; None: as photos.

    Raises:
        ValueError: If it can't be read, or has another shape or number of channels.
    """
    if not isinstance(image, Tensor):
        return torch.from_numpy(to_array(image, channels=channels, reading=reading)).permute(2, 0, 1)
    require_shape(tuple(image.shape), channels)
    value_range = None if reading is None else reading.value_range
    if value_range is not None and not image.is_floating_point():
        pixels = in_range(image.permute(1, 2, 0).cpu().numpy(), value_range)
        return torch.from_numpy(pixels).permute(2, 0, 1).to(image.device)
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise ValueError(f"image has values of type {image.dtype}: give uint8, or float in [0, 1]")
    if not image.is_floating_point():
        return image
    if not image.isfinite().all() or image.min() < 0 or image.max() > 1:
        raise ValueError(outside(value_range))
    return image.float()
