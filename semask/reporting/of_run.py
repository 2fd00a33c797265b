"""The page that a training writes at every evaluation."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from semask.data.dataset import SegmentationDataset
from semask.evaluation.evaluate import Evaluation
from semask.files.atomic import write_whole
from semask.prediction.predictor import Predictor
from semask.reporting.page import page
from semask.reporting.pictures import MOST_STEPS, chosen_of, picture_groups
from semask.reporting.reading import named, read_run
from semask.reporting.report import NAME, require_replaceable, samples
from semask.reporting.values import part

PICTURES_AT_END = 6
"""Worst images of the page of a finished run."""
STEPS_BEFORE = 2
"""Steps of which the samples are on the page of a run that goes on: every picture more takes time of the training."""


def write_run_report(
    folder: Path,
    description: Mapping[str, Any],
    result: Evaluation,
    predictor: Predictor,
    dataset: SegmentationDataset,
    *,
    about: Mapping[str, Any],
    pictures: int,
) -> None:
    """Write report.html of a run that goes on, or ends.

    Args:
        folder: Folder of the run, with its logs.
        description: What its checkpoints say.
        result: The last evaluation.
        predictor: The model.
        dataset: Validation images.
        about: Hardware and precision.
        pictures: How many of the worst images to show, and half as many of the best; 0 for the samples alone.

    Raises:
        ValueError: If it can't be written, or a file of this name is not of ours.
    """
    require_replaceable(folder / NAME)
    found = {**part(part(description, "recipe"), "data"), "name": dataset.name, "images": result.images}
    scores = {**part(description, "metrics"), **about, "data": found}
    read = replace(read_run(folder), description=description, scores=scores, counts=result.counts)
    (subject,) = named([read])
    shown = samples(subject, most=MOST_STEPS if pictures else STEPS_BEFORE)
    if pictures and result.counts is not None:
        places = {name: index for index, name in enumerate(result.counts.names)}
        shown += picture_groups(chosen_of(result.counts, pictures), predictor, dataset, places)
    write_whole(folder / NAME, page([subject], shown))
