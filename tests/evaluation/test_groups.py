"""Groups of images by a regular expression on their names; a wrong one is one line, and a slow one ends."""

import re
import time

import pytest

from semask.evaluation.groups import group_numbers

NAMES = ["images/val/0016E5_07959", "images/val/0016E5_07961", "images/val/Seq05VD_f00000"]


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        (r"([^/_]+)_", [0, 0, 1]),
        (r"/[^/_]+_", [0, 0, 1]),
        (r"images", [0, 0, 0]),
        (r"_(.*)", [0, 1, 2]),
        (r"(?P<sequence>\w+?)_(f?)", [0, 0, 1]),
    ],
)
def test_the_first_group_or_the_whole_match_names_them(pattern, numbers):
    assert group_numbers(NAMES, pattern).tolist() == numbers


def test_none_without_a_pattern():
    assert group_numbers(NAMES, None) is None


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "groups '(': no regular expression (missing ), unterminated subpattern at position 0): give one such as"),
        (
            "0016E5",
            "groups '0016E5': finds nothing in 1 of 3 names of images, e.g. images/val/Seq05VD_f00000: give one",
        ),
        ("(x)?", "groups '(x)?': finds nothing in 3 of 3 names of images, e.g. images/val/0016E5_07959: give one"),
        ("", "groups '': finds nothing in 3 of 3 names of images"),
        ("a" * 501, "longer than 500 characters"),
        ("(a{65535}){65535}{9}", "groups '(a{65535}){65535}{9}': no regular expression"),
        ("\x1b[31m\n(", "no regular expression"),
    ],
)
def test_wrong_ones_are_one_line(pattern, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        group_numbers(NAMES, pattern)
    assert len(str(error.value)) < 400
    assert str(error.value).isprintable()


def test_a_search_without_end_ends(monkeypatch):
    monkeypatch.setattr("semask.evaluation.groups.SECONDS", 0.5)
    start = time.monotonic()
    with pytest.raises(ValueError, match="seconds: give a regular expression without nested repeats"):
        group_numbers(["a" * 60 + "!"], "(a+)+$")
    assert time.monotonic() - start < 10


def test_names_of_any_kind():
    assert group_numbers(["ä\ud800_1", 'quote"_1', "new\nline_1"], "^([^_]+)_").tolist() == [2, 1, 0]
