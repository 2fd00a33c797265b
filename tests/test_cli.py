import argparse

import pytest
import yaml
from jsonargparse import ArgumentParser

from semask import __version__
from semask.cli import VERBS, main


def test_help_names_every_verb(semask):
    shown = semask("--help").out
    for verb, (_, help) in VERBS.items():
        assert verb in shown
        assert help.split()[0] in shown


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_explained(semask, verb):
    parser = ArgumentParser()
    VERBS[verb][0](parser)
    shown = semask(verb, "--help").out
    for action in parser._actions:
        text = action.help or ""
        assert text != argparse.SUPPRESS
        assert len(text.partition("(type:")[0].split()) >= 2, f"{verb} {action.option_strings or action.dest}: {text!r}"
        assert action.option_strings[-1:] == [] or action.option_strings[0] in shown
    assert VERBS[verb][1] in shown


def test_version(semask):
    assert semask("--version").out == f"semask {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "(see semask --help)"),
        (["bake"], "(see semask --help)"),
        (["predict"], "(see semask predict --help)"),
        (["train", "--out", "x"], "(see semask train --help)"),
        (["predict", "a.safetensors", "b.jpg", "--sharpness", "3"], "--sharpness"),
        (["evaluate", "a.safetensors", "--mode", "sliding"], "sliding"),
        (["predict", "a.safetensors", "b.jpg", "--overlays", "perhaps"], "perhaps"),
        (["evaluate", "a.safetensors", "--workers", "two"], "two"),
        (["evaluate", "a.safetensors", "--flip", "--scale", "512"], "scale"),
    ],
    ids=str,
)
def test_mistakes_on_the_line(semask, arguments, message):
    assert message in semask.refused(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--flip", "PATH"],
        ["PATH", "--flip"],
        ["--flip", "true", "PATH"],
        ["--flip=true", "PATH"],
        ["PATH", "--flip", "null"],
    ],
    ids=" ".join,
)
def test_a_switch_needs_no_value_and_takes_no_other_argument(semask, tmp_path, arguments):
    path = str(tmp_path / "weights.safetensors")
    message = semask.refused("evaluate", *(path if x == "PATH" else x for x in arguments))
    assert message.startswith(f"{path}: no such checkpoint")


def test_the_line_overrides_the_recipe_and_both_are_printed(semask, recipe, tmp_path):
    (tmp_path / "recipe.yaml").write_text("training: {steps: 7, lr: 0.5}\nmodel: {encoder: swin_small}\n")
    printed = semask(
        *recipe(tmp_path / "run")[:2],
        *("--config", tmp_path / "recipe.yaml", "--training.lr", 0.25, "--data.root", "x", "--out", "y"),
        "--print_config",
    )
    settings = yaml.safe_load(printed.out)
    assert settings["training"]["steps"] == 7
    assert settings["training"]["lr"] == 0.25
    assert settings["model"]["encoder"] == "swin_small"
    (tmp_path / "printed.yaml").write_text(printed.out)
    again = semask("train", "--config", tmp_path / "printed.yaml", "--print_config", "--out", "y")
    assert again.out == printed.out


def test_a_traceback_on_request(monkeypatch):
    monkeypatch.setenv("SEMASK_TRACEBACK", "1")
    with pytest.raises(ValueError, match="no such checkpoint"):
        main(["evaluate", "/nowhere/a.safetensors"])
