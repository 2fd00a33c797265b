"""Semantic attention small enough for a page: fewer channels where there are many, 16 bits a number."""

import base64
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semask.explain.attention import AttentionMaps

BYTES = 1_600_000
"""Bytes that the attention of all stages may take, before they are written as text."""
WIDTH = 4
"""Bytes of a channel of a token: query and key in 16 bits each."""
LARGEST = 2**15 - 1
SMALLEST = 1e-20
"""What counts as nothing in a channel; its step is still a number of 32 bits."""
MOST_ERROR = 0.1
"""Share of the attention that may go to other tokens than in the model; what is worse is not shown."""
SAMPLES = 200
"""Locations at which the error is measured."""


class Compact(NamedTuple):
    """Query and key of a stage in 16 bits."""

    query: NDArray[np.int16]
    """[hp, wp, r], r at most K."""
    key: NDArray[np.int16]
    """[hp, wp, r]."""
    query_step: NDArray[np.float32]
    """What one step of each channel of the query is worth, [r]."""
    key_step: NDArray[np.float32]
    """Likewise of the key, [r]."""
    error: float
    """Largest share of the attention of a location that goes to other tokens than in the model, in [0, 1]."""

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON holds it: numbers of 16 bits, little-endian, in base64."""
        return {
            "channels": self.query.shape[-1],
            "query": base64.b64encode(self.query.astype("<i2").tobytes()).decode(),
            "key": base64.b64encode(self.key.astype("<i2").tobytes()).decode(),
            "queryStep": self.query_step.tolist(),
            "keyStep": self.key_step.tolist(),
            "error": self.error,
        }

    def maps(self, like: AttentionMaps) -> AttentionMaps:
        """Give what the page computes with, as maps of the same shape as the model's."""
        return replace(like, query=self.query * self.query_step, key=self.key * self.key_step)


def compact_all(stages: list[AttentionMaps], *, most: int = BYTES) -> list[Compact | None]:
    """Make the attention of all stages small; None for a stage of which too little would be left.

    Args:
        stages: Query and key of each stage.
        most: Bytes for all together; small maps come first, since they keep all of their channels.
    """
    found: dict[int, Compact | None] = {}
    for place in sorted(range(len(stages)), key=lambda i: stages[i].query.size):
        share = most // (len(stages) - len(found))
        made = compact(stages[place], most=share)
        found[place] = made
        most -= WIDTH * made.query.size if made is not None else 0
    return [found[place] for place in range(len(stages))]


def compact(maps: AttentionMaps, *, most: int) -> Compact | None:
    """Make the attention of a stage small: as many channels as fit into `most` bytes.

    The products of query and key are what counts, and only within a window: in each, both are turned to the channels
    that say most of its products. A vector that all keys of a window have in common changes no softmax, and is taken
    away first.
    """
    height, width, classes = maps.query.shape
    rank = min(classes, most // (WIDTH * height * width))
    if rank < 1:
        return None
    query, key = (cut(x.astype(np.float64), maps.window) for x in (maps.query, maps.key))  # [n, N, K]
    turned = principal(query, key - key.mean(axis=1, keepdims=True), rank)
    (small_query, query_step), (small_key, key_step) = (
        quantized(joined(x, maps.window, height, width)) for x in turned
    )
    made = Compact(small_query, small_key, query_step, key_step, 0.0)
    error = largest_error(maps, made.maps(maps))
    return made._replace(error=error) if error <= MOST_ERROR else None


def cut(x: NDArray[np.float64], window: int | None) -> NDArray[np.float64]:
    """Group the tokens that attend to each other: [hp, wp, K] -> [n, N, K]."""
    height, width, channels = x.shape
    if window is None:
        return x.reshape(1, height * width, channels)
    x = x.reshape(height // window, window, width // window, window, channels)  # [rows, window, columns, window, K]
    return x.swapaxes(1, 2).reshape(-1, window * window, channels)


def joined(x: NDArray[np.float64], window: int | None, height: int, width: int) -> NDArray[np.float64]:
    """Undo `cut`: [n, N, r] -> [hp, wp, r]."""
    if window is None:
        return x.reshape(height, width, -1)
    x = x.reshape(height // window, width // window, window, window, -1)  # [rows, columns, window, window, r]
    return x.swapaxes(1, 2).reshape(height, width, -1)


def principal(
    query: NDArray[np.float64], key: NDArray[np.float64], rank: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turn query and key [n, N, K] so that the first `rank` channels give the best products: -> [n, N, rank] each.

    Of all matrices of that rank their product is the one closest to query key^T (Eckart and Young 1936).
    """
    query_basis, query_rest = np.linalg.qr(query)  # [n, N, m] and [n, m, K], m the smaller one of N and K
    key_basis, key_rest = np.linalg.qr(key)
    left, values, right = np.linalg.svd(query_rest @ key_rest.swapaxes(1, 2))  # [n, m, m], [n, m]
    root = np.sqrt(values)[:, None]
    turned = query_basis @ left * root, key_basis @ right.swapaxes(1, 2) * root  # [n, N, m]
    lacking = max(rank - root.shape[-1], 0)
    first, second = (np.pad(x[..., :rank], ((0, 0), (0, 0), (0, lacking))) for x in turned)
    return first, second


def quantized(x: NDArray[np.float64]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Round each channel of [..., r] to 16 bits: the numbers, and what a step of each channel is worth, [r]."""
    step = (np.abs(x).max(axis=(0, 1)).clip(min=SMALLEST) / LARGEST).astype(np.float32)
    return np.clip(np.round(x / step), -LARGEST, LARGEST).astype(np.int16), step


def largest_error(maps: AttentionMaps, small: AttentionMaps) -> float:
    """Largest share of attention that goes elsewhere, over some locations spread over the map."""
    h, w = maps.size
    places = np.unique(np.linspace(0, h * w - 1, SAMPLES).round().astype(int))
    tokens = [divmod(int(place), w) for place in places]
    return max(float(np.abs(maps.weights(token) - small.weights(token)).sum() / 2) for token in tokens)
