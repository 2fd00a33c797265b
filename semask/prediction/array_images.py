"""Images resized and normalized in NumPy, with the numbers that torch gives. Without torch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_BITS = 22
"""Bits after the point that a fixed-point weight has at most."""


class Filter(NamedTuple):
    """What each row (or column) of a resized image is mixed from."""

    cells: NDArray[np.intp]
    """Rows of the image, [target, n]."""
    weights: NDArray[np.float64]
    """Their weights, [target, n]; they sum to 1."""


def linear(source: int, target: int, *, antialias: bool) -> Filter:
    """Weights of resizing `source` rows bilinearly, corners not aligned, to `target` rows.

    Args:
        source: Rows of the image.
        target: Rows of the result.
        antialias: Whether to smooth when the image is made smaller.
    """
    scale = source / target
    places = np.arange(target)
    if not antialias:
        at = np.maximum(scale * (places + 0.5) - 0.5, 0.0)
        lower = at.astype(np.intp)
        share = at - lower
        return Filter(np.stack([lower, np.minimum(lower + 1, source - 1)], 1), np.stack([1 - share, share], 1))
    support = max(scale, 1.0)
    center = scale * (places + 0.5)
    first = np.maximum((center - support + 0.5).astype(np.intp), 0)
    after = np.minimum((center + support + 0.5).astype(np.intp), source)
    cells = first[:, None] + np.arange(int((after - first).max()))
    weights = np.maximum(1 - np.abs((cells - center[:, None] + 0.5) / support), 0.0)  # a triangle
    weights[cells >= after[:, None]] = 0.0
    return Filter(np.minimum(cells, source - 1), weights / weights.sum(axis=1, keepdims=True))


def resize_image(image: NDArray[Any], size: Sequence[int], *, antialias: bool) -> NDArray[Any]:
    """Resize an image [H, W, C] of uint8 or float32 bilinearly to `size` (height, width); bytes are rounded."""
    for axis in (1, 0):  # columns first, as torch does
        if image.shape[axis] != size[axis]:
            image = _resize_axis(image, linear(image.shape[axis], size[axis], antialias=antialias), axis)
    return image


def _resize_axis(image: NDArray[Any], filter: Filter, axis: int) -> NDArray[Any]:
    shape = (-1, 1, 1) if axis == 0 else (-1, 1)  # of weights, along the axis
    if image.dtype == np.uint8:  # in fixed point, as torch and Pillow do it with vector instructions
        bits = _bits(float(filter.weights.max()))
        weights = np.floor(filter.weights * 2.0**bits + 0.5).astype(np.int32)
        total = np.full((*image.shape[:axis], len(weights), *image.shape[axis + 1 :]), 1 << (bits - 1), np.int32)
        for cells, weight in zip(filter.cells.T, weights.T, strict=True):
            total += image.take(cells, axis) * weight.reshape(shape)
        rounded: NDArray[np.uint8] = np.clip(total >> bits, 0, 255).astype(np.uint8)
        return rounded
    summed = np.zeros((*image.shape[:axis], len(filter.weights), *image.shape[axis + 1 :]), np.float32)
    for cells, weight in zip(filter.cells.T, filter.weights.T.astype(np.float32), strict=True):
        summed += image.take(cells, axis) * weight.reshape(shape)
    return summed


def _bits(largest: float) -> int:
    """Bits after the point, so that the largest weight fits into 16 bits with its sign."""
    return next(
        bits for bits in range(MOST_BITS + 1) if bits == MOST_BITS or int(0.5 + largest * 2 ** (bits + 1)) >= 2**15
    )


def normalize(image: NDArray[Any], mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """Bring an image [H, W, C], uint8 or float in [0, 1], to the range that the encoder was trained on: [C, H, W]."""
    scaled = image.astype(np.float32)
    if image.dtype == np.uint8:
        scaled *= np.float32(1 / 255)
    scaled -= np.array(mean, np.float32)
    scaled /= np.array(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))
