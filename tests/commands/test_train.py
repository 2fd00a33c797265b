import json


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


def test_a_best_checkpoint_of_another_form_ends_no_run(semask, recipe, tmp_path):
    from safetensors.torch import load_file, save_file

    out = tmp_path / "run"
    semask(*recipe(out, steps=2))
    best = out / "best.safetensors"
    save_file(load_file(best), best, {"semask": "{}", "format": "pt"})
    semask.refused(*recipe(out, steps=2), "--resume=true")
