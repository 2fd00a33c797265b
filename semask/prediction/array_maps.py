"""What `score_maps` does, in NumPy: class scores resized, normalized and compared strip by strip. Without torch."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semask.metrics.calibration import LEAST, tempered

Array = NDArray[np.float32]
STRIP_VALUES = 2**21
"""Class scores at an image's size that are held at once."""
FILL_VALUES = 2**18
"""Class scores of single pixels that are mixed at once: what caches hold."""


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
    """Logistic function; where the exponential overflows, its limit is right."""
    with np.errstate(over="ignore"):
        shares: Array = np.float32(1) / (np.float32(1) + np.exp(-x))
    return shares


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
    if alone and views[0].kind == "logits" and not views[0].mirrored:
        label, sure = agreed(views[0], size)
        return fill(label, ~sure, views[0])
    label = np.zeros(size, dtype=np.uint8)
    for rows in strips(views, size):
        scores = resized(views[0], size, rows) if alone else probabilities(views, size, rows)
        label[rows.start : rows.stop] = best(scores)
    return label


def best(scores: Array) -> NDArray[np.uint8]:
    """Index of the highest score of each pixel: [K, h, w] -> [h, w]."""
    label, highest = np.zeros(scores.shape[1:], dtype=np.uint8), scores[0].copy()
    for k in range(1, len(scores)):
        label[scores[k] > highest] = k
        np.maximum(highest, scores[k], out=highest)
    return label


def agreed(view: ArrayView, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Choose the class of each pixel whose score is a mixture of scores that all favor the same one.

    Returns:
        Class indices [H, W], right where they are sure, [H, W].
    """
    label = best(view.scores)
    sure = np.ones_like(label, dtype=np.bool_)
    for source, target in (((view.scores.shape[1], view.scores.shape[2]), view.padded), (view.size, size)):
        label, sure = label[: source[0], : source[1]], sure[: source[0], : source[1]]
        if source == target:
            continue
        # A pixel is mixed from two rows and two columns: of each location, those at its right and below.
        corners = [(y, x) for y in (slice(-1), slice(1, None)) for x in (slice(-1), slice(1, None))]
        (wide, certain) = (np.pad(x, ((0, 1), (0, 1)), mode="edge") for x in (label, sure))
        sure = np.logical_and.reduce([certain[corner] & (wide[corner] == label) for corner in corners])
        rows, columns = (mixed(range(target[axis]), source[axis], target[axis]).lower for axis in (0, 1))
        label, sure = label[rows[:, None], columns], sure[rows[:, None], columns]
    return label, sure


def fill(label: NDArray[np.uint8], unsure: NDArray[np.bool_], view: ArrayView) -> NDArray[np.uint8]:
    """Choose the classes of single pixels by their scores.

    Args:
        label: Class indices [H, W], which are changed.
        unsure: Which of them to choose, [H, W].
        view: Class scores.

    Returns:
        The label.
    """
    K, h, w = view.scores.shape
    scores = np.ascontiguousarray(view.scores.transpose(1, 2, 0)).reshape(-1, K)  # [h w, K]
    (row_cells, row_shares), (column_cells, column_shares) = (
        mixtures((h, w)[axis], view.padded[axis], view.size[axis], label.shape[axis]) for axis in (0, 1)
    )
    places, step = np.flatnonzero(unsure), max(FILL_VALUES // K, 1)
    for first in range(0, len(places), step):
        y, x = np.divmod(places[first : first + step], label.shape[1])
        sums = np.zeros((len(y), K), np.float32)
        for n in range(row_cells.shape[1]):
            for m in range(column_cells.shape[1]):
                share = row_shares[y, n] * column_shares[x, m]
                sums += scores[row_cells[y, n] * w + column_cells[x, m]] * share[:, None]
        label[y, x] = sums.argmax(axis=1)
    return label


def mixtures(cells: int, padded: int, length: int, target: int) -> tuple[NDArray[np.intp], Array]:
    """Follow rows of scores: `cells` are resized to `padded`, of which `length` are kept and resized to `target`.

    Returns:
        Rows of the scores that each row of the result is mixed from, and their shares, both [target, n].
    """
    outer, inner = mixed(range(target), length, target), mixed(range(padded), cells, padded)
    rows, shares = [], []
    for row, share in ((outer.lower, 1 - outer.share), (outer.upper, outer.share)):
        rows += [inner.lower[row], inner.upper[row]]
        shares += [share * (1 - inner.share[row]), share * inner.share[row]]
    offsets = np.stack(rows, axis=1) - rows[0][:, None]
    sums = np.zeros((target, int(offsets.max()) + 1), np.float32)
    np.add.at(sums, (np.arange(target)[:, None], offsets), np.stack(shares, axis=1))
    return np.minimum(rows[0][:, None] + np.arange(sums.shape[1]), cells - 1), sums


def confidence(views: Sequence[ArrayView], size: tuple[int, int], temperature: float | None = None) -> Array:
    """Give the probability of the most probable class of each pixel, [H, W]; see `calibrated`."""
    parts = [calibrated(probabilities(views, size, rows), temperature).max(axis=0) for rows in strips(views, size)]
    return np.concatenate(parts)


def all_probabilities(
    views: Sequence[ArrayView], size: tuple[int, int], temperature: float | None = None
) -> NDArray[np.float16]:
    """Give the probability of every class of each pixel, [K, H, W]; see `calibrated`."""
    parts = [calibrated(probabilities(views, size, rows), temperature) for rows in strips(views, size)]
    return np.concatenate([part.astype(np.float16) for part in parts], axis=1)


def calibrated(p: Array, temperature: float | None) -> Array:
    """Divide the logarithms of probabilities [K, rows, W] by a temperature and normalize; None changes nothing."""
    return p if temperature is None else tempered(np.log(np.maximum(p, LEAST)), temperature)


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
