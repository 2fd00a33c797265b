"""The fast part of the doctor, for the start of a training: headers of all files, pixels of a few."""

import time
from collections.abc import Mapping

from semask.data.dataset import SegmentationDataset
from semask.data.format import Split
from semask.data.source import Data
from semask.data.survey import evenly
from semask.doctor.class_lists import note_alike
from semask.doctor.facts import facts_of
from semask.doctor.findings import Collector, Finding
from semask.doctor.judge import Judge
from semask.doctor.meaning import Meaning
from semask.doctor.pairing import note_clashes
from semask.doctor.samples import Sample, samples_of
from semask.doctor.scan import scan
from semask.doctor.whole_set import judge_set

SCANNED = 20_000
"""Files of the folder that are looked at."""
HEADERS = 400
"""Pairs of a split whose headers are read."""
DECODED = 24
"""Pairs of a split that are decoded."""
LARGEST = 2**23
"""Pixels of the images that are decoded."""
SECONDS = 0.5
"""Time for the pairs of a split, after which no further one is looked at."""
SAID_BY_CHECK = frozenset(
    ("dark", "zero-unused", "ignored-class", "shared-image", "class-never", "class-only-train", "class-only-val")
)
"""Findings that `semask.data.diagnostics` tells of all files."""


def quick_findings(data: Data, datasets: Mapping[Split, SegmentationDataset] | None = None) -> list[Finding]:
    """Look at a part of the files that a run is to be trained and evaluated on, in about a second.

    Args:
        data: Where they are.
        datasets: The splits; None finds them.

    Returns:
        What was found, the most serious first. Nothing is said that only all files can show.

    Raises:
        ValueError: If training could not find the files.
    """
    root = data.folder
    if datasets is None:
        datasets = {"train": data.dataset("train"), "val": data.dataset("val")}
    found = Collector()
    if root.is_dir():
        scan(root, found, most=SCANNED)
    for each in found.findings:
        if each.severity == "error":  # of a pair it is found below, and other files are not read
            found.drop(each.name)
    meaning = Meaning.of_dataset(datasets["train"])
    allowed = data.allow_empty_masks or any(any(dataset.windows) for dataset in datasets.values())
    judge = Judge(root, meaning, found, allow_ignored=allowed)
    if meaning.classes is not None:
        note_alike(meaning.classes.names, found)
    samples: list[Sample] = []
    complete = True
    for split, dataset in datasets.items():
        of_split = samples_of(split, dataset, root, measured=data.measure == "range")
        note_clashes(((each.split, each.name, each.below(root)[0]) for each in of_split), found)
        looked = _look(of_split, judge)
        samples += looked
        complete = complete and len(looked) == len(of_split) == judge.tally.split(split).masks
    judge_set(judge, samples, complete=complete)
    return found.findings


def _look(samples: list[Sample], judge: Judge) -> list[Sample]:
    """Look at some pairs of a split, evenly spread; returns which."""
    until = time.monotonic() + SECONDS
    decoded = set(evenly(range(len(samples)), DECODED))
    looked = []
    for index in [*sorted(decoded), *(i for i in evenly(range(len(samples)), HEADERS) if i not in decoded)]:
        if time.monotonic() > until:
            break
        sample = samples[index]
        facts = facts_of(*sample.files, pixels=False)
        if index in decoded and facts.image.height * facts.image.width <= LARGEST:
            facts = facts_of(*sample.files)
        judge.pair(sample, facts)
        looked.append(sample)
    return looked


def quick_lines(
    data: Data, datasets: Mapping[Split, SegmentationDataset], *, said: frozenset[str] = SAID_BY_CHECK
) -> list[str]:
    """What a training is to be warned of that its own check of the files does not say, one line each.

    Args:
        data: Where the files are.
        datasets: Both splits.
        said: Names of findings that are told already.
    """
    found = quick_findings(data, datasets)
    return [each.line for each in found if each.severity != "note" and each.name not in said]
