"""The fast part of the doctor, for the start of a training: headers of all files, pixels of a few."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from semask.data.dataset import SegmentationDataset
from semask.data.source import Data, sample_names
from semask.doctor.class_lists import note_alike
from semask.doctor.facts import facts_of
from semask.doctor.findings import Collector, Finding
from semask.doctor.judge import Judge
from semask.doctor.meaning import Meaning
from semask.doctor.pairing import note_clashes
from semask.doctor.samples import Sample
from semask.doctor.scan import scan
from semask.doctor.whole_set import judge_set

HEADERS = 400
"""Pairs of a split whose headers are read."""
DECODED = 24
"""Pairs of a split that are decoded."""


def quick_findings(data: Data) -> list[Finding]:
    """Look at a part of the files that a run is to be trained and evaluated on, in about a second.

    Args:
        data: Where they are; both splits have to be found.

    Returns:
        What was found, the most serious first. Nothing is said that only all files can show.

    Raises:
        ValueError: If training could not find the files.
    """
    root = Path(data.root).expanduser()
    datasets = {"train": data.dataset("train"), "val": data.dataset("val")}
    found = Collector()
    unusable = frozenset(str(file.name) for file in scan(root, found) if not file.usable)
    meaning = Meaning.of_dataset(datasets["train"])
    judge = Judge(root, meaning, found, unusable=unusable, allow_ignored=data.allow_empty_masks)
    if judge.meaning.classes is not None:
        note_alike(judge.meaning.classes.names, found)
    samples: list[Sample] = []
    for split, dataset in datasets.items():
        of_split = _samples(split, dataset, root)
        note_clashes(((each.split, each.name, each.below(root)[0]) for each in of_split), found)
        decoded = set(_spread(len(of_split), DECODED))
        for index in sorted(decoded | set(_spread(len(of_split), HEADERS))):
            sample = of_split[index]
            samples.append(sample)
            judge.pair(sample, facts_of(sample.image, sample.label, pixels=index in decoded))
    judge_set(judge, samples, complete=all(len(each) <= DECODED for each in datasets.values()))
    return found.findings


def _samples(split: str, dataset: SegmentationDataset, root: Path) -> list[Sample]:
    names = sample_names(dataset, root)
    return [Sample(split, *pair, name) for pair, name in zip(dataset.pairs, names, strict=True)]


def _spread(count: int, most: int) -> Iterator[int]:
    """Up to `most` indices, evenly spread."""
    return (int(index) for index in np.linspace(0, count - 1, min(count, most)))
