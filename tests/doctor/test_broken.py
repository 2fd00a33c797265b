"""Every broken data set is named before the first step, by the doctor and by training; the right ones pass."""

import json
from pathlib import Path

import pytest
from broken import BROKEN
from made import Made
from right import RIGHT

from semask.data import diagnostics
from semask.data.source import Data
from semask.doctor.examination import Outcome, doctor
from semask.doctor.kinds import KINDS
from semask.doctor.quick import quick_findings


def visit(made: Made, **options: object) -> Outcome:
    return doctor({"root": str(made.root), **made.options}, out=made.root.parent / "out", workers=0, **options)


def training_says(made: Made) -> list[str]:
    """What stops a training, or is warned of, before the first step."""
    try:
        data = Data(root=str(made.root), **made.options)
        datasets = {"train": data.dataset("train"), "val": data.dataset("val")}
        quick = quick_findings(data)
        checked = [
            diagnostics.Split.of(name, dataset, dataset.check(allow_empty_masks=data.allow_empty_masks))
            for name, dataset in datasets.items()
        ]
    except ValueError as error:
        return [str(error)]
    lines = [x for name, dataset in datasets.items() if (x := diagnostics.unread_line(name, dataset))]
    return [*lines, *diagnostics.warnings_of(*checked), *(x.line for x in quick if x.severity != "note")]


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named(name: str, tmp_path: Path) -> None:
    finding, file, program = BROKEN[name]
    made = Made(tmp_path / "set")
    program(made)
    outcome = visit(made)
    named = {found.name: found for found in outcome.findings}
    if finding:
        assert finding in named
        said = " ".join(f"{' '.join(x.files)} {x.detail}" for x in named[finding].examples)
        assert file in said
        assert outcome.code == {"error": 2, "warning": 1}[named[finding].severity] or outcome.code == 2
    assert outcome.code
    assert outcome.page.stat().st_size
    lines = training_says(made)
    assert lines
    assert all("\n" not in line for line in lines)
    if outcome.code == 2:
        assert len(lines) == 1


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name: str, tmp_path: Path) -> None:
    made = Made(tmp_path / "set")
    RIGHT[name](made)
    outcome = visit(made)
    assert [x.line for x in outcome.findings if x.severity != "note"] == []
    assert outcome.code == 0
    data = Data(root=str(made.root), **made.options)
    for split in ("train", "val"):
        data.dataset(split).check()
    assert [x.line for x in quick_findings(data) if x.severity != "note"] == []


def test_there_are_enough() -> None:
    assert len(BROKEN) >= 120
    assert len(RIGHT) >= 40
    assert {finding for finding, _, _ in BROKEN.values()} - {""} <= KINDS.keys()


def test_the_list_of_places_is_json(tmp_path: Path) -> None:
    made = Made(tmp_path / "set")
    BROKEN["all masks of 0 bytes"][2](made)
    visit(made)
    report = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert report["exit_code"] == 2
    (found,) = [x for x in report["findings"] if x["name"] == "empty-file"]
    assert found["count"] == len(found["places"]) == 6
