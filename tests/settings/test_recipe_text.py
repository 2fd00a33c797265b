"""A recipe as text is read back as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semask.settings.recipe import read_recipe
from semask.settings.recipe_text import recipe_text

VALUES = {
    "number": 1e-05,
    "whole": 7,
    "none": None,
    "flag": True,
    "text": "a: b # c",
    "number as text": "1e-4",
    "empty": "",
    "list": [1, None, "x"],
    "nested": [[0, 3000], [1, 2]],
    "long": "x" * 300,
    "umlaut": "Straße",
    "quote": 'it\'s "so"',
}


@pytest.mark.parametrize("reason", [None, "why", "a long reason " * 20, "with # and: signs"])
def test_back_and_forth(tmp_path, reason):
    classes = {"road": [1, 2], "on": ["#ff0000"], "1": ["*"], "a: b": ["x"], "null": ["~"], "Straße": [0], "it's": [3]}
    sections = {"model": VALUES, "data": {"classes": classes, "root": "yard/first", "none": {}}}
    reasons = {} if reason is None else {f"{s}.{name}": reason for s, values in sections.items() for name in values}
    text = recipe_text(sections, reasons, head=["first line", "second\nline"])
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    assert read_recipe(tmp_path / "r.yaml") == sections
    assert text.startswith("# first line\n# second")
    if reason == "why":
        assert f"{'  whole: 7':<44}# why\n" in text


TEXT = st.one_of(
    st.text(max_size=40),
    st.text("ab:#-[]{}'\"\\\n\t ,&*!|>%@`~.0123456789eE+_xX\u2028\x85", max_size=20),
    st.sampled_from(
        ["on", "No", "1", "a: b", "#x", "null", "...", "wait...", "---", "<<", "=", "1_000", "12:30", ".inf"]
    ),
)


@given(st.dictionaries(TEXT, st.lists(st.integers() | TEXT, max_size=3), max_size=4), TEXT, TEXT)
def test_any_text_comes_back(tmp_path_factory, classes, root, reason):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    sections = {"data": {"classes": classes, "root": root}}
    path.write_text(recipe_text(sections, {"data.root": reason, "data.classes": reason}, [reason]), encoding="utf-8")
    assert read_recipe(path) == sections
