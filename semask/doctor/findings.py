"""Findings: how many, some examples in memory, and all files of each in a file on the disk."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from semask.doctor.kinds import KINDS, ORDER, Kind, Severity
from semask.files.atomic import append_whole
from semask.files.text import one_line

EXAMPLES = 12
"""Examples of a finding that are kept in memory, for the page and the table."""
_BUFFERED = 256
"""Lines of a finding that are gathered before they are written."""


@dataclass(frozen=True)
class Example:
    """One place where something was found.

    Args:
        files: Paths below the folder of the data set, with / between names: of the image, the mask, or both.
        detail: What is there, in a few words; may be "".
    """

    files: tuple[str, ...]
    detail: str = ""


@dataclass
class Finding:
    """Something that was found, at one or more places.

    Args:
        name: Name of its kind, e.g. "empty-file".
        severity: "error", "warning" or "note".
        count: Number of places.
        examples: The first places.
    """

    name: str
    severity: Severity
    count: int = 0
    examples: list[Example] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        """What it does to training, and what to do."""
        return KINDS[self.name]

    @property
    def line(self) -> str:
        """One line for a person."""
        first = self.examples[0] if self.examples else Example(())
        where = " and ".join(one_line(name, longest=120) for name in first.files)
        said = ": ".join(part for part in (where, first.detail) if part)
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        what = f"{self.kind.title}: {said}{more}" if said else f"{self.kind.title}{more}"
        return f"{what}; {self.kind.effect}; {self.kind.advice} ({self.name})"


class Collector:
    """Takes findings in, and keeps little of them.

    Args:
        folder: Folder for the files with all places, one a finding; None keeps none but the first places.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._found: dict[str, Finding] = {}
        self._lines: dict[str, list[str]] = {}

    def add(self, name: str, files: Sequence[str] = (), detail: str = "", *, severity: Severity | None = None) -> None:
        """Note a place.

        Args:
            name: Name of the kind of finding.
            files: Paths below the folder of the data set.
            detail: What is there.
            severity: How serious it is here, if not as a rule; of several places the most serious counts.
        """
        severity = severity or KINDS[name].severity
        finding = self._found.setdefault(name, Finding(name, severity))
        if ORDER.index(severity) < ORDER.index(finding.severity):
            finding.severity = severity
        finding.count += 1
        example = Example(tuple(printable(file) for file in files), one_line(detail, longest=500))
        if len(finding.examples) < EXAMPLES:
            finding.examples.append(example)
        if self.folder is not None:
            lines = self._lines.setdefault(name, [])
            lines.append(json.dumps({"files": example.files, "detail": example.detail}) + "\n")
            if len(lines) >= _BUFFERED:
                self._flush(name)

    def rename(self, old: str, new: str, *, severity: Severity | None = None) -> None:
        """Give what was found another name, when all files together say more."""
        finding = self._found.pop(old, None)
        if finding is None:
            return
        if self.folder is not None:
            self._flush(old)
            (self.folder / f"{old}.jsonl").replace(self.folder / f"{new}.jsonl")
        self._found[new] = Finding(new, severity or KINDS[new].severity, finding.count, finding.examples)

    def drop(self, name: str) -> None:
        """Forget what was found, when all files together say that it is right."""
        self._found.pop(name, None)
        self._lines.pop(name, None)
        if self.folder is not None:
            (self.folder / f"{name}.jsonl").unlink(missing_ok=True)

    def __contains__(self, name: str) -> bool:
        """Whether something of a kind was found."""
        return name in self._found

    def count(self, name: str) -> int:
        """Number of places of a kind."""
        return self._found[name].count if name in self._found else 0

    @property
    def findings(self) -> list[Finding]:
        """All findings, the most serious first."""
        order = list(KINDS)
        return sorted(self._found.values(), key=lambda x: (ORDER.index(x.severity), order.index(x.name)))

    def places(self, name: str) -> Iterator[str]:
        """All places of a finding, as lines of JSON."""
        if self.folder is None or name not in self._found:
            return
        self._flush(name)
        with open(self.folder / f"{name}.jsonl", encoding="utf-8") as file:
            yield from file

    def _flush(self, name: str) -> None:
        assert self.folder is not None
        lines = self._lines.pop(name, [])
        if lines:
            append_whole(self.folder / f"{name}.jsonl", "".join(lines))


def printable(name: str | os.PathLike[str]) -> str:
    r"""A path as text that JSON and UTF-8 can hold: bytes that are no UTF-8 as \xNN."""
    return os.fspath(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def exit_code(findings: Sequence[Finding]) -> int:
    """0 without errors and warnings, 1 with warnings, 2 if training is not possible."""
    severities = {finding.severity for finding in findings}
    return 2 if "error" in severities else 1 if "warning" in severities else 0
