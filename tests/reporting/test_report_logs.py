"""Logs of runs, whatever they hold."""

import os

import pytest

from semask.reporting.charts import MOST_POINTS, thinned
from semask.reporting.page import page
from semask.reporting.reading import Log, joined, named, read_log, read_run, read_subject


def log(tmp_path, text: str) -> Log:
    (tmp_path / "log.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    return read_log(tmp_path / "log.csv")


@pytest.mark.parametrize(
    "text", ["", "\n", "step\n", "step,loss\n", "a,b\n1,2\n", ",,,\n", '"step,loss\n1,2', "1,2\n3,4\n"]
)
def test_no_lines(tmp_path, text):
    assert not log(tmp_path, text).steps


def test_bad_lines_and_fields_are_left_out(tmp_path):
    found = log(
        tmp_path, "step,loss,x\n1,2,nan\n2,cut\nx,1,1\n-3,1,1\n1e300,1,1\n2,inf,7\n3," + "9" * 500 + ",1\n1,5,4\n"
    )
    assert found.steps == (1, 2, 3)
    assert found.points("loss") == ([1], [5])
    assert found.points("x") == ([1, 2, 3], [4, 7, 1])
    assert found.points("other") == ([], [])


def test_one_line(tmp_path):
    log(tmp_path, "step,loss,main,prior,lr,images/s\n50,1.9,1.9,0,0.1,3\n")
    text = page([read_run(tmp_path)], "")
    assert "1.9 at step 50" in text
    assert "Scores on the validation split" not in text


def test_a_log_that_is_no_text_is_a_note(tmp_path):
    (tmp_path / "log.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "evaluation.csv").write_text("step,miou\n1,0.5\n")
    found = read_run(tmp_path)
    assert found.evaluations.points("miou") == ([1], [0.5])
    assert "not a text" in found.notes[0]
    assert "<strong>Note:</strong>" in page([found], "")


def test_pipes_do_not_block(tmp_path):
    os.mkfifo(tmp_path / "log.csv")
    os.mkfifo(tmp_path / "last.json")
    with pytest.raises(ValueError, match=r"no run .*not a file"):
        read_run(tmp_path)


def test_a_damaged_description_is_a_note_and_the_other_is_read(tmp_path):
    (tmp_path / "last.json").write_text("{")
    (tmp_path / "best.json").write_text('{"step": 7}')
    found = read_run(tmp_path)
    assert found.description == {"step": 7}
    assert "last.json" in found.notes[0]


def test_many_points_are_thinned():
    x, y = thinned(range(100_000), [1.0] * 50_000 + [3.0] * 50_000)
    assert len(x) <= MOST_POINTS
    assert (y[0], y[-1]) == (1, 3)


def test_names_are_as_short_as_they_can_be(tmp_path):
    for name in ("a/x", "b/x", "b/y"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "log.csv").write_text("step,loss\n1,2\n")
    found = named(joined([read_subject(tmp_path / name) for name in ("a/x", "b/x", "b/y")]))
    assert [x.name for x in found] == ["a/x", "b/x", "b/y"]
    assert [x.name for x in named(found[1:])] == ["x", "y"]
    assert len({x.name for x in named([found[0], found[0]])}) == 2
