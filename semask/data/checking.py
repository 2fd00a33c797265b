"""What reading all files of a data set has shown, and which of them have a problem."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semask.data.images import Reach
from semask.files.text import one_line

OBJECT_255 = (
    "{name}: the masks hold only 0 and 255, and there are two classes: say whether 255 is class 1 "
    "(data.object_255 true; evaluate: --object_255 true) or ignored, so that class 1 never occurs (false)"
)


class Checked(NamedTuple):
    """What reading the files of a data set once has shown.

    Args:
        pixels: Number of pixels of every class over all masks, [K].
        masks: Masks that were read; 0 for level "none".
        empty: Masks in which every pixel is ignored.
        reaches: Images of more than 8 bits that were read, and how much of their range they use.
        adjusted: Pixels whose number or color was within `data.tolerance` only.
        pixels_of_each: Number of pixels of every class in each mask, [N, K]; None for level "none".
    """

    pixels: NDArray[np.int64]
    masks: int = 0
    empty: int = 0
    reaches: Mapping[Path, Reach] = {}
    adjusted: int = 0
    pixels_of_each: NDArray[np.uint32] | None = None


class CheckedPair(NamedTuple):
    """What one pair of files holds.

    Args:
        pixels: Number of pixels of every class, [K].
        white: What `only_0_and_255` says of the mask; None where it does not matter.
        reach: Range of the image, if it has more than 8 bits and was read.
        adjusted: Pixels whose number or color was within the tolerance only.
    """

    pixels: NDArray[np.int64]
    white: bool | None
    reach: Reach | None
    adjusted: int = 0


def summarize(
    pairs: Sequence[tuple[Path, object]],
    results: Iterable[CheckedPair | str],
    *,
    name: str,
    num_classes: int,
    undecided: bool,
    allow_empty_masks: bool,
) -> Checked:
    """Add up what the pairs hold.

    Args:
        pairs: Path of the image, and path or source of the mask, of each pair.
        results: What each pair holds, or what is wrong with it, in the same order.
        name: Name of the data set, for messages.
        num_classes: Number of classes K.
        undecided: Whether 255 could be meant as class 1.
        allow_empty_masks: Accept masks in which every pixel is ignored.

    Raises:
        ValueError: The first problem, and how many further pairs have one; or that the masks hold only 0 and 255 and it
            is undecided what 255 means.
    """
    total, adjusted = np.zeros(num_classes, dtype=np.int64), 0
    of_each = np.zeros((len(pairs), num_classes), dtype=np.uint32)  # 70 MiB for COCO-Stuff's 118,000 masks
    problems: list[str] = []
    empty: list[object] = []
    reaches: dict[Path, Reach] = {}
    white: set[bool | None] = set()
    for index, ((image, mask), result) in enumerate(zip(pairs, results, strict=True)):
        if isinstance(result, str):
            problems.append(result)
            continue
        total += result.pixels
        adjusted += result.adjusted
        of_each[index] = result.pixels
        white.add(result.white)
        if result.reach is not None:
            reaches[image] = result.reach
        if not result.pixels.any():
            empty.append(mask)
            if not allow_empty_masks:
                problems.append(
                    f"{one_line(mask)}: every pixel is ignored: remove the pair, or allow it with allow_empty_masks"
                )
    others = len(problems) - (0 if allow_empty_masks else len(empty))
    # Before empty masks are told of: one of 255 alone is not empty, if 255 is a class.
    if undecided and not others and True in white and None not in white:
        raise ValueError(OBJECT_255.format(name=one_line(name)))
    if problems:
        more = f" (and {len(problems) - 1} more of {len(pairs)} pairs have a problem)" if len(problems) > 1 else ""
        raise ValueError(problems[0] + more)
    return Checked(total, len(pairs), len(empty), reaches, adjusted, of_each)
