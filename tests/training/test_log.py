import os
from pathlib import Path

import pytest

from semask.training.log import RunLog

HEAD = "step,loss,main,prior,lr,images/s\n"
ROW = ",0.5,0.4,0.25,1e-05,20\n"
SCORES = "step,miou,mean_accuracy,overall_accuracy,prior_1,prior_2\n"


def log(path: Path) -> RunLog:
    return RunLog(path, ["loss", "main", "prior", "lr", "images/s"])


def scores(path: Path) -> RunLog:
    return RunLog(path, ["miou", "mean_accuracy", "overall_accuracy"], more="prior_")


def lines(*steps: int) -> str:
    return "".join(f"{step}{ROW}" for step in steps)


@pytest.mark.parametrize(
    ("content", "kept", "warning"),
    [
        (HEAD + lines(1, 2, 3, 4), (1, 2, 3), None),
        ((HEAD + lines(1, 2, 3)).replace("\n", "\r\n"), (1, 2, 3), None),  # as semask 0.1 wrote it
        ("\ufeff" + HEAD + lines(1, 2), (1, 2), None),
        (HEAD + lines(1) + "\n" + lines(2), (1, 2), "dropped line 3 (blank, cut or damaged)"),
        (HEAD + lines(1) + "2,0.5\n" + lines(3), (1, 3), "dropped line 3 (blank, cut or damaged)"),
        (HEAD + lines(1, 2) + "12", (1, 2), "dropped line 4 (blank, cut or damaged)"),
        (HEAD + lines(1, 2) + "\n\n \n", (1, 2), "dropped lines 4, 5, 6 (blank, cut or damaged)"),
        (HEAD + lines(1, 2) + 600 * "\0", (1, 2), "dropped line 4 (blank, cut or damaged)"),
        (HEAD + lines(1) + 9 * "\0" + "\n" + lines(2), (1, 2), "dropped line 3 (blank, cut or damaged)"),
        (HEAD + lines(1) + "two,0.5,0.4,0.25,1e-05,20\n", (1,), "dropped line 3 (blank, cut or damaged)"),
        (HEAD + lines(1) + "2,0.5,0.4,x,1e-05,20\n", (1,), "dropped line 3 (blank, cut or damaged)"),
        (HEAD + "-1" + ROW + "²" + ROW + lines(3), (3,), "dropped lines 2, 3 (blank, cut or damaged)"),
        (HEAD + 30 * "\n" + lines(1), (1,), "dropped lines 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 20 more (blank, cut or"),
        (lines(1, 2), (1, 2), "put its missing header back"),
        ("\n" + lines(1, 2), (1, 2), "dropped line 1 (blank, cut or damaged) and put its missing header back"),
        ("step,lo\n" + lines(1, 2), (1, 2), "dropped line 1 (blank, cut or damaged)"),
        (HEAD, (), None),
        ("", (), None),
        ("\n", (), "dropped line 1"),
        (99 * "\0", (), "dropped line 1"),
        ("\udcff", (), "dropped line 1"),
    ],
)
def test_a_log_is_mended(tmp_path, content, kept, warning):
    path = tmp_path / "log.csv"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    run_log = log(path)
    said = run_log.forget_after(3)
    assert (said is None) == (warning is None)
    if said is not None:
        assert said.startswith(f"{path}: {warning}")
    assert (path.read_text() if path.exists() else None) == (HEAD + lines(*kept) if kept else None)
    assert run_log.forget_after(3) is None
    run_log.append(4, {"loss": 0.5, "main": 0.4, "prior": 0.25, "lr": 1e-5, "images/s": 20})
    assert path.read_text() == HEAD + lines(*kept, 4)


def test_scores_have_a_column_for_each_prior(tmp_path):
    path = tmp_path / "evaluation.csv"
    path.write_text("4,0.1,0.2,0.3,nan,0.5\n8,0.1,0.2\n8,0.2,0.2,0.3,0.4,0.5\n")
    assert "dropped line 2" in str(scores(path).forget_after(8))
    assert path.read_text() == SCORES + "4,0.1,0.2,0.3,nan,0.5\n8,0.2,0.2,0.3,0.4,0.5\n"
    path.write_text(SCORES.replace(",prior_1,prior_2", "") + "4,0.1,0.2,0.3\n")
    assert scores(path).forget_after(8) is None
    assert path.read_text() == SCORES.replace(",prior_1,prior_2", "") + "4,0.1,0.2,0.3\n"


def test_a_line_that_is_there_is_not_written_again(tmp_path):
    path = tmp_path / "evaluation.csv"
    run_log = scores(path)
    for step in (4, 4, 8):
        run_log.append(step, {"miou": step / 10})
    again = scores(path)
    again.forget_after(8)
    again.append(8, {"miou": 0.9})
    assert path.read_text() == "step,miou\n4,0.4\n8,0.8\n"


def test_what_is_no_file_is_refused(tmp_path):
    path = tmp_path / "log.csv"
    for make, message in ((path.mkdir, "is a folder"), (lambda: os.mkfifo(path), "is a pipe")):
        make()
        for call in (log(path).require_ours, lambda: log(path).forget_after(3)):
            with pytest.raises(ValueError, match=message) as caught:
                call()
            assert str(caught.value).startswith(f"{path}: ")
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_new_run_removes_logs_only(tmp_path):
    path = tmp_path / "log.csv"
    log(path).require_ours()
    for content in (HEAD + lines(1), "", "step,lo"):
        path.write_text(content)
        log(path).require_ours()
    path.write_text("date,km\n1,2\n")
    with pytest.raises(ValueError, match="not the log of a run: move it, or choose another --out"):
        log(path).require_ours()
