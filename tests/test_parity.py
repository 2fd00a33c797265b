import sys
from pathlib import Path

import pytest
from parity import find, main, run

COPIED = Path(__file__).parent / "goldens" / "cases"
ALL = Path(__file__).parents[2] / "shared" / "goldens" / "public"
PATTERNS = "*"
PATHS = {path.stem: path for directory in (COPIED, ALL) for path in find(directory, PATTERNS)}


@pytest.mark.parametrize("name", PATHS)
def test_numbers_of_the_published_code(name, tmp_path):
    case = run(PATHS[name], tmp_path)
    worst, where = case.worst
    assert worst <= case.limit, where


def test_all_cases_are_at_hand():
    if not ALL.exists():
        pytest.skip("../shared/goldens/public is not there: only the cases in tests/goldens/cases were compared")
    assert len(PATHS) > len(list(find(COPIED, PATTERNS)))


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (["--cases", "fpn_large_tinyinput"], 0, "  ok  "),
        (["--cases", "fpn_large_tinyinput", "--limit", "1e-9"], 1, "OVER THE LIMIT"),
        (["--cases", "nothing_like_this"], 1, "no case in"),
    ],
)
def test_exit_code(monkeypatch, capsys, options, code, line):
    monkeypatch.setattr(sys, "argv", ["parity.py", str(COPIED), *options])
    assert main() == code
    assert line in capsys.readouterr().out
