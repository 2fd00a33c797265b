"""A small data set on the disk, right as it is, and ways to change it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (40, 48)
COLORS = [[200, 30, 30], [30, 200, 30], [30, 30, 200]]


def photo(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Blocks of random colors with noise: [H, W, 3]."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (5, 6, 3)).repeat(-(-size[0] // 5), 0).repeat(-(-size[1] // 6), 1)
    noisy = blocks[: size[0], : size[1]] + rng.integers(-20, 21, (*size, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def label(seed: int, size: tuple[int, int] = SIZE, classes: int = 3) -> np.ndarray:
    """Rectangles of all classes: [H, W]."""
    rng = np.random.default_rng(seed)
    side = 8
    cells = rng.permutation(np.arange(-(-size[0] // side) * -(-size[1] // side)) % classes)
    grid = cells.reshape(-(-size[0] // side), -1).repeat(side, 0).repeat(side, 1)
    return grid[: size[0], : size[1]].astype(np.uint8)


class Made:
    """Images 0..3 to train on and 4, 5 to evaluate on, in the format "folder"."""

    def __init__(self, root: Path, *, classes: int = 3, size: tuple[int, int] = SIZE) -> None:
        self.root = root
        self.photos = [photo(i, size) for i in range(6)]
        self.labels = [label(i, size, classes) for i in range(6)]
        self.options: dict[str, Any] = {}
        for i in range(6):
            self.image(i).parent.mkdir(parents=True, exist_ok=True)
            self.mask(i).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self.photos[i]).save(self.image(i), compress_level=1)
            Image.fromarray(self.labels[i]).save(self.mask(i), compress_level=1)
        self.classes(classes)

    def split(self, i: int) -> str:
        return "train" if i < 4 else "val"

    def image(self, i: int, ending: str = ".png") -> Path:
        return self.root / "images" / self.split(i) / f"p{i}{ending}"

    def mask(self, i: int, ending: str = ".png") -> Path:
        return self.root / "annotations" / self.split(i) / f"p{i}{ending}"

    def classes(self, names: Any = 3, **others: Any) -> None:
        names = [f"class {i}" for i in range(names)] if isinstance(names, int) else names
        self.text(json.dumps({"classes": names, **others}))

    def text(self, content: str | bytes) -> None:
        data = content if isinstance(content, bytes) else content.encode()
        (self.root / "classes.json").write_bytes(data)

    def put_image(self, i: int, picture: Any, ending: str = ".png", **options: Any) -> None:
        self._put(self.image(i), picture, ending, options)

    def put_mask(self, i: int, picture: Any, ending: str = ".png", **options: Any) -> None:
        self._put(self.mask(i), picture, ending, options)

    def all_masks(self, change: Any, ending: str = ".png", **options: Any) -> None:
        for i in range(6):
            self.put_mask(i, change(self.labels[i]), ending, **options)

    def all_images(self, change: Any, ending: str = ".png", **options: Any) -> None:
        for i in range(6):
            self.put_image(i, change(self.photos[i]), ending, **options)

    def copy(self, of: int, to: int, *, mask: bool = True) -> None:
        shutil.copy(self.image(of), self.image(to))
        if mask:
            shutil.copy(self.mask(of), self.mask(to))

    def _put(self, path: Path, picture: Any, ending: str, options: dict[str, Any]) -> None:
        path.unlink(missing_ok=True)
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        image.save(path.with_suffix(ending), **options)

    def palette(self, colors: Any = None, order: Any = None) -> Any:
        """Change for `all_masks`: masks with a palette, numbers in another order."""
        flat = np.array(colors or COLORS, dtype=np.uint8).ravel().tolist()

        def change(values: np.ndarray) -> Image.Image:
            picture = Image.fromarray(values if order is None else np.array(order, dtype=np.uint8)[values])
            picture.putpalette(flat)
            return picture

        return change


def colored(values: np.ndarray) -> np.ndarray:
    """Class indices as colors."""
    return np.array([*COLORS, *([[0, 0, 0]] * 253)], dtype=np.uint8)[values]


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags
