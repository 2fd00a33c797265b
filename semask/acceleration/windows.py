"""Windows of a map without copies that nothing asks for, in eager mode; the plain forms are the same at every size."""

from torch import Tensor

from semask.acceleration.guards import recorded
from semask.semantic import windows


def pad_to_windows(x: Tensor, window: int) -> Tensor:
    """Pad a map [B, h, w, C] with zeros at the right and the bottom to multiples of `window`, if it is none already."""
    whole = not recorded() and x.shape[1] % window == 0 and x.shape[2] % window == 0
    return x if whole else windows.pad_to_windows(x, window)


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """The first rows and columns of a map [B, h, w, C]: -> [B, height, width, C]."""
    return windows.crop(x, height, width) if recorded() else x[:, :height, :width]


def roll(x: Tensor, tokens: int) -> Tensor:
    """Roll rows and columns of a map [B, h, w, C], towards the lower right; its gradient is one roll, too."""
    return windows.roll(x, tokens) if recorded() else x.roll((tokens, tokens), dims=(1, 2))
