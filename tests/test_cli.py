import argparse
import ast
import dataclasses
import os
import subprocess
import sys

import pytest
import yaml
from modules import imported

from semask import __version__
from semask.cli import COMMANDS, commands, describe, main
from semask.commands import options
from semask.settings.inference import Inference, Options
from semask.settings.sections import SECTIONS

VERBS = commands()


def test_help_names_every_verb(semask):
    assert list(VERBS) == [
        *("app", "compare", "convert", "demo", "doctor", "evaluate", "explain", "export", "info", "predict", "recipes"),
        *("report", "serve", "train"),
    ]
    shown = semask("--help").out
    for verb, help in VERBS.items():
        assert f"  {verb} " in shown
        assert help.removesuffix(".") in shown


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_explained(semask, verb):
    parser = describe(verb).parser
    shown = semask(verb, "--help").out
    for action in parser._actions:
        text = action.help or ""
        assert text != argparse.SUPPRESS
        assert len(text.partition("(type:")[0].split()) >= 2, f"{verb} {action.option_strings or action.dest}: {text!r}"
        assert action.option_strings[-1:] == [] or action.option_strings[0] in shown
    assert shown.startswith(f"usage: semask {verb} [")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_reader_that_goes_away_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "semask.cli", "--help"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_version(semask):
    assert semask("--version").out == f"semask {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "(see semask --help)"),
        (["bake"], "(see semask --help)"),
        (["trainn"], "trainn is no command: did you mean train? (see semask --help)"),
        (["predict", "a.jpg", "--simplify", "abc"], "--simplify is 'abc': give a number (see semask predict --help)"),
        (["predict", "a.jpg", "--opacity=nan"], "--opacity is 'nan': give a number from 0 to 1 (see"),
        (["predict", "a.jpg", "--every", "0"], "--every is 0: give a whole number from 1 to 100,000"),
        (["serve", "--port", "99999"], "--port is 99999: give a whole number from 0 to 65,535"),
        (
            ["evaluate", "x", "--data=y", "--worst_images=-1"],
            "--worst_images is -1: give a whole number from 0 to 1,000",
        ),
        (["predict", "a.jpg", "--precision", "int3"], "--precision is 'int3': give one of auto, fp32, bf16 (see"),
        (["train", "x", "--training.steps", "1e"], "--training.steps is '1e': give a whole number from 1 to"),
        (["evaluate", "x", "--details", "maybe"], "--details takes true or false, not 'maybe' (see"),
        (["predict", "--scael", "512"], "--scael; did you mean --scale? (see semask predict --help)"),
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


FIELDS = [field.name for field in dataclasses.fields(Inference)]


@pytest.mark.parametrize("verb", ["compare", "evaluate", "predict"])
def test_every_setting_of_inference_is_an_option(verb):
    names = {name for action in describe(verb).parser._actions for name in action.option_strings}
    assert {f"--{name}" for name in FIELDS} <= names


def test_the_sections_of_train_are_those_of_a_recipe():
    assert describe("train").sections == SECTIONS


def test_a_command_gets_the_settings_that_were_given():
    got = {}

    def command(*, inference: Options, out: str = "x") -> int:
        """Do it.

        Args:
            inference: How.
            out: Where.
        """
        got.update(inference)
        return 7

    assert options.Options(command, "test")(["--scale=[64,48]", "--flip", "--out=y"]) == 7
    assert got == {"scale": (64, 48), "flip": True}


LIGHT = ("PIL", "jsonargparse", "numpy", "yaml")
HEAVY = {"torch", "torchvision", "timm", "accelerate", "rich"}


@pytest.mark.parametrize(
    ("arguments", "code", "further"),
    [
        (["--help"], 0, LIGHT),
        (["--version"], 0, LIGHT),
        (["trainn"], 2, LIGHT),
        (["predict", "--scael", "512"], 2, ()),
        (["train", "--help"], 0, None),
        *(([verb, "--help"], 0, ()) for verb in VERBS if verb != "train"),
    ],
    ids=str,
)
def test_what_is_imported(arguments, code, further):
    """Help and mistakes load no torch; `train --help`, whose settings know losses, loads it but not its compiler."""
    modules, exit_code = imported(f"main({arguments!r})")
    assert exit_code == code
    if further is not None:
        assert not {name.partition(".")[0] for name in modules} & (HEAVY | set(further))
    else:
        slow = {"torch._dynamo", "torchvision.ops", "accelerate", "timm", "transformers"} & modules
        assert not slow


def test_a_command_imports_rooms_and_never_another_command():
    for path in COMMANDS.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        others = {name.split(".")[2] for name in names if name is not None and name.startswith("semask.commands.")}
        assert others <= {"console"}, path.name


def test_types_are_shown_in_words(semask):
    shown = " ".join(semask("predict", "--help").out.split())
    assert "go through the model at once: memory against speed. (type: a whole number from 1 to 256" in shown
    assert "(type: one of auto, fp32, bf16, default: auto)" in shown
    assert "Annotated" not in shown + semask("train", "--help").out
