"""How a model copes with worse images: the usual 15 corruptions at 5 strengths (Hendrycks & Dietterich 2019).

arXiv 1903.12261 defines the corruptions; arXiv 1907.07484 fits them to images of any size and defines the two means.
A corrupted image is a function of (name of the image, corruption, strength): neither the order of the images nor the
number of processes nor a restart changes it.
"""

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from torch import Tensor

from semask.data.dataset import SegmentationDataset
from semask.data.progress import Track, untracked
from semask.extras import advice
from semask.files.schema import Range, quoted, require
from semask.files.text import one_line, reason

if TYPE_CHECKING:
    from torchvision import tv_tensors

PACKAGE = "imagecorruptions-imaug"
"""The library; the module that it installs is `imagecorruptions`, as that of the package it goes on from."""
KINDS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
CORRUPTIONS = tuple(name for names in KINDS.values() for name in names)
STRENGTHS = (1, 2, 3, 4, 5)
ALL = "all"
SMALLEST = 32
"""Pixels of the shorter side of an image, at least: the library's limit."""
_OWN_RANDOM_NUMBERS = ("impulse_noise", "glass_blur")
"""They take a seed; the others draw from NumPy's global generator."""


@dataclass(frozen=True)
class Robustness:
    """mIoU on corrupted images.

    Attributes:
        corruptions: Names of the corruptions.
        strengths: Their strengths, of 1 to 5.
        clean: mIoU on the images as they are.
        miou: For each corruption the mIoU at each strength.
    """

    corruptions: tuple[str, ...]
    strengths: tuple[int, ...]
    clean: float
    miou: tuple[tuple[float, ...], ...]

    @property
    def means(self) -> tuple[float, ...]:
        """For each corruption the mean over the strengths."""
        return tuple(math.fsum(row) / len(row) for row in self.miou)

    @property
    def mean(self) -> float:
        """Mean over the corruptions: the mean performance under corruption (mPC)."""
        return math.fsum(self.means) / len(self.means)

    def relative(self, miou: float) -> float:
        """What share of the clean mIoU is left; of `mean` the relative performance under corruption (rPC)."""
        return miou / self.clean if self.clean > 0 else math.nan

    def report(self) -> dict[str, Any]:
        """All of it as JSON."""
        rows = zip(self.corruptions, self.miou, self.means, strict=True)
        return {
            "library": f"{PACKAGE} {version(PACKAGE)}",
            "strengths": list(self.strengths),
            "clean_miou": _number(self.clean),
            "results": [
                {
                    "name": name,
                    "kind": kind_of(name),
                    "miou": [_number(miou) for miou in row],
                    "mean_miou": _number(mean),
                    "relative_miou": _number(self.relative(mean)),
                }
                for name, row, mean in rows
            ],
            "mean_miou": _number(self.mean),
            "relative_miou": _number(self.relative(self.mean)),
        }


@dataclass(frozen=True)
class Grid:
    """Which corruptions at which strengths.

    Attributes:
        corruptions: Names of the corruptions.
        strengths: Strengths of 1 to 5.
    """

    corruptions: tuple[str, ...]
    strengths: tuple[int, ...]

    def measure(
        self, clean: float, miou_of: Callable[[str, int], float], *, track: Track = untracked, workers: int = 0
    ) -> Robustness:
        """Measure the mIoU of each corruption at each strength.

        Args:
            clean: mIoU on the images as they are.
            miou_of: Evaluates one corruption at one strength.
            track: Shows how far it is.
            workers: Processes that are going to load images.
        """
        if workers and "glass_blur" in self.corruptions:
            # The library compiles it when it is first used (seconds): here, or each worker would do it each time.
            apply(torch.zeros(3, SMALLEST, SMALLEST, dtype=torch.uint8), "glass_blur", 1, name="")
        cells = [(corruption, strength) for corruption in self.corruptions for strength in self.strengths]
        found = {cell: miou_of(*cell) for cell in track(cells, "corruptions", len(cells))}
        rows = tuple(tuple(found[name, strength] for strength in self.strengths) for name in self.corruptions)
        return Robustness(self.corruptions, self.strengths, clean, rows)


class Corrupted:
    """The samples of a data set with corrupted images; the labels stay as they are.

    Args:
        dataset: Color images, see `require_images`.
        names: Name of each image.
        corruption: Name of the corruption.
        strength: 1 to 5.
    """

    def __init__(self, dataset: SegmentationDataset, names: Sequence[str], corruption: str, strength: int) -> None:
        self.dataset, self.names, self.corruption, self.strength = dataset, names, corruption, strength

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> "tuple[tv_tensors.Image, tv_tensors.Mask]":
        """Read a sample.

        Raises:
            ValueError: A file cannot be read, or the image cannot be corrupted.
        """
        from torchvision import tv_tensors

        image, label = self.dataset[index]
        return tv_tensors.Image(apply(image, self.corruption, self.strength, name=self.names[index])), label


