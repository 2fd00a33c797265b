"""The report of an examination: findings.json with all places, and the page."""

import json
from pathlib import Path
from typing import Any

from semask.doctor.examine import Examined
from semask.doctor.findings import Finding, exit_code, printable
from semask.files.atomic import written_whole

FINDINGS_FILE = "findings.json"


def write_findings(path: Path, examined: Examined) -> None:
    """Write all findings with all their places, one place a line; not more than one place is in memory.

    Raises:
        ValueError: If the file can't be written.
    """
    findings = examined.found.findings
    head = {
        "folder": printable(examined.root),
        "format": examined.layout.format,
        "reason": examined.layout.reason,
        "pairs": {name or "all": split.pairs for name, split in examined.judge.tally.splits.items()},
        "exit_code": exit_code(findings),
    }
    with written_whole(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(json.dumps(head, indent=1)[:-2] + ',\n "findings": [')
        for number, finding in enumerate(findings):
            file.write((",\n  " if number else "\n  ") + json.dumps(_row(finding))[:-1] + ', "places": [')
            for place, line in enumerate(examined.found.places(finding.name)):
                file.write((",\n   " if place else "\n   ") + line.rstrip("\n"))
            file.write("]}")
        file.write("\n ]\n}\n")


def _row(finding: Finding) -> dict[str, Any]:
    kind = finding.kind
    return {
        "name": finding.name,
        "severity": finding.severity,
        "title": kind.title,
        "count": finding.count,
        "effect": kind.effect,
        "advice": kind.advice,
        "fixed": kind.fixed,
    }
