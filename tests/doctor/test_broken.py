"""Every broken data set is named before the first step, by the doctor and by training; the right ones pass."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from broken import BROKEN
from made import Made
from right import RIGHT

from semask.data import catalog
from semask.data.alpha_masks import alpha_if_found
from semask.data.dataset import SegmentationDataset
from semask.data.format import Split
from semask.data.guess import guess_classes
from semask.data.image_kinds import kind_of_images
from semask.data.measuring import measure
from semask.data.source import Data
from semask.data.survey import mask_kinds
from semask.doctor.examination import Outcome, doctor
from semask.doctor.kinds import KINDS
from semask.files.reporter import Reporter
from semask.training.start import check_files


def visit(made: Made, **options: object) -> Outcome:
    settings = {name: value for name, value in made.options.items() if name != "classes"}
    return doctor({"root": str(made.root), **settings}, out=made.root.parent / "out", workers=0, **options)


def data_of(made: Made) -> Data:
    """What `semask train FOLDER` takes a folder for."""
    settings = {"root": str(made.root), **made.options}
    settings.setdefault("format", catalog.recognize(made.root).format)
    data = Data(**settings)
    sets = [data.dataset("train"), data.dataset("val")]
    kind = kind_of_images([image for each in sets for image, _ in each.pairs])
    if kind is not None and kind.description != "1 band of uint16":  # which are read as photos, too
        settings |= {"channels": kind.channels, "measure": "range"}
    if not all(each.names_classes for each in sets):
        sets, alpha = alpha_if_found(sets)
        settings |= {"mask_channel": "alpha"} if alpha else {}
        guess = guess_classes(mask_kinds([label for each in sets for _, label in each.pairs]))
        settings |= {"classes": guess.classes, "tolerance": guess.tolerance}
    return Data(**settings)


class Told(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, lines: Sequence[str | None]) -> None:
        self.lines += [line for line in dict.fromkeys(lines) if line is not None]


def training_says(made: Made) -> list[str]:
    """What stops a training, or is warned of, before the first step: by the function that a training calls."""
    told = Told()
    try:
        data = data_of(made)
        sets: dict[Split, SegmentationDataset] = {"train": data.dataset("train"), "val": data.dataset("val")}
        if data.measure is not None:
            ranges = measure(sets["train"], value_range=True)
            for each in sets.values():
                each.reading = replace(each.reading, value_range=ranges.value_range)
        check_files(data, sets["train"], sets["val"], told)
    except ValueError as error:
        return [str(error)]
    return told.lines


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
    assert training_says(made) == []


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
