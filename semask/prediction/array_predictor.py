"""The numpy twin of `Predictor`: segments images with an exported file. Without torch."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from semask.data.sizes import fitted_size
from semask.engines.catalog import formats
from semask.engines.exported import Exported, open_exported, require_format
from semask.prediction.array_images import normalize, resize_image
from semask.prediction.array_maps import Array, ArrayView, all_probabilities, are_finite, label_map, softmax
from semask.prediction.array_maps import confidence as confidence_of
from semask.prediction.inputs import NOT_FINITE, Picture, is_one, numbered, require_pixels, to_array, windows
from semask.prediction.prediction import Prediction
from semask.prediction.recipe import model_classes, model_reading, recipe_inference, temperature_of
from semask.settings.inference import Inference


class ArrayPredictor:
    """Segments images of any kind and size with an exported file, as `Predictor` does with a model.

    Args:
        model: An exported file whose engine takes arrays, opened with `open_exported`.
        inference: How images are put through it; None: as the model's recipe evaluates it.

    Attributes:
        classes: Names and colors of the class indices.
    """

    def __init__(self, model: Exported, inference: Inference | None = None) -> None:
        self.model = model
        self.inference = inference or recipe_inference(model)
        self.reading = model_reading(model)
        self.classes = model_classes(model)
        self.temperature = temperature_of(model)

    @overload  # a text is a path, and not several of its letters
    def __call__(  # type: ignore[overload-overlap]
        self, image: Picture, *, confidence: bool = True, priors: bool = False, probabilities: bool = False
    ) -> Prediction: ...
    @overload  # a batch gives a list
    def __call__(
        self, image: NDArray[Any], *, confidence: bool = True, priors: bool = False, probabilities: bool = False
    ) -> Any: ...
    @overload
    def __call__(
        self,
        image: Iterable[Picture | NDArray[Any]],
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
            image: Path of a file; PIL image; or array [H, W, C] or [H, W], uint8 or float in [0, 1]. Colors are RGB.
                Or several: a list, tuple or generator of these in any mixture, or an array [B, H, W, C].
            confidence: Whether to give the probability of the chosen classes; for a large image it takes longer than
                the classes.
            priors: Refused: an exported file has none.
            probabilities: Whether to give the probability of every class too, in 2 bytes a class and pixel.

        Returns:
            The prediction of one image; of several a list of them in the same order.

        Raises:
            ValueError: If the image can't be read or has another number of channels than the model takes, the model
                gives NaN or infinite scores, or priors are asked for.
        """
        if priors:
            raise ValueError("an exported file gives no priors: use the checkpoint that it was made of")
        if is_one(image):
            return self._predict(image, None, confidence=confidence, probabilities=probabilities)
        return [
            self._predict(x, number, confidence=confidence, probabilities=probabilities)
            for number, x in enumerate(image)
        ]

    def _predict(self, image: Any, number: int | None, *, confidence: bool, probabilities: bool) -> Prediction:
        """Predict one image; `number` is its place among several, for messages."""
        with numbered(number):
            pixels = to_array(image, channels=self.reading.channels, reading=self.reading)
        size = (pixels.shape[0], pixels.shape[1])
        views = [self._view(x, mirrored=mirrored) for x, mirrored in self._inputs(pixels)]
        if not are_finite(views):
            raise ValueError(NOT_FINITE)
        sure = confidence_of(views, size, self.temperature) if confidence else None
        shares = all_probabilities(views, size, self.temperature) if probabilities else None
        return Prediction(label_map(views, size), sure, (), self.classes, pixels, shares)

    def _inputs(self, pixels: NDArray[Any]) -> Iterator[tuple[Array, bool]]:
        """Normalized [C, h, w] at every ratio, plain and mirrored."""
        description = self.model.description
        for ratio in self.inference.ratios:
            size = fitted_size((pixels.shape[0], pixels.shape[1]), self.inference.scale, ratio=ratio)
            require_pixels(size)
            resized = resize_image(pixels, size, antialias=self.inference.antialias)
            x = normalize(resized, description["config"]["mean"], description["config"]["std"])
            yield x, False
            if self.inference.flip:
                yield np.ascontiguousarray(x[..., ::-1]), True

    def _view(self, image: Array, *, mirrored: bool) -> ArrayView:
        """Put an image [C, H, W] through the model; mirrored scores are mirrored back."""
        view = self._slide(image) if self.inference.mode == "slide" else self._views(image[None])[0]
        return view._replace(mirrored=mirrored)

    def _views(self, images: Array) -> list[ArrayView]:
        """Put images [B, C, H, W] through the model together."""
        outputs = self.model.run(images)
        size = (images.shape[2], images.shape[3])
        padded = self.model.padded(*size)
        if not self.model.makes_masks:
            return [ArrayView(logits, size, padded) for logits in outputs[0]]
        shares = softmax(outputs[0], axis=-1)[..., :-1]  # the last is "no object"
        return [ArrayView(masks, size, padded, "masks", x) for x, masks in zip(shares, outputs[1], strict=True)]

    def _slide(self, image: Array) -> ArrayView:
        """Average the class scores of overlapping windows of an image [C, H, W], `window_batch` of them at a time."""
        size = (image.shape[1], image.shape[2])
        (height, width), corners = windows(size, self.inference)
        total, count = np.zeros((self.model.config["num_classes"], *size), np.float32), np.zeros(size, np.float32)
        for first in range(0, len(corners), self.inference.window_batch):
            chunk = corners[first : first + self.inference.window_batch]
            views = self._views(np.stack([image[:, y : y + height, x : x + width] for y, x in chunk]))
            for (y, x), view in zip(chunk, views, strict=True):
                total[:, y : y + height, x : x + width] += view.rows(range(height))
                count[y : y + height, x : x + width] += 1
        total /= count
        return ArrayView(total, size, size, "probabilities" if self.model.makes_masks else "logits")


def open_array_predictor(
    path: str | Path,
    *,
    device: str | None = None,
    trust: bool = False,
    inference: Inference | None = None,
) -> ArrayPredictor:
    """Open an exported file for prediction without torch.

    Args:
        path: File of a format whose engine takes arrays: .onnx or .xml.
        device: Where to run; None for the CPU.
        trust: Open formats too that run code of their own; none of these does.
        inference: How images are put through it; None as its description says.

    Raises:
        ValueError: See `open_exported`; if the format needs torch.
    """
    if not require_format(Path(path)).arrays:
        able = ", ".join(row.ending for row in formats().values() if row.arrays)
        raise ValueError(f"{path}: needs torch: open it with semask.load_exported, or export to one of {able}")
    return ArrayPredictor(open_exported(path, device=device, trust=trust), inference)