def grid_of(corruptions: str | Sequence[str] | None, strengths: Sequence[int] | None) -> Grid | None:
    """Read which corruptions are asked for, and find the library.

    Args:
        corruptions: "all", names of corruptions, or the kinds noise, blur, weather, digital; None for none.
        strengths: Strengths of 1 to 5; None for all.

    Raises:
        ValueError: If a name or strength is unknown, or the library is not installed.
    """
    require(corruptions, str | tuple[str, ...] | None, "corruptions")
    require(strengths, tuple[Annotated[int, Range(1, 5)], ...] | None, "strengths")
    if corruptions is None:
        if strengths is not None:
            raise ValueError("strengths are those of corruptions, but no corruptions are given: add --corruptions all")
        return None
    asked = [corruptions] if isinstance(corruptions, str) else list(corruptions)
    meaning = {ALL: CORRUPTIONS, **KINDS, **{name: (name,) for name in CORRUPTIONS}}
    for word in asked:
        if word not in meaning:
            raise ValueError(f"corruptions has {quoted(word)}: give {', '.join(meaning)}")
    chosen = [name for word in asked for name in meaning[word]]
    levels = STRENGTHS if strengths is None else tuple(strengths)
    if not chosen or not levels:
        raise ValueError("corruptions or strengths is an empty list: name at least one")
    require_library()
    return Grid(tuple(dict.fromkeys(chosen)), tuple(dict.fromkeys(levels)))


def require_library() -> None:
    """Refuse to go on without the library.

    Raises:
        ValueError: If it is not installed, or can't be loaded.
    """
    try:
        version(PACKAGE)
    except PackageNotFoundError:
        raise ValueError(advice(PACKAGE)) from None
    try:
        import imagecorruptions  # noqa: F401
    except ImportError as error:  # OpenCV needs libraries of the system that a small container lacks
        raise ValueError(f"{PACKAGE} can't be loaded ({reason(error)}): install what is missing") from error


def require_images(dataset: SegmentationDataset) -> None:
    """Look at the first image, so that images that can't be corrupted are known before anything is evaluated.

    Raises:
        ValueError: If it has other channels than red, green and blue, other samples than 0 to 255, or is too small.
    """
    _require_image(dataset.image(0), f"the first image of {dataset.name}")


def apply(image: Tensor, corruption: str, strength: int, *, name: str) -> Tensor:
    """Corrupt an image.

    Args:
        image: Red, green and blue [3, H, W], uint8, at least 32 x 32.
        corruption: One of `CORRUPTIONS`.
        strength: 1 to 5.
        name: Name of the image: with corruption and strength it decides on the random numbers.

    Returns:
        Another image of the same shape, uint8.

    Raises:
        ValueError: If the image has another shape or type.
    """
    import imagecorruptions

    _require_image(image, name)
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())  # [3, H, W] -> [H, W, 3]
    seed = seed_of(name, corruption, strength)
    own = {"seed": seed} if corruption in _OWN_RANDOM_NUMBERS else {}
    with _seeded(seed):
        corrupted = imagecorruptions.corrupt(pixels, corruption_name=corruption, severity=strength, **own)
    return torch.from_numpy(np.ascontiguousarray(corrupted.transpose(2, 0, 1)))  # [H, W, 3] -> [3, H, W]


def seed_of(name: str, corruption: str, strength: int) -> int:
    """Seed of 32 bits for an image, a corruption and a strength."""
    text = f"{corruption} {strength} {name}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "little")


def kind_of(corruption: str) -> str:
    """Noise, blur, weather or digital."""
    return next(kind for kind, names in KINDS.items() if corruption in names)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, of which the library draws, and leave it as it was."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _require_image(image: Tensor, name: str) -> None:
    channels, height, width = image.shape
    if channels != 3:
        problem = f"it has {channels} channels"
    elif image.dtype != torch.uint8:
        problem = f"its samples are {str(image.dtype).removeprefix('torch.')}, not 8 bits"
    elif min(height, width) < SMALLEST:
        problem = f"it has {width} x {height} pixels"
    else:
        return
    raise ValueError(
        f"{one_line(name)}: {problem}, but corruptions are for red, green and blue of 8 bits and at least "
        f"{SMALLEST} x {SMALLEST} pixels: leave corruptions out"
    )


def _number(x: float) -> float | None:
    return None if math.isnan(x) else x
