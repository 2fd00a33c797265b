"""What a model predicts for one image, and how it is shown and saved; without torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.classes import Classes
from semask.data.images import encoded
from semask.files.atomic import write_whole
from semask.files.text import one_line
from semask.prediction.pictures import colorize, index_mask, overlay, to_picture, with_legend


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for one image, at the image's size. A notebook shows its overlay.

    Attributes:
        label: Class index of each pixel, [H, W].
        confidence: Probability of the chosen class, [H, W] in [0, 1]; None if not asked for.
        priors: Class index that the semantic prior of each stage favors, [H, W]; empty unless asked for.
        classes: Names and colors of the class indices.
        image: The image itself, [H, W, C], uint8 or float in [0, 1], for overlays; None if it is not kept.
        probabilities: Probability of each class, [K, H, W]; None unless asked for.
    """

    label: NDArray[np.uint8]
    confidence: NDArray[np.float32] | None
    priors: tuple[NDArray[np.uint8], ...]
    classes: Classes
    image: NDArray[Any] | None = field(default=None, repr=False, compare=False)
    probabilities: NDArray[np.float16] | None = field(default=None, repr=False, compare=False)

    def mask(self) -> Image.Image:
        """Make a palette image whose pixel values are the class indices."""
        return index_mask(self.label, self.classes)

    def overlay(self, *, legend: bool = True, opacity: float = 0.55) -> Image.Image:
        """Lay the colors of the classes over the image; without an image, the colors alone.

        Args:
            legend: Whether to name the classes at the right.
            opacity: From 0 (image only) to 1 (colors only).
        """
        drawn = (
            colorize(self.label, self.classes)
            if self.image is None
            else overlay(to_picture(self.image), self.label, self.classes, opacity=opacity)
        )
        return with_legend(drawn, self.label, self.classes) if legend else drawn

    def save(self, path: str | Path) -> Path:
        """Write the class indices as a palette PNG (.png), or the overlay with its legend as a JPEG (.jpg, .jpeg).

        Returns:
            The path.

        Raises:
            ValueError: If the name has another ending, or the file can't be written.
        """
        path = Path(path)
        kinds = {".png": lambda: encoded(self.mask(), "PNG"), ".jpg": self._jpeg, ".jpeg": self._jpeg}
        if path.suffix.lower() not in kinds:
            raise ValueError(f"{one_line(path)}: give a name that ends in .png (class indices) or .jpg (overlay)")
        write_whole(path, kinds[path.suffix.lower()]())
        return path

    def show(self) -> None:
        """Open the overlay in the system's image viewer."""
        self.overlay().show()

    def _jpeg(self) -> bytes:
        return encoded(self.overlay(), "JPEG")

    def _repr_png_(self) -> bytes:
        """Draw the overlay for a notebook."""
        return encoded(self.overlay(), "PNG")
