"""What the semantic attention of a stage looks at from a location; without torch."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class AttentionMaps:
    """Semantic query and key of each token of a stage, from which every weight of its attention follows.

    Of several attention blocks in a row these are the last one's, whose query is the prior.

    Attributes:
        query: Semantic query of each token, [hp, wp, K]; hp x wp is the map with the padding of its windows.
        key: Semantic key, [hp, wp, K].
        size: Height h and width w of the map without that padding.
        covered: Rows and columns of the map that the image covers, as fractions of tokens: less than `size` where the
            image was padded.
        window: Side of the attention windows in tokens; None for the whole map.
    """

    query: NDArray[np.float32]
    key: NDArray[np.float32]
    size: tuple[int, int]
    covered: tuple[float, float]
    window: int | None

    def token(self, location: tuple[int, int], image: tuple[int, int]) -> tuple[int, int]:
        """Row and column of the token that a pixel of an image (height, width) belongs to."""
        row, column = (
            min(int((x + 0.5) / length * covered), tokens - 1)
            for x, length, covered, tokens in zip(location, image, self.covered, self.size, strict=True)
        )
        return row, column

    def on_image(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Leave out what pads the image: a map [h, w] -> its first rows and columns."""
        rows, columns = (math.ceil(round(x, 6)) for x in self.covered)
        return values[:rows, :columns]

    def scope(self, token: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the padded map [hp, wp] that a token attends to."""
        if self.window is None:
            return slice(None), slice(None)
        row, column = (x // self.window * self.window for x in token)
        return slice(row, row + self.window), slice(column, column + self.window)

    def weights(self, token: tuple[int, int]) -> NDArray[np.float32]:
        """Compute softmax(query key^T) of one token.

        Padded tokens of a window take part, as in the model: their features are zero, their key is the bias. What they
        get is not in the result, so that its sum is 1 less their weight.

        Returns:
            Weights [h, w]; 0 outside of the token's window.
        """
        rows, columns = self.scope(token)
        logits = self.key[rows, columns].astype(np.float64) @ self.query[token].astype(np.float64)  # [n, n]
        weights = np.exp(logits - logits.max())
        whole = np.zeros(self.key.shape[:2], np.float32)
        whole[rows, columns] = weights / weights.sum()
        return whole[: self.size[0], : self.size[1]]
