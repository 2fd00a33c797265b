"""The page that a training writes, and the page of a training that goes on."""

import json
import re

import pytest
from test_page import parsed
from test_report_pictures import layers

from semask.reporting.report import report
from semask.training.run import Run


def test_training_writes_it(recipe, tmp_path, semask):
    said = semask(*recipe(tmp_path / "run", steps=4, evaluate_every=2, report="true", samples=1)).err
    assert len(re.findall(r"report.html \(written in \d+\.\d s\)", " ".join(said.split()))) == 1
    page = tmp_path / "run/report.html"
    assert "step 4 of 4" in page.read_text()
    assert "Worst images" in page.read_text()
    assert "CPU" in page.read_text()
    assert {"step 2", "step 4", "prediction"} <= set(layers(page))
    assert json.loads((tmp_path / "run/last.json").read_text())["recipe"]["training"]["report"] is True


def test_a_file_of_somebody_else_stays(recipe, tmp_path, semask):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/report.html").write_text("mine")
    said = semask(*recipe(tmp_path / "run", steps=1, report="true")).err
    assert "no report" in said
    assert (tmp_path / "run/report.html").read_text() == "mine"


def test_the_page_of_a_run_has_its_hardware(trained, tmp_path):
    machine = json.loads((trained / "last.json").read_text())["machine"]
    assert "CPU" in machine
    found = parsed(report(trained, out=tmp_path / "x.html"))
    assert re.search(rf"hardware of the training\s*{re.escape(machine)}", found.text)


@pytest.mark.parametrize("error", [RuntimeError("no font"), MemoryError(), OSError(28, "x")])
def test_what_goes_wrong_is_said_once_and_the_training_goes_on(recipe, tmp_path, semask, monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("semask.training.run.write_run_report", fails)
    said = semask(*recipe(tmp_path / "run", steps=2, evaluate_every=1, report="true")).err
    assert said.count("no report") == 1
    assert (tmp_path / "run/last.safetensors").exists()


def test_a_run_is_reported_while_it_goes_on(recipe, tmp_path, semask, monkeypatch):
    """After every step, when logs and checkpoints of the step before lie there."""
    folder, seen = tmp_path / "run", []
    finish = Run.finish_step

    def finished(run, lr):
        finish(run, lr)
        seen.append(parsed(report(folder, out=tmp_path / "x.html", overwrite=True)).text)

    monkeypatch.setattr(Run, "finish_step", finished)
    semask(*recipe(folder, steps=4, evaluate_every=2, save_every=1))
    assert len(seen) == 4
    assert "The best mIoU" not in seen[1]
    assert "at step 2 of 4" in seen[2]


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"[]", b"step,miou\n1", b"\x89PNG\r\n", None], ids=str)
def test_damaged_files_are_notes_or_left_out(trained, tmp_path, content):
    """None: a folder in place of the file."""
    for name in ("log.csv", "evaluation.csv", "best.json", "last.json"):
        for one in ("log.csv", "evaluation.csv", "best.json", "last.json"):
            if one != name:
                (tmp_path / one).write_bytes((trained / one).read_bytes())
            elif content is not None:
                (tmp_path / one).write_bytes(content)
            else:
                (tmp_path / one).unlink(missing_ok=True)
                (tmp_path / one).mkdir()
        found = parsed(report(tmp_path))
        assert ("Training loss" in found.text) == (name != "log.csv")
        assert ("Scores on the validation split" in found.text) == (name != "evaluation.csv")
        if content is None:
            (tmp_path / name).rmdir()
