"""`report`: what lies on the disk of runs and evaluations -> one HTML file."""

import os
from collections.abc import Sequence
from pathlib import Path

from semask.files.atomic import write_whole
from semask.files.reading import require_file
from semask.files.text import one_line
from semask.reporting.charts import require_matplotlib
from semask.reporting.page import MARK, page
from semask.reporting.pictures import MOST_STEPS, reopened_pictures, samples_over_time
from semask.reporting.reading import Subject, joined, named, read_subject
from semask.reporting.values import escaped

NAME = "report.html"
MOST_SOURCES = 20


def report(
    *sources: str | Path,
    out: str | Path | None = None,
    pictures: int = 0,
    device: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a report of a run or an evaluation, or of several to compare them, as one HTML file.

    Args:
        sources: Folders of runs; JSON files of `semask evaluate --out`; .npz files of `--images`. An evaluation of a
            checkpoint in the folder of a run that is given too belongs to that run.
        out: File to write; None for report.html in the folder of a run, NAME.html next to an evaluation, and for
            several report.html in the current folder.
        pictures: How many of the worst images to show, and half as many of the best. Opens the checkpoint and the data
            that the evaluation names, if they are still there.
        device: Where to run the model for pictures, e.g. cpu or cuda; None for the GPU if there is one.
        overwrite: Replace the file even if it is not a report.

    Returns:
        The file.

    Raises:
        ValueError: If a source can't be read, matplotlib is missing, or the file is something else or can't be written.
    """
    if not 1 <= len(sources) <= MOST_SOURCES:
        raise ValueError(f"{len(sources)} runs and evaluations: give one to {MOST_SOURCES}")
    require_matplotlib()
    path = Path(out).expanduser() if out is not None else default_path(sources)
    require_replaceable(path, overwrite=overwrite)
    subjects = named(joined([read_subject(source) for source in sources]))
    write_whole(path, page(subjects, shown_pictures(subjects, pictures, device)))
    return path


def default_path(sources: Sequence[str | Path]) -> Path:
    """Where a report is written if nothing else is said."""
    first = Path(sources[0]).expanduser()
    if len(sources) > 1:
        return Path(NAME)
    return first / NAME if os.path.isdir(first) else first.with_suffix(".html")


def require_replaceable(path: Path, *, overwrite: bool = False) -> None:
    """Refuse to replace a file that is not a report of ours.

    Raises:
        ValueError: If there is one.
    """
    if overwrite or not os.path.exists(path):
        return
    with open(require_file(path, otherwise="give another --out"), "rb") as file:
        if MARK.encode() not in file.read(1000):
            raise ValueError(f"{one_line(path)}: already exists and is no report; give another --out, or --overwrite")


def samples(subject: Subject, *, most: int = MOST_STEPS) -> str:
    """The sample predictions of a run under their heading, at so many steps at most; nothing without any."""
    found = samples_over_time(subject.folder, most=most) if subject.folder is not None else ""
    return f"<h3>Samples over the steps of training</h3>{found}" if found else ""


def shown_pictures(subjects: Sequence[Subject], count: int, device: str | None) -> str:
    """Samples of runs, and the worst and best images of evaluations."""
    parts = []
    for subject in subjects:
        found = samples(subject)
        if count > 0 and subject.scores.get("weights") is not None:
            found += reopened_pictures(subject, count, device)
        if found and len(subjects) > 1:
            found = f"<h3>{escaped(subject.name)}</h3>{found}"
        parts.append(found)
    shown = "".join(parts)
    evaluated = any(subject.scores.get("weights") is not None for subject in subjects)
    if not shown and evaluated:
        return "<p>Made without pictures: semask report --pictures 6 shows the worst and the best images.</p>"
    return shown
