"""Folders of runs and files of evaluations -> Subject: what a report is about. The files may be anybody's."""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from semask.evaluation.image_counts import SUFFIX, ImageCounts, read_counts
from semask.files.reading import parse_json, read_text
from semask.files.text import one_line, reason
from semask.reporting.values import number, part

MOST_LOG = 2**26
"""Bytes of a log."""
MOST_LINES = 200_000
MOST_COLUMNS = 80
MOST_FIELD = 64
"""Characters of a field of a log."""
DESCRIPTIONS = ("last.json", "best.json")
LOG, EVALUATIONS = "log.csv", "evaluation.csv"


@dataclass(frozen=True)
class Log:
    """The lines of a CSV file of a run.

    Attributes:
        columns: Name of each column -> its value in each line; None where there is no number.
        steps: Step of each line, in growing order.
    """

    steps: tuple[int, ...] = ()
    columns: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    def points(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of a column where it has numbers."""
        pairs = [(s, x) for s, x in zip(self.steps, self.columns.get(name, ()), strict=False) if x is not None]
        return [s for s, _ in pairs], [x for _, x in pairs]


@dataclass(frozen=True)
class Subject:
    """A run or an evaluation.

    Attributes:
        name: What it is called: the path that was given; `named` makes it as short as the others allow.
        log: Losses and learning rate over the steps.
        evaluations: Scores over the steps.
        scores: Scores as `semask evaluate` writes them; those of a checkpoint have no more than the means and classes.
        description: What a checkpoint says of itself: recipe, classes, step, versions.
        counts: What was counted in each image.
        folder: Folder of the run.
        source: What was given.
        notes: What could not be read, and why.
    """

    name: str
    log: Log = field(default_factory=Log)
    evaluations: Log = field(default_factory=Log)
    scores: Mapping[str, Any] = field(default_factory=dict, repr=False)
    description: Mapping[str, Any] = field(default_factory=dict, repr=False)
    counts: ImageCounts | None = field(default=None, repr=False)
    folder: Path | None = None
    source: str = ""
    notes: tuple[str, ...] = ()


def read_subject(source: str | Path) -> Subject:
    """Read the folder of a run, the JSON of `semask evaluate --out`, or the .npz of `--images`.

    Raises:
        ValueError: If it is none of these. A file of a run that is damaged is a note, and the rest is read.
    """
    path = Path(source).expanduser()
    if os.path.isdir(path):  # False too for a name that no file can have
        return read_run(path)
    if path.suffix == SUFFIX:
        counts = read_counts(path)
        return Subject(str(source), scores=counts.report, counts=counts, source=str(source))
    report = _read_json(path, otherwise="give the folder of a run, or the .json or .npz of semask evaluate")
    if not {"miou", "classes"} <= report.keys():
        raise ValueError(
            f"{one_line(path)}: no report of an evaluation: write one with semask evaluate --out FILE.json"
        )
    return Subject(str(source), scores=report, source=str(source))


def read_run(folder: Path) -> Subject:
    """Read the folder of a run.

    Raises:
        ValueError: If it has no file of a run that can be read.
    """
    notes: list[str] = []
    logs = dict.fromkeys((LOG, EVALUATIONS), Log())
    for name in logs:
        try:
            if os.path.lexists(folder / name):
                logs[name] = read_log(folder / name)
        except ValueError as error:
            notes.append(reason(error))
    description: Mapping[str, Any] = {}
    for name in DESCRIPTIONS:
        if description or not os.path.lexists(folder / name):
            continue
        try:
            description = _read_json(folder / name)
        except ValueError as error:
            notes.append(reason(error))
    if not description and not any(log.steps for log in logs.values()):
        why = f" ({notes[0]})" if notes else ""
        raise ValueError(f"{one_line(folder)}: no run{why}: give a folder with log.csv or last.json")
    return Subject(
        str(folder),
        logs[LOG],
        logs[EVALUATIONS],
        part(description, "metrics"),
        description,
        folder=folder,
        source=str(folder),
        notes=tuple(notes),
    )


def read_log(path: Path) -> Log:
    """Read a CSV file of a run; lines and fields that hold no numbers are left out.

    Raises:
        ValueError: If it can't be read, or is too large.
    """
    try:
        lines = list(csv.reader(read_text(path, most=MOST_LOG).replace("\0", "").splitlines()[: MOST_LINES + 1]))
    except csv.Error as error:
        raise ValueError(f"{one_line(path)}: no CSV file ({reason(error)})") from error
    if not lines or "step" not in lines[0]:
        return Log()
    header = [one_line(name, longest=40) for name in lines[0][:MOST_COLUMNS]]
    place = header.index("step")
    rows: dict[int, list[float | None]] = {}
    for line in lines[1:]:
        values = [_field(text) for text in line[:MOST_COLUMNS]]
        step = values[place] if len(values) == len(header) else None
        if step is not None and step >= 0 and step == int(step):
            rows[int(step)] = values
    steps = sorted(rows)
    columns = {name: tuple(rows[step][i] for step in steps) for i, name in enumerate(header) if i != place}
    return Log(tuple(steps), columns)


def _field(text: str) -> float | None:
    if len(text) > MOST_FIELD:
        return None
    try:
        return number(float(text))
    except ValueError:
        return None


def _read_json(path: Path, *, otherwise: str = "give the path of a file") -> dict[str, Any]:
    text = read_text(path, otherwise=otherwise)
    try:
        value = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{one_line(path)}: no JSON ({reason(error)})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{one_line(path)}: no JSON object: {otherwise}")
    return value


def joined(subjects: Sequence[Subject]) -> list[Subject]:
    """Put an evaluation of a run's own checkpoint to its run, if both were given; and counts to their report.

    What is compared are the names that the report states: no file is opened for it.
    """
    runs = [x for x in subjects if x.folder is not None]
    found = {id(x): x for x in runs}
    rest = []
    for subject in subjects:
        if subject.folder is not None:
            continue
        file = part(subject.scores, "weights").get("file")
        own = [x for x in runs if isinstance(file, str) and x.folder is not None and _inside(file, x.folder)]
        if len(own) == 1 and found[id(own[0])] is own[0]:
            found[id(own[0])] = replace(own[0], scores=subject.scores, counts=subject.counts)
        else:
            rest.append(subject)
    order = {id(x): found.get(id(x), x) for x in subjects if id(x) in found or any(x is one for one in rest)}
    return list(order.values())


def _inside(file: str, folder: Path) -> bool:
    """Whether a name is that of a file of a folder, or of the folder itself."""
    if "\0" in file:
        return False
    named, of_run = os.path.abspath(file), os.path.abspath(folder)
    return named == of_run or os.path.dirname(named) == of_run


def named(subjects: Sequence[Subject]) -> list[Subject]:
    """Call each subject by the last parts of its path: as many as tell all of them apart."""
    paths = [Path(x.source).parts for x in subjects]
    most = max(map(len, paths))
    for length in range(1, most + 1):
        names = [os.path.join(*parts[-length:]) if parts else "." for parts in paths]
        if len(set(names)) == len(names):
            break
    else:
        names = [f"{number}: {name}" for number, name in enumerate(names, start=1)]
    return [replace(x, name=name) for x, name in zip(subjects, names, strict=True)]
