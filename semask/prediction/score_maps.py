"""What a model says of an image, brought to the size of the image: probabilities, labels, confidence.

The class probabilities of a large image at its own size are huge (150 classes of a 12-megapixel photo: 7 GB), so they
are never held: the scores stay at the decoder's size and are resized, normalized and compared strip by strip.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from semask.acceleration.strips import at_once, neighbors, resize_rows, source_rows
from semask.prediction.inputs import NOT_FINITE


class View(NamedTuple):
    """What the model says of one image, before it is resized to the image's size."""

    scores: Tensor
    """Scores of classes [B, K, h, w] or of masks [B, Q, h, w]."""
    size: tuple[int, int]
    """Height and width of the image that the model saw; scores are resized to it before any other size."""
    padded: tuple[int, int]
    """The same with the padding that the decoder asks for, at the right and the bottom."""
    kind: Literal["logits", "masks", "probabilities"] = "logits"
    """Whether the scores are logits or probabilities of classes, or logits of masks."""
    classes: Tensor | None = None
    """Probability of each class for each mask, [B, Q, K]; without "no object"."""
    mirrored: bool = False
    """Whether the model saw the image mirrored."""

    def rows(self, rows: range) -> Tensor:
        """Scores of the classes in some rows of the image, [B, K, len(rows), W]."""
        height = self.scores.shape[-2]
        needed = source_rows(rows, height, self.padded[0])
        scores = self.scores[:, :, needed.start : needed.stop].float()
        scores = resize_rows(scores, self.padded, rows, source=(needed.start, height))[..., : self.size[1]]
        if self.classes is not None:
            scores = (scores.permute(0, 2, 3, 1).sigmoid() @ self.classes[:, None]).permute(0, 3, 1, 2)
        return scores.flip(-1) if self.mirrored else scores


def require_numbers(views: Sequence[View]) -> None:
    """Refuse what a broken model says.

    Raises:
        ValueError: If a score is NaN or infinitely large.
    """
    if not all(bool(x.amax().isfinite()) for view in views for x in (view.scores, view.classes) if x is not None):
        raise ValueError(NOT_FINITE)


def probabilities(views: Sequence[View], size: tuple[int, int], rows: range | None = None) -> Tensor:
    """Average the class probabilities of several views of one image.

    Args:
        views: Class scores of the views.
        size: Height and width of the result, usually those of the file.
        rows: Rows of the result to compute; None for all.

    Returns:
        Probabilities [B, K, len(rows), W]: the softmax of the scores resized to the view's size and then to `size`, or
        for masks the probabilities so resized, averaged over the views.
    """
    rows = range(size[0]) if rows is None else rows
    total: Tensor | None = None
    for view in views:
        share = resized(view, size, rows)
        if view.kind == "logits":
            share = share.permute(0, 2, 3, 1).softmax(dim=-1).permute(0, 3, 1, 2)  # classes lie side by side
        total = share if total is None else total + share
    if total is None:
        raise ValueError("no view to predict from")
    return total / len(views)


def resized(view: View, size: tuple[int, int], rows: range) -> Tensor:
    """Resize some rows of the scores of a view to the view's size and then to `size`: [B, K, len(rows), W]."""
    needed = source_rows(rows, view.size[0], size[0])
    return resize_rows(view.rows(needed), size, rows, source=(needed.start, view.size[0]))


def confidence(views: Sequence[View], size: tuple[int, int], temperature: float | None = None) -> Tensor:
    """Give the probability of the most probable class of each pixel.

    Args:
        views: Class scores of the views of one image.
        size: Height H and width W of the result.
        temperature: What `tempered` divides by; None: nothing is changed.

    Returns:
        Probabilities [B, H, W].
    """
    parts = [confidence_of(probabilities(views, size, rows), temperature) for rows in strips(views, size)]
    return torch.cat(parts, dim=1)


def confidence_of(p: Tensor, temperature: float | None) -> Tensor:
    """Give the probability of the most probable class: [B, K, h, w] -> [B, h, w]; see `confidence`."""
    return tempered(p, temperature).amax(dim=1)


def tempered(p: Tensor, temperature: float | None) -> Tensor:
    """Calibrate probabilities: divide their logarithms by a temperature and normalize.

    For one view with class logits this is the softmax of the logits divided by the temperature. The order of the
    classes stays.

    Args:
        p: Probabilities [B, K, h, w]; those of masks need not sum up to 1.
        temperature: None changes nothing.
    """
    if temperature is None:
        return p
    return (p.float().clamp(min=torch.finfo(torch.float32).tiny).log() / temperature).softmax(dim=1)


def all_probabilities(views: Sequence[View], size: tuple[int, int], temperature: float | None = None) -> Tensor:
    """Give the probability of every class of each pixel, [B, K, H, W] in float16, on the CPU.

    Args:
        views: Class scores of the views of one image.
        size: Height H and width W of the result.
        temperature: What `tempered` divides by; None: nothing is changed.
    """
    parts = [tempered(probabilities(views, size, rows), temperature).half().cpu() for rows in strips(views, size)]
    return torch.cat(parts, dim=2)


