"""One visit: examine a folder, write the report, and if wanted a cleaned copy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from semask.doctor.examine import examine
from semask.doctor.findings import Finding, exit_code
from semask.doctor.page import write_page
from semask.doctor.report import FINDINGS_FILE, write_findings
from semask.files.atomic import temporary_folder
from semask.files.reporter import Reporter
from semask.files.text import one_line

PAGE = "report.html"
VERDICTS = {
    0: "Nothing is wrong: the data set can be trained on.",
    1: "The data set can be trained on, but see the warnings.",
    2: "The data set cannot be trained on as it is.",
}


class Outcome(NamedTuple):
    """What a visit gave.

    Args:
        findings: What was found, the most serious first.
        code: Exit code.
        pairs: Labeled images of each split.
        layout: Format of the folder and what shows it.
        page: The page.
        fixed: Lines about the cleaned copy.
    """

    findings: Sequence[Finding]
    code: int
    pairs: dict[str, int]
    layout: str
    page: Path
    fixed: Sequence[str] = ()

    @property
    def verdict(self) -> str:
        """A sentence for the exit code."""
        return VERDICTS[self.code]


def doctor(
    data: dict[str, Any],
    *,
    out: Path | None = None,
    fix: Path | None = None,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> Outcome:
    """Examine a folder, write the report, and if wanted a cleaned copy.

    Args:
        data: Settings of `Data`, of which `root` is needed; without `format` it is recognized.
        out: Folder of the report; None for doctor-NAME in the current folder.
        fix: Folder of the copy, which must not exist; None for none.
        workers: Processes that look at files; None for one a core, 0 for none of their own.
        reporter: Shows how far it is.

    Raises:
        ValueError: If there is no such folder, a setting is wrong, or something can't be written.
    """
    root, reporter = Path(data["root"]).expanduser(), reporter or Reporter()
    if not root.is_dir():
        raise ValueError(f"{one_line(root)}: no such folder: give the folder of the data set")
    out = out if out is not None else Path(f"doctor-{root.resolve().name or 'data'}")
    require_apart(out, root, "--out")
    if fix is not None:
        require_apart(fix, root, "--fix")
        if fix.exists():
            raise ValueError(f"{one_line(fix)}: already exists: give --fix a folder that does not")
    out.mkdir(parents=True, exist_ok=True)
    with temporary_folder(out / "places") as places:
        examined = examine(data, places, out=out, workers=workers, reporter=reporter)
        write_findings(out / FINDINGS_FILE, examined)
        write_page(out / PAGE, examined)
        fixed: list[str] = []
        if fix is not None:
            from semask.doctor.fix import write_copy

            fixed = write_copy(examined, fix, reporter=reporter)
    findings = examined.found.findings
    tally, layout = examined.judge.tally, examined.layout
    pairs = {name or "no split": split.pairs for name, split in tally.splits.items()}
    said = f"format {layout.format}: {layout.reason}" if layout.format else "layout not recognized"
    return Outcome(findings, exit_code(findings), pairs, said, out / PAGE, fixed)


def require_apart(path: Path, root: Path, option: str) -> None:
    """Refuse to write into the data set, or around it.

    Raises:
        ValueError: If the path is the folder of the data set, inside of it, or holds it.
    """
    ours, theirs = path.resolve(), root.resolve()
    if ours == theirs or ours.is_relative_to(theirs) or (option == "--fix" and theirs.is_relative_to(ours)):
        raise ValueError(f"{one_line(path)}: is the data set or inside of it: give {option} another folder")
