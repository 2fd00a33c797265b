"""Pictures of the images in which two models differ: image, label and both predictions side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semask.evaluation.pictures import write_pictures
from semask.evaluation.reopening import reopened_data, reopened_model
from semask.evaluation.sides import Side
from semask.files.text import one_line, reason


@dataclass(frozen=True)
class Drawn:
    """Pictures that were drawn.

    Attributes:
        files: The files, in the order of the images.
        reason: Why there are none; None if there are.
    """

    files: tuple[Path, ...]
    reason: str | None = None


def draw(base: Side, other: Side, names: Sequence[str], folder: Path, device: str | None) -> Drawn:
    """Predict images again with the first seed of two sides, and draw them next to image and label, with their errors.

    What the reports name is used only if it is a local checkpoint that still has the same SHA-256, and data that is
    still there: a report may be anybody's, so nothing is downloaded, and no file that holds code is opened.

    Args:
        base: The first side.
        other: The side that is compared with it.
        names: Names of the images.
        folder: Where to write NUMBER_NAME.jpg.
        device: Where to run.

    Raises:
        ValueError: If a picture can't be written.
    """
    try:
        predictors = [reopened_model(side.seeds[0].report, side.name, device) for side in (base, other)]
        dataset, places = reopened_data(base.seeds[0].report, predictors[0], base.seeds[0].classes)
    except ValueError as error:
        return Drawn((), reason(error))
    missing = [name for name in names if name not in places]
    if missing:
        return Drawn((), f"the data that the report names has no image {one_line(missing[0], longest=100)} any more")
    files = write_pictures(folder, predictors, dataset, list(places), [places[name] for name in names])
    return Drawn(tuple(files))
