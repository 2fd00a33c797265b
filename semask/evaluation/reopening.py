"""The checkpoint and the data that the report of an evaluation names, opened again to make pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semask.checkpoints.sources import find_checkpoint
from semask.data.dataset import SegmentationDataset
from semask.data.source import Data
from semask.engines.catalog import is_exported
from semask.evaluation.evaluate import names_of
from semask.files.reading import require_file, sha256
from semask.files.schema import from_plain
from semask.files.text import one_line
from semask.prediction.opening import open_model
from semask.prediction.predictor import Predictor
from semask.settings.inference import Inference


def reopened_model(report: Mapping[str, Any], side: str, device: str | None) -> Predictor:
    """Open the checkpoint that a report names, with the settings that it was evaluated with.

    Args:
        report: Report of an evaluation; it may be anybody's.
        side: What messages call the evaluation.
        device: Where to run.

    Raises:
        ValueError: If it is not there, or another one by now.
    """
    said = one_line(side, longest=100)
    weights = _part(report, "weights", said)
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
    settings = from_plain(Inference, _part(report, "settings", said), "settings")
    return Predictor(model, Inference(**settings))


def reopened_data(
    report: Mapping[str, Any], predictor: Predictor, classes: tuple[str, ...]
) -> tuple[SegmentationDataset, dict[str, int]]:
    """Open the data that a report names.

    Args:
        report: Report of an evaluation; it may be anybody's.
        predictor: The model, whose kind of images is read.
        classes: Names of the classes that were evaluated.

    Returns:
        The data, and the place of each image in it by name.

    Raises:
        ValueError: If it is not there any more.
    """
    said = dict(_part(report, "data", "the first side"))
    for name in ("name", "images"):
        said.pop(name, None)
    source = Data(**from_plain(Data, said, "data"))
    if source.remote:  # nothing is fetched that a report names
        raise ValueError("no pictures: the report names data at a URL")
    dataset = source.dataset("val")
    dataset.reading = dataset.reading.for_model(predictor.model.config)
    if dataset.classes.names != classes:
        raise ValueError("no pictures: the data that the report names has other classes by now")
    return dataset, {name: index for index, name in enumerate(names_of(dataset, source.folder))}


def _part(report: Mapping[str, Any], name: str, side: str) -> Mapping[str, Any]:
    found = report.get(name)
    if not isinstance(found, dict):
        raise ValueError(f"no pictures: the report of {side} has no {name}")
    return found
