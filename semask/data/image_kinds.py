"""What kind of images a folder has, where they are not photos of 8 bits."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from semask.data.images import Picture
from semask.data.survey import evenly

LOOKED_AT = 8
"""Images whose header is read."""


class ImageKind(NamedTuple):
    """Images that are no photos of 8 bits.

    Args:
        channels: Bands of a file.
        description: For example "5 bands of uint16".
    """

    channels: int
    description: str


def kind_of_images(images: Sequence[Picture]) -> ImageKind | None:
    """Look at a few images; None if photos of 8 bits are among them, or they need the extra `geo` to be looked at.

    Raises:
        ValueError: They differ in their bands or samples.
    """
    paths = [path for path in evenly(images, LOOKED_AT) if isinstance(path, Path)]
    kinds = {_kind(path) for path in paths}
    if None in kinds:
        return None  # of a photo among others, or others among photos, the check of the files says which it is
    found = {kind for kind in kinds if kind is not None}
    if len(found) > 1:
        said = " and ".join(sorted(kind.description for kind in found))
        raise ValueError(f"the images differ: {said}: give data.channels and data.bands, or sort them first")
    return found.pop() if found else None


def _kind(path: Path) -> ImageKind | None:
    if path.suffix.lower() not in (".tif", ".tiff", ".png"):
        return None
    try:
        from semask.data.geo_files import explained, gdal, open_file

        with gdal(), explained(path), open_file(path) as file:
            bands, samples = file.count, file.dtypes[0]
    except (ImportError, ValueError):
        return None  # the check of the files says what is wrong
    if samples == "uint8" and bands in (1, 2, 3, 4):
        return None
    bands = bands - 1 if bands in (2, 4) and path.suffix.lower() == ".png" else bands  # without alpha
    return ImageKind(bands, f"{bands} band{'s' if bands > 1 else ''} of {samples}")
