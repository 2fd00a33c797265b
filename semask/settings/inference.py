"""How an image is put through a model: the section `evaluation` of a recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from semask.files.schema import Length, Range, Sides, from_plain, require_fields

Mode = Literal["whole", "slide"]


@dataclass(frozen=True)
class Inference:
    """How an image is put through the model.

    Attributes:
        scale: Long and short side in pixels that an image is fitted into, keeping its shape; null keeps its size.
        mode: whole: the image in one piece; slide: overlapping windows whose class scores are averaged.
        crop: Height and width of a window in pixels of the resized image, for slide.
        stride: Rows and columns from one window to the next, for slide; at most the crop.
        window_batch: Windows, or whole images of one size out of a list, that go through the model at once: memory
            against speed.
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


Given = Inference | Mapping[str, Any] | None
"""What is asked for: all settings, some fields of `Inference` in place of the recipe's, or the recipe's (None)."""
Options = Annotated[dict[str, Any], Inference]
"""Fields of `Inference` as options of a command; those that are not given are not in it."""


def inference_of(recipe: Inference, given: Given) -> Inference:
    """Settings to use, from those of a recipe and what is asked for.

    Raises:
        ValueError: If a setting is unknown or out of its range.

    >>> inference_of(Inference(scale=(512, 512)), {"flip": True}).scale
    (512, 512)
    """
    if isinstance(given, Inference):
        return given
    changes = from_plain(Inference, dict(given or {}), "inference")
    try:
        return replace(recipe, **changes)
    except ValueError as error:  # it was not the recipe that said so
        raise ValueError(str(error).removeprefix("evaluation.")) from error
