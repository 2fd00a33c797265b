"""Objects of rare classes, pasted from another training image.

Simple copy-paste (Ghiasi et al. 2021, arXiv 2012.07177) with classes in place of instances: an object is a connected
part of the pixels of a class. It keeps its size and the height at which it stood, so that a sign does not lie on the
road. Its column is random, and it may be mirrored. Edges are not blended.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torchvision import tv_tensors

from semask.data.rare import RareClasses

if TYPE_CHECKING:
    from semask.data.loader import Samples

MOST = 8
"""Objects that are pasted at once."""


def paste_objects(
    image: tv_tensors.Image, label: tv_tensors.Mask, dataset: "Samples", rare: RareClasses
) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Draw a class and an image that shows it, and paste some of its objects.

    Random numbers come from torch's generator of the CPU.

    Args:
        image: Image [C, H, W].
        label: Class indices [H, W]; 255 is ignored.
        dataset: Where the other image is read.
        rare: How often each class is drawn.

    Returns:
        A changed copy of both.

    Raises:
        ValueError: If the other sample cannot be read.
    """
    class_number, image_number, flip = torch.rand(3, dtype=torch.float64).tolist()
    drawn = rare.draw_class(class_number)
    if drawn is None:
        return image, label
    other_image, other_label = dataset[rare.draw_image(drawn, image_number)]
    if flip < 0.5:
        other_image, other_label = other_image.flip(-1), other_label.flip(-1)
    pixels, target = image.clone().as_subclass(torch.Tensor), label.clone().as_subclass(torch.Tensor)
    for part in _some(objects(other_label == drawn)):
        _paste(part, other_image, drawn, pixels, target)
    return tv_tensors.Image(pixels), tv_tensors.Mask(target)


def objects(mask: torch.Tensor) -> list[torch.Tensor]:
    """Find the connected parts of a mask [H, W]: rows and columns [pixels, 2] of each; corners connect."""
    from scipy import ndimage

    parts, count = ndimage.label(mask.numpy(), structure=np.ones((3, 3)))
    places = np.argwhere(parts)  # [pixels, 2]
    numbers = parts[tuple(places.T)]
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers, minlength=count + 1)[1:])
    return [torch.from_numpy(x) for x in np.split(places[order], ends[:-1])] if count else []


def _some(parts: list[torch.Tensor]) -> list[torch.Tensor]:
    """Draw how many of the objects are taken, 1 to `MOST`, and which."""
    if not parts:
        return []
    count = 1 + int(torch.randint(min(MOST, len(parts)), ()))
    return [parts[i] for i in torch.randperm(len(parts))[:count].tolist()]


def _paste(part: torch.Tensor, source: torch.Tensor, drawn: int, pixels: torch.Tensor, target: torch.Tensor) -> None:
    """Paste the pixels [P, 2] of an object at another column, and at the same place between top and bottom."""
    (height, width), rows = target.shape, part[:, 0]
    top, bottom, left, right = (int(x) for x in (rows.min(), rows.max(), part[:, 1].min(), part[:, 1].max()))
    spare = source.shape[-2] - (bottom - top + 1)  # rows above and below the object
    new_top = round(top / spare * max(0, height - (bottom - top + 1))) if spare else 0
    new_left = int(torch.randint(max(1, width - (right - left)), ()))
    place = part + torch.tensor([new_top - top, new_left - left])
    inside = (place < torch.tensor([height, width])).all(1)  # of an object that is larger than the image
    part, place = part[inside], place[inside]
    pixels[:, place[:, 0], place[:, 1]] = source[:, part[:, 0], part[:, 1]].as_subclass(torch.Tensor)
    target[place[:, 0], place[:, 1]] = drawn
