"""Recipes from strangers: YAML is text with numbers, and a setting is a plain value in its range."""

import subprocess
import sys

import pytest

from semask.settings.recipe import read_recipe
from tests.hostile.corpus import BOMBS, CODE, stranger


@pytest.mark.parametrize("name", BOMBS)
def test_train_refuses_in_one_line(semask, recipe, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(BOMBS[name])
    message = semask.refused("train", "--data.root", "x", "--config", path, *recipe(tmp_path / "run")[-1:])
    assert message.startswith((str(path), "model.", "data.", "training."))
    assert len(message) < 2500
    assert message.isprintable()
    assert {x.name for x in tmp_path.iterdir()} == {"recipe.yaml"}


@pytest.mark.parametrize("name", BOMBS)
def test_info_survives(semask, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(BOMBS[name])
    semask.refused("info", path)
    assert {x.name for x in tmp_path.iterdir()} == {"recipe.yaml"}


@pytest.mark.parametrize("name", CODE)
def test_no_code_runs(semask, recipe, tmp_path, monkeypatch, name):
    mark = tmp_path / "executed"
    folder = stranger(tmp_path / "stranger", mark)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(folder)
    path = tmp_path / "recipe.yaml"
    settings = str({"model": CODE[name]}).replace("FOLDER", str(folder)).replace("True", "true").replace("'", '"')
    path.write_text(settings)
    for arguments in (["info", path], ["train", "--config", path, "--data.root", "x", "--out", tmp_path / "run"]):
        semask.refused(*arguments)
    assert not mark.exists()


def test_nothing_is_imported_that_lies_in_the_current_folder(semask, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("open('executed', 'w').close()\nclass Model: pass\n")
    (tmp_path / "recipe.yaml").write_text("model: {encoder: {class_path: evil.Model}}")
    others = ["--data.root", "x", "--out", "run"]
    command = [sys.executable, "-m", "semask.cli", "train", "--config", "recipe.yaml", *others]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for option in (["--model", "recipe.yaml"], ["--model.encoder", "evil.Model"], ["--data", "recipe.yaml"]):
        semask.refused("train", *option, *others)
    assert not (tmp_path / "executed").exists()


def test_help_lists_no_classes(semask):
    shown = semask("train", "--help").out
    assert "class_path" not in shown
    assert "torch.nn" not in shown
    assert "<class" not in shown


def test_numbers_are_numbers(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("training: {lr: 1e-4, min_lr: 0, power: .5, steps: 1_000}\n")
    assert read_recipe(path) == {"training": {"lr": 1e-4, "min_lr": 0, "power": 0.5, "steps": 1000}}


def test_a_model_that_fills_the_machine_is_not_built(semask, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("semask.builder.machine_memory", lambda: 2**20)
    message = semask.refused(*recipe(tmp_path / "run"))
    assert "weights, which take 0." in message
    assert not (tmp_path / "run").exists()
