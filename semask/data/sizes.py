"""The size at which a model sees an image. Without torch."""


def fitted_size(size: tuple[int, int], scale: tuple[int, int] | None, *, ratio: float = 1.0) -> tuple[int, int]:
    """Compute (height, width) of an image fitted into ratio x scale (long and short side), or multiplied by the ratio.

    >>> fitted_size((480, 640), (2048, 512))
    (512, 683)
    """
    height, width = size
    factor = ratio
    if scale is not None:
        long, short = (int(side * ratio) for side in scale)
        factor = min(long / max(height, width), short / min(height, width))
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))
