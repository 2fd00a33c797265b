"""What an explanation of an image holds; without torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.explain.attention import AttentionMaps
from semask.prediction.prediction import Prediction
from semask.semantic.residual import Residual


@dataclass(frozen=True)
class StageExplanation:
    """What a stage with a semantic layer believes of an image, and what its layer does.

    Attributes:
        stage: Number of the stage, from 1.
        label: Class that the prior favors, [H, W]: the result of an early exit here.
        confidence: Probability of that class, the softmax of the prior, [H, W] in [0, 1].
        agreement: Share of the pixels whose class is the final one, in [0, 1].
        change: How far the semantic layer changed the features of each location, |out - in| / |in|, [h, w]. For
            residual "normed", `in` is the normalized input, which the layer adds to.
        scales: Learned scale of each attention block of the layer.
        residual: What the layer adds to.
        flops: FLOPs from the image to this prior.
        attention: Semantic query and key of each token.
    """

    stage: int
    label: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    agreement: float
    change: NDArray[np.float32]
    scales: tuple[float, ...]
    residual: Residual
    flops: int
    attention: AttentionMaps = field(repr=False)


@dataclass(frozen=True)
class Explanation:
    """What each stage of a model believes of one image. A notebook shows the page in which one clicks.

    The image goes through the model once, in one piece, at the scale of its recipe: neither windows (mode slide), nor
    several ratios, nor mirrored.

    Attributes:
        prediction: Final classes and confidence, the image, names and colors.
        stages: What each stage with a semantic layer believes, first to last; empty for a model without such layers.
        first: Place in `stages` of the first whose prior has the final class, [H, W]: 0 is the first, and the number of
            stages where only the decoder gives it. A later stage may have another class again.
        settled: Place in `stages` from which on a pixel has its final class, [H, W], likewise: no later stage has
            another class.
        disagreement: Number of different classes that the priors favor, [H, W]; 1 where all agree, 0 without stages.
        seen: Height and width at which the model saw the image.
        flops: FLOPs of the whole model at that size.
    """

    prediction: Prediction
    stages: tuple[StageExplanation, ...]
    first: NDArray[np.uint8]
    settled: NDArray[np.uint8]
    disagreement: NDArray[np.uint8]
    seen: tuple[int, int]
    flops: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        height, width = self.prediction.label.shape
        return height, width

    def stage(self, number: int) -> StageExplanation:
        """Give a stage by its number.

        Raises:
            ValueError: If there is no such stage, or it has no semantic layer.
        """
        found = {stage.stage: stage for stage in self.stages}
        if number not in found:
            known = f"choose one of {', '.join(str(x) for x in found)}" if found else "no stage of this model has one"
            raise ValueError(f"stage {number} has no semantic layer: {known}")
        return found[number]

    def attention_of(self, stage: int, location: tuple[int, int]) -> NDArray[np.float32]:
        """Say what the semantic attention of a stage looks at from a pixel.

        Args:
            stage: Number of the stage, from 1.
            location: Row and column of a pixel of the image.

        Returns:
            Attention weights [h, w] on the map of the stage: 0 outside of the location's window. Their sum is 1, less
            the weight of the tokens that pad the window, which take part as zeros.

        Raises:
            ValueError: If the stage has no semantic layer, or the pixel is outside of the image.
        """
        maps = self.stage(stage).attention
        height, width = self.size
        if not (0 <= location[0] < height and 0 <= location[1] < width):
            raise ValueError(f"location {location} is outside of the image: give (row, column) below {self.size}")
        return maps.weights(maps.token(location, self.size))

    def to_dict(self) -> dict[str, Any]:
        """Give the numbers as JSON holds them: sizes and cost; of each stage agreement, confidence, change, scales."""
        first, settled, distinct = (
            np.bincount(x.ravel(), minlength=len(self.stages) + 1) / x.size
            for x in (self.first, self.settled, self.disagreement)
        )
        confidence = self.prediction.confidence
        return {
            "size": list(self.size),
            "seen": list(self.seen),
            "classes": list(self.prediction.classes.names),
            "flops": self.flops,
            "confidence": None if confidence is None else float(confidence.mean()),
            "stages": [self._numbers(stage, float(first[i]), float(settled[i])) for i, stage in enumerate(self.stages)],
            "first_in_decoder": float(first[-1]),
            "settled_in_decoder": float(settled[-1]),
            "distinct_classes": [float(x) for x in distinct[1:]],
        }

    def page(self, *, title: str = "Glass box") -> str:
        """Make the page in which one clicks: one HTML file that needs nothing else.

        Args:
            title: Heading of the page, as text.
        """
        from semask.explain.page import page

        return page(self, title=title)

    def save(self, folder: str | Path, *, name: str = "image") -> list[Path]:
        """Write the page, the numbers (JSON) and a PNG of each map.

        Args:
            folder: Folder to write to.
            name: Beginning of the files' names.

        Returns:
            The files, the page first.

        Raises:
            ValueError: If a file can't be written.
        """
        from semask.explain.writing import save

        return save(self, Path(folder), name)

    def _numbers(self, stage: StageExplanation, first: float, settled: float) -> dict[str, Any]:
        change = stage.attention.on_image(stage.change)
        return {
            "stage": stage.stage,
            "map": list(stage.attention.size),
            "window": stage.attention.window,
            "residual": stage.residual,
            "scales": list(stage.scales),
            "agreement": stage.agreement,
            "first": first,
            "settled": settled,
            "confidence": float(stage.confidence.mean()),
            "change": {"mean": float(change.mean()), "max": float(change.max())},
            "flops": stage.flops,
            "share_of_flops": stage.flops / self.flops,
        }

    def _repr_html_(self) -> str:
        """Show the page in a notebook, in a frame of its own that cannot reach the notebook."""
        from semask.explain.page import frame

        return frame(self)


def first_agreeing(labels: Sequence[NDArray[np.uint8]], final: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Find the first stage whose class is the final one, whatever later stages say.

    Args:
        labels: Class that each stage favors, [H, W], first to last.
        final: Class of the prediction, [H, W].

    Returns:
        Index of the stage, [H, W]; the number of stages where none has it.

    >>> first, second, final = (np.array([x], np.uint8) for x in ([1, 1, 0], [1, 0, 0], [1, 1, 2]))
    >>> first_agreeing([first, second], final)
    array([[0, 0, 2]], dtype=uint8)
    """
    found = np.full(final.shape, len(labels), np.uint8)
    for index in reversed(range(len(labels))):
        found[labels[index] == final] = index
    return found


def first_settled(labels: Sequence[NDArray[np.uint8]], final: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Find from which stage on each pixel has its final class.

    Args:
        labels: Class that each stage favors, [H, W], first to last.
        final: Class of the prediction, [H, W].

    Returns:
        Index of the stage, [H, W]; the number of stages where the last one does not have it.

    >>> first, second, final = (np.array([x], np.uint8) for x in ([1, 1, 0], [1, 0, 0], [1, 1, 0]))
    >>> first_settled([first, second], final)
    array([[0, 2, 0]], dtype=uint8)
    """
    settled = np.full(final.shape, len(labels), np.uint8)
    for index in reversed(range(len(labels))):
        settled[(labels[index] == final) & (settled == index + 1)] = index
    return settled


def distinct_classes(labels: Sequence[NDArray[np.uint8]], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """Count the different classes that the stages favor: [H, W] each -> [H, W], the size; 0 without stages."""
    if not labels:
        return np.zeros(size, np.uint8)
    ordered = np.sort(np.stack(labels), axis=0)  # [n, H, W]
    changes: NDArray[np.uint8] = (ordered[1:] != ordered[:-1]).sum(axis=0, dtype=np.uint8)
    return changes + np.uint8(1)