def label_map(views: Sequence[View], size: tuple[int, int]) -> Tensor:
    """Choose the most probable class of each pixel.

    Args:
        views: Class scores of the views of one image.
        size: Height H and width W of the result.

    Returns:
        Class indices [B, H, W] uint8.
    """
    alone = len(views) == 1  # scores are as good as probabilities
    if alone and views[0].kind == "logits" and not views[0].mirrored:
        label, sure = agreed(views[0], size)
        return fill(label, ~sure, views[0])

    def best(rows: range) -> Tensor:
        scores = resized(views[0], size, rows) if alone else probabilities(views, size, rows)
        return scores.argmax(dim=1).to(torch.uint8)

    return torch.cat([best(rows) for rows in strips(views, size)], dim=1)


def agreed(view: View, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Choose the class of each pixel whose score is a mixture of scores that all favor the same one.

    Returns:
        Class indices [B, H, W] uint8, right where they are sure, [B, H, W] bool.
    """
    label, sure = view.scores.argmax(dim=1).to(torch.uint8), torch.ones_like(view.scores[:, 0], dtype=torch.bool)
    for source, target in (((view.scores.shape[-2], view.scores.shape[-1]), view.padded), (view.size, size)):
        label, sure = label[:, : source[0], : source[1]], sure[:, : source[0], : source[1]]
        if source == target:
            continue
        highest = label[:, None].float()
        lowest = torch.where(sure[:, None], highest, -1.0)
        # A pixel is mixed from two rows and two columns: of each location, those at its right and below.
        highest, negative = (F.max_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2, 1) for x in (highest, -lowest))
        label, sure = highest[:, 0].to(torch.uint8), (highest == -negative)[:, 0]
        for axis in (0, 1):
            cells = neighbors(range(target[axis]), source[axis], target[axis])[0].to(label.device)
            label, sure = label.index_select(axis + 1, cells), sure.index_select(axis + 1, cells)
    return label, sure


def fill(label: Tensor, unsure: Tensor, view: View) -> Tensor:
    """Choose the classes of single pixels by their scores.

    Args:
        label: Class indices [B, H, W], which are changed.
        unsure: Which of them to choose, [B, H, W] bool.
        view: Class scores.

    Returns:
        The label.
    """
    _, K, h, w = view.scores.shape
    scores = view.scores.float().permute(0, 2, 3, 1).contiguous().view(-1, K)  # the classes lie side by side
    rows = mixtures(h, view.padded[0], view.size[0], label.shape[1], scores.device)
    columns = mixtures(w, view.padded[1], view.size[1], label.shape[2], scores.device)
    for image, y, x in _pixels(unsure, at_once(unsure, K)):
        cells = (image[:, None] * h + rows.cells[y])[:, :, None] * w + columns.cells[x][:, None]  # [pixels, n, m]
        shares = rows.shares[y][:, :, None] * columns.shares[x][:, None]
        mixed = F.embedding_bag(cells.flatten(1), scores, per_sample_weights=shares.flatten(1), mode="sum")
        label[image, y, x] = mixed.argmax(dim=-1).to(label.dtype)
    return label


def _pixels(where: Tensor, most: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Give image, row and column of the pixels [B, H, W] that are true, at most so many at once."""
    for index, image in enumerate(where):
        step = at_once(image, 2 * image.shape[1])
        for first in range(0, image.shape[0], step):
            for part in torch.split(image[first : first + step].nonzero(), most):
                row, column = part.unbind(1)
                yield torch.full_like(row, index), row + first, column


class Mixtures(NamedTuple):
    """What each row (or column) of a map that was resized twice is mixed from."""

    cells: Tensor
    """Rows of the scores, n of them one after another, [target, n] int64."""
    shares: Tensor
    """Their shares, [target, n]."""


def mixtures(cells: int, padded: int, length: int, target: int, device: torch.device) -> Mixtures:
    """Follow rows of scores: `cells` are resized to `padded`, of which `length` are kept and resized to `target`."""
    outer = neighbors(range(target), length, target)
    inner = neighbors(range(padded), cells, padded)
    rows, shares = [], []
    for row, share in ((outer[0], 1 - outer[2]), (outer[1], outer[2])):
        for cell, part in ((inner[0], 1 - inner[2]), (inner[1], inner[2])):
            rows.append(cell[row])
            shares.append(share * part[row])
    offsets = torch.stack(rows, dim=1) - rows[0][:, None]
    sums = torch.zeros(target, int(offsets.max()) + 1, dtype=torch.float64)
    sums.scatter_add_(1, offsets, torch.stack(shares, dim=1))
    places = rows[0][:, None] + torch.arange(sums.shape[1])
    return Mixtures(places.clamp(max=cells - 1).to(device), sums.float().to(device))


def strips(views: Sequence[View], size: tuple[int, int]) -> list[range]:
    """Cut the rows of the result into strips that are resized at once."""
    B, K = views[0].scores.shape[:2]
    if views[0].classes is not None:
        K = max(K, views[0].classes.shape[-1])
    step = at_once(views[0].scores, B * K * max(size[1], *(view.size[1] for view in views)))
    return [range(first, min(first + step, size[0])) for first in range(0, size[0], step)]
