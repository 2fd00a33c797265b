"""Pictures of the images in which two models differ: image, label and both predictions side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semask.checkpoints.sources import find_checkpoint
from semask.data.dataset import SegmentationDataset
from semask.data.source import Data
from semask.engines.catalog import is_exported
from semask.evaluation.evaluate import names_of
from semask.evaluation.image_counts import ImageCounts
from semask.evaluation.pictures import write_pictures
from semask.evaluation.sides import Side
from semask.files.reading import require_file, sha256
from semask.files.schema import from_plain
from semask.files.text import one_line, reason
from semask.prediction.opening import open_model
from semask.prediction.predictor import Predictor
from semask.settings.inference import Inference


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
        predictors = [_predictor(side.seeds[0], side.name, device) for side in (base, other)]
        dataset, places = _dataset(base.seeds[0], predictors[0])
    except ValueError as error:
        return Drawn((), reason(error))
    missing = [name for name in names if name not in places]
    if missing:
        return Drawn((), f"the data that the report names has no image {one_line(missing[0], longest=100)} any more")
    files = write_pictures(folder, predictors, dataset, list(places), [places[name] for name in names])
    return Drawn(tuple(files))


def _predictor(counts: ImageCounts, side: str, device: str | None) -> Predictor:
    """Open the checkpoint that a report names.

    Raises:
        ValueError: If it is not there, or another one by now.
    """
    said = one_line(side, longest=100)
    weights = _part(counts.report, "weights", said)
    file, digest = weights.get("file"), weights.get("sha256")
    if not isinstance(file, str) or not isinstance(digest, str):
        raise ValueError(f"no pictures: the report of {said} names no file of weights")
    path = Path(file)
    if not path.exists():
        raise ValueError(f"no pictures: {one_line(file, longest=100)}, the checkpoint of {said}, is not there")
    if is_exported(path):
        raise ValueError(f"no pictures: {one_line(file, longest=100)} is an exported file: compare the checkpoints")
    found = require_file(find_checkpoint(path) if path.is_dir() else path)
    if sha256(found) != digest:
        raise ValueError(f"no pictures: {one_line(found, longest=100)}, the checkpoint of {said}, has changed since")
    model, _ = open_model(found, device=device, trust=False, precision="auto")
    settings = from_plain(Inference, _part(counts.report, "settings", said), "settings")
    return Predictor(model, Inference(**settings))


def _dataset(counts: ImageCounts, predictor: Predictor) -> tuple[SegmentationDataset, dict[str, int]]:
    """The data that a report names, and the place of each image in it.

    Raises:
        ValueError: If it is not there any more.
    """
    said = dict(_part(counts.report, "data", "the first side"))
    for name in ("name", "images"):
        said.pop(name, None)
    source = Data(**from_plain(Data, said, "data"))
    dataset = source.dataset("val")
    dataset.reading = dataset.reading.for_model(predictor.model.config)
    if dataset.classes.names != counts.classes:
        raise ValueError("no pictures: the data that the report names has other classes by now")
    return dataset, {name: index for index, name in enumerate(names_of(dataset, Path(source.root).expanduser()))}


def _part(report: Mapping[str, Any], name: str, side: str) -> Mapping[str, Any]:
    found = report.get(name)
    if not isinstance(found, dict):
        raise ValueError(f"no pictures: the report of {side} has no {name}")
    return found
