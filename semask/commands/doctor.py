"""Find out what is wrong with a data set, before the first step."""

from pathlib import Path
from typing import TYPE_CHECKING

from semask.commands.console import ConsoleReporter, make_console
from semask.data.catalog import FormatName
from semask.files.text import shown

if TYPE_CHECKING:
    from semask.doctor.examination import Outcome


def doctor(
    folder: str,
    *,
    out: str | None = None,
    fix: str | None = None,
    format: FormatName | None = None,
    train_split: str | None = None,
    val_split: str | None = None,
    image_dir: str | None = None,
    label_dir: str | None = None,
    object_255: bool | None = None,
    workers: int | None = None,
) -> int:
    """Look at every file of a data set, and say what is wrong, what it does to training, and what to do.

    Writes OUT/report.html, a page with pictures that needs nothing else, and OUT/findings.json with all files of each
    finding. Stopped, it goes on where it was. Exit code: 0 if nothing is wrong, 1 with warnings, 2 if the data set
    cannot be trained on.

    Args:
        folder: Folder of the data set, also one that training refuses.
        out: Folder of the report; null for doctor-NAME here. Not inside of the data set.
        fix: Write a cleaned copy of the data set to this folder, which must not exist; the original stays as it is.
        format: Layout of the folder; null to recognize it.
        train_split: Split to train on; null for the format's own.
        val_split: Split to evaluate on; null for the format's own.
        image_dir: Folder of the images below the folder; null for the format's own.
        label_dir: Folder of the masks below the folder; null for the format's own.
        object_255: For two classes, whether the value 255 of a mask is class 1 (true) or ignored (false).
        workers: Processes that look at files; null for one a core, 0 for none of their own.

    Raises:
        ValueError: If there is no such folder, an option is wrong, or the report or the copy can't be written.
    """
    from semask.doctor import examination

    given = {
        "root": folder,
        "format": format,
        "train_split": train_split,
        "val_split": val_split,
        "image_dir": image_dir,
        "label_dir": label_dir,
        "object_255": object_255,
    }
    outcome = examination.doctor(
        {name: value for name, value in given.items() if value is not None},
        out=Path(out).expanduser() if out is not None else None,
        fix=Path(fix).expanduser() if fix is not None else None,
        workers=workers,
        reporter=ConsoleReporter(),
    )
    print_outcome(outcome)
    return outcome.code


def print_outcome(outcome: "Outcome") -> None:
    """Print the findings as a table, and where the rest is."""
    from rich.table import Table

    console = make_console(stderr=False)
    pairs = ", ".join(f"{count:,} of {shown(name)}" for name, count in outcome.pairs.items()) or "none"
    console.print(f"Labeled images: {pairs} ({shown(outcome.layout)})", soft_wrap=True)
    styles = {"error": "red", "warning": "yellow", "note": "dim"}
    if outcome.findings:
        table = Table("", "finding", "places", "first place", "what to do")
        for finding in outcome.findings:
            first = finding.examples[0] if finding.examples else None
            where = ": ".join(x for x in (" and ".join(first.files), first.detail) if x) if first else ""
            table.add_row(
                f"[{styles[finding.severity]}]{finding.severity}[/]",
                f"{finding.kind.title} ({finding.name})",
                f"{finding.count:,}",
                shown(where, longest=200),
                finding.kind.advice,
            )
        console.print(table)
    console.print(f"{outcome.verdict} The page: {shown(outcome.page)}", soft_wrap=True)
    for line in outcome.fixed:
        console.print(shown(line), soft_wrap=True)
