import pytest

from semask.commands.console import ConsoleReporter
from semask.files.reporter import LineReporter, Reporter, Silent
from semask.settings.precision import Choice, tell


def test_nobody_is_told_but_warned(capsys):
    reporter = Reporter()
    reporter.note("a")
    with reporter.training(0, 2):
        reporter.step(1, 2, "loss 1")
    assert list(reporter.track([1, 2], "counting", 2)) == [1, 2]
    with pytest.warns(UserWarning, match="^odd$") as caught:
        reporter.warn(["odd", None, "odd"])
    assert len(caught) == 1
    Silent().warn(["odd"])  # a warning would fail the test
    assert capsys.readouterr() == ("", "")


def test_lines(capsys):
    reporter = LineReporter()
    reporter.note("a\x1b[31m\nb")
    reporter.step(1, 2)
    reporter.step(2, 2, "loss 0.5")
    assert capsys.readouterr().err.splitlines() == ["a?[31m b", "step 2/2  loss 0.5"]


@pytest.mark.parametrize(
    ("choice", "line"),
    [(Choice("fp32", "precision fp32"), "precision fp32"), (Choice("bf16", "slow", True), "warning: slow")],
)
def test_a_precision(capsys, choice, line):
    tell(choice, ConsoleReporter())
    assert capsys.readouterr().err.splitlines() == [line]


def test_loops_inside_loops_share_the_bars(capsys):
    reporter = ConsoleReporter()
    seen = [(x, y) for x in reporter.track("ab", "[outer]", 2) for y in reporter.track((1, 2), "inner", 2)]
    assert seen == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    with reporter.training(3, 5):
        assert list(reporter.track((1, 2), "evaluating", 2)) == [1, 2]
        reporter.step(4, 5)
        reporter.step(5, 5, "loss [0.5]")
    shown = capsys.readouterr().err
    assert "step 5/5  loss [0.5]" in shown
    assert "5/5" in shown.splitlines()[-1]
    assert reporter.bars is None
    reporter = ConsoleReporter(quiet=True)
    assert list(reporter.track((1, 2), "x", 2)) == [1, 2]
    assert capsys.readouterr().err == ""
