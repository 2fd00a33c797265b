"""What a training does for rare classes: it needs the pixels of each class, which are counted before the first step."""

from collections.abc import Sequence

import numpy as np
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray

from semask.data.rare import Balance, RareClasses
from semask.data.source import Data
from semask.data.transforms import Augmentation
from semask.files.reporter import Reporter
from semask.files.text import one_line
from semask.losses.mask import MaskLoss
from semask.losses.pixel import PixelLoss

LISTED = 30
"""Classes whose weights are said in a line."""


def needing_counts(loss: PixelLoss | MaskLoss, augmentation: Augmentation) -> list[str]:
    """Name the settings that ask for something that depends on the pixels of each class."""
    names = [x for x in ("rare_images", "rare_crop", "copy_paste") if getattr(augmentation, x)]
    named = [f"augmentation.{x} is {getattr(augmentation, x):g}" for x in names]
    if isinstance(loss, PixelLoss) and isinstance(loss.class_weights, str):
        named.append(f"loss.class_weights is {loss.class_weights}")
    return named


def require_counts(data: Data, loss: PixelLoss | MaskLoss, augmentation: Augmentation) -> None:
    """Refuse what needs the pixels of each class if the masks are not to be read before the first step.

    Raises:
        ValueError: If so.
    """
    named = needing_counts(loss, augmentation)
    if named and data.check == "none":
        raise ValueError(
            f"{named[0]}, which needs the pixels of each class: set data.check, which is none, to labels or full"
        )


def use_counts(
    pixels: NDArray[np.uint32] | None,
    loss: PixelLoss | MaskLoss,
    augmentation: Augmentation,
    names: Sequence[str],
    reporter: Reporter,
) -> tuple[PixelLoss | MaskLoss, Balance | None]:
    """Compute what depends on the pixels of each class, on all processes alike.

    Args:
        pixels: Pixels of each class in each training mask, [N, K]; the first process has them.
        loss: What is minimized.
        augmentation: How training images are varied.
        names: Names of the classes.
        reporter: Is told the class weights.

    Returns:
        The loss with numbers for class weights, and what the loader does for rare classes.

    Raises:
        ValueError: If no pixel is labeled.
    """
    if not needing_counts(loss, augmentation):
        return loss, None
    pixels = broadcast_object_list([pixels])[0]
    assert pixels is not None  # `require_counts` saw that they are counted
    if isinstance(loss, PixelLoss) and isinstance(loss.class_weights, str):
        weighting, computed = loss.class_weights, loss.for_counts(pixels)
        values = zip(names, computed.class_weights or (), strict=True)
        weights = [f"{one_line(name)} {x:.2f}" for name, x in values]
        loss = computed
        more = f" and {len(weights) - LISTED} more" if len(weights) > LISTED else ""
        reporter.note(f"class weights ({weighting}): {', '.join(weights[:LISTED])}{more}")
    if not augmentation.needs_rare:
        return loss, None
    rare = RareClasses.of(pixels, temperature=augmentation.rare_temperature)
    return loss, Balance(rare, images=augmentation.rare_images, copy_paste=augmentation.copy_paste)
