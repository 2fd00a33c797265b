import json

import pytest
from safetensors.torch import load_file, save_file

import semask as package


def test_the_end_says_what_was_reached_and_what_comes_next(semask, recipe, tmp_path):
    out = tmp_path / "a run"
    printed = semask(*recipe(out, steps=2)).out
    saved = json.loads((out / "best.json").read_text(encoding="utf-8"))
    assert f"the best model, of step {saved['step']}" in printed
    assert f"{100 * saved['metrics']['miou']:.2f}" in printed
    assert all(row["name"] in printed for row in saved["metrics"]["classes"])
    assert "Most often wrong: " in printed
    assert f"It is in {out / 'best.safetensors'}." in printed
    assert f"  semask evaluate '{out}'\n" in printed
    again = semask(*recipe(out, steps=2), "--resume=true").out
    assert again == printed


@pytest.mark.parametrize("row", [{}, {"name": "sky", "iou": "high", "accuracy": 1.0, "pixels": "many"}, 3])
def test_scores_of_another_form_are_left_out(semask, recipe, tmp_path, row):
    out = tmp_path / "run"
    semask(*recipe(out, steps=2))
    model = package.load(out)
    package.save(out / "best.safetensors", model, {**model.metadata, "metrics": {"miou": 0.5, "classes": [row]}})
    printed = semask(*recipe(out, steps=2), "--resume=true").out
    assert printed.startswith(f"It is in {out / 'best.safetensors'}.")


def test_a_best_checkpoint_that_is_not_ours_is_one_line(semask, recipe, tmp_path):
    out = tmp_path / "run"
    semask(*recipe(out, steps=2))
    best = out / "best.safetensors"
    save_file(load_file(best), best, {"semask": "{}", "format": "pt"})
    assert "best.safetensors" in semask.refused(*recipe(out, steps=2), "--resume=true")
