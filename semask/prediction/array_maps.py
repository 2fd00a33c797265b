"""What `score_maps` does, in NumPy: class scores resized, normalized and compared strip by strip. Without torch."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
STRIP_VALUES = 2**21
"""Class scores at an image's size that are held at once."""


class Mixed(NamedTuple):
    """For some rows (or columns) of a resized map: the two that each is mixed from."""

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    share: Array
    """Share of `upper`."""


def mixed(rows: range, source: int, target: int) -> Mixed:
    """Follow rows of a map of `target` rows back to those of the map of `source` rows that it was resized from."""
    at = np.maximum((np.arange(rows.start, rows.stop) + 0.5) * source / target - 0.5, 0.0)
    lower = at.astype(np.intp)
    return Mixed(lower, np.minimum(lower + 1, source - 1), (at - lower).astype(np.float32))


class ArrayView(NamedTuple):
    """What the model gives for one image, before it is resized to the image's size; see `score_maps.View`."""

    scores: Array
    """Scores of classes [K, h, w] or of masks [Q, h, w]."""
    size: tuple[int, int]
    """Height and width of the image that the model saw."""
    padded: tuple[int, int]
    """The same with padding at the right and the bottom."""
    kind: Literal["logits", "masks", "probabilities"] = "logits"
    classes: Array | None = None
    """Probability of each class for each mask, [Q, K]."""
    mirrored: bool = False

    def rows(self, rows: range) -> Array:
        """Scores of the classes in some rows of the image that the model saw, [K, len(rows), W]."""
        scores = resize_rows(self.scores, self.padded, rows)[..., : self.size[1]]
        if self.classes is not None:
            Q, height, width = scores.shape
            scores = (self.classes.T @ sigmoid(scores).reshape(Q, -1)).reshape(-1, height, width)  # [K, rows, W]
        return scores[..., ::-1] if self.mirrored else scores


def sigmoid(x: Array) -> Array:
    """Logistic function, without overflow."""
    shrunk = np.exp(-np.abs(x))
    share: Array = np.where(x >= 0, 1 / (1 + shrunk), shrunk / (1 + shrunk))
    return share


def softmax(x: Array, axis: int) -> Array:
    """Exponentials that sum to 1 along an axis."""
    shares: Array = np.exp(x - x.max(axis=axis, keepdims=True))
    shares /= shares.sum(axis=axis, keepdims=True)
    return shares


def resize_rows(x: Array, size: tuple[int, int], rows: range, *, first: int = 0, source: int | None = None) -> Array:
    """Compute some rows of a map [C, h, w] that is resized bilinearly (corners not aligned) to `size`.

    Args:
        x: The map, or a slice of its rows.
        size: Height and width that the whole map would get.
        rows: Rows of the result to compute.
        first: First row of the slice.
        source: Rows of the whole map; None for those of x.

    Returns:
        [C, len(rows), size[1]].
    """
    source = x.shape[1] if source is None else source
    if source == size[0]:
        x = x[:, rows.start - first : rows.stop - first]
    else:
        lower, upper, share = mixed(rows, source, size[0])
        x = _mix(x[:, lower - first], x[:, upper - first], share[:, None])
    if x.shape[2] == size[1]:
        return x
    lower, upper, share = mixed(range(size[1]), x.shape[2], size[1])
    return _mix(x[:, :, lower], x[:, :, upper], share)


def _mix(lower: Array, upper: Array, share: Array) -> Array:
    """Weigh two maps that are no longer needed."""
    upper -= lower
    upper *= share
    upper += lower
    return upper


def resized(view: ArrayView, size: tuple[int, int], rows: range) -> Array:
    """Resize some rows of the scores of a view to the view's size and then to `size`: [K, len(rows), W]."""
    if view.size[0] == size[0]:
        return resize_rows(view.rows(rows), size, rows, first=rows.start, source=size[0])
    needed = mixed(rows, view.size[0], size[0])
    first = int(needed.lower[0])
    return resize_rows(view.rows(range(first, int(needed.upper[-1]) + 1)), size, rows, first=first, source=view.size[0])


def probabilities(views: Sequence[ArrayView], size: tuple[int, int], rows: range) -> Array:
    """Average the class probabilities of several views of one image in some rows: [K, len(rows), W]."""
    total: Array | None = None
    for view in views:
        share = resized(view, size, rows)
        share = softmax(share, axis=0) if view.kind == "logits" else share
        total = share if total is None else total + share
    if total is None:
        raise ValueError("no view to predict from")
    return total / np.float32(len(views))


def label_map(views: Sequence[ArrayView], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Choose the most probable class of each pixel: class indices [H, W]."""
    alone = len(views) == 1  # scores are as good as probabilities
    label = np.zeros(size, dtype=np.uint8)
    for rows in strips(views, size):
        scores = resized(views[0], size, rows) if alone else probabilities(views, size, rows)
        part, best = label[rows.start : rows.stop], scores[0].copy()
        for k in range(1, len(scores)):
            better = scores[k] > best
            part[better] = k
            np.maximum(best, scores[k], out=best)
    return label


def confidence(views: Sequence[ArrayView], size: tuple[int, int]) -> Array:
    """Give the probability of the most probable class of each pixel, [H, W]."""
    parts = [probabilities(views, size, rows).max(axis=0) for rows in strips(views, size)]
    return np.concatenate(parts)


def strips(views: Sequence[ArrayView], size: tuple[int, int]) -> list[range]:
    """Cut the rows of the result into strips that are resized at once."""
    classes = views[0].classes
    channels = max(views[0].scores.shape[0], 0 if classes is None else classes.shape[1])
    step = max(STRIP_VALUES // (channels * max(size[1], *(view.size[1] for view in views))), 1)
    return [range(first, min(first + step, size[0])) for first in range(0, size[0], step)]


def are_finite(views: Sequence[ArrayView]) -> bool:
    """Whether no score is NaN or infinite."""
    arrays = [x for view in views for x in (view.scores, view.classes) if x is not None]
    return all(bool(np.isfinite(x).all()) for x in arrays)
