"""The command line: verb -> function, nothing else."""

import argparse
import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import docstring_parser
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from semask.builder import build
from semask.files.schema import field_hints, from_plain
from semask.files.text import one_line, out_of_memory, reason
from semask.settings.recipe import read_recipe

LONGEST_ERROR = 2000
"""Characters of an error line: what it quotes is cut before."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a sub-command; a user's mistake is one line on the standard error stream and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(run(arguments))
    except (ValueError, OSError, ArgumentError) as error:
        if os.environ.get("SEMASK_TRACEBACK"):
            raise
        hint = origin(arguments) if isinstance(error, ArgumentError) else ""
        print(f"semask: error: {reason(error, longest=LONGEST_ERROR)}{hint}", file=sys.stderr)
        sys.exit(2)
    except ImportError as error:
        from semask.extras import explained

        message = explained(error) or ""
        if os.environ.get("SEMASK_TRACEBACK") or not message:
            raise
        print(f"semask: error: {message}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if os.environ.get("SEMASK_TRACEBACK") or not out_of_memory(error):
            raise
        hint = "take a smaller --scale, --tile or batch, or --precision bf16"
        print(f"semask: error: there is not enough memory ({reason(error)}): {hint}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("semask: stopped; training goes on with --resume, tiles with the same command", file=sys.stderr)
        sys.exit(130)


def run(arguments: list[str]) -> int:
    """Parse the arguments and call the verb; returns the exit code."""
    from semask import __version__
    from semask.prediction.processes import require_one

    parser = ArgumentParser(prog="semask", description="Semantic segmentation with SeMask.", version=__version__)
    parser.exit_on_error = False
    verbs = parser.add_subcommands(dest="verb")
    for verb, (describe, help) in VERBS.items():
        subparser = ArgumentParser(description=f"{help}.", exit_on_error=False, print_config=None)
        if verb in arguments[:1]:  # only what is called is imported
            if verb not in SHARED:
                require_one(verb)
            call = describe(subparser)
            arguments = with_values(arguments, subparser)
        verbs.add_subcommand(verb, subparser, help=help)
    options = parser.parse_args(arguments)
    return call(options[options.verb])


def origin(arguments: list[str]) -> str:
    """Say where options that could not be understood came from, and where they are explained."""
    recipes = [one_line(file) for option, file in itertools.pairwise(arguments) if option == "--config"]
    command = " ".join(["semask", *(verb for verb in arguments[:1] if verb in VERBS), "--help"])
    return f" ({''.join(f'in {file} or on the command line; ' for file in recipes)}see {command})"


def with_values(arguments: list[str], parser: ArgumentParser) -> list[str]:
    """Read a bare switch as true: --resume is --resume true."""
    switches = {name for x in parser._actions if "{true,false" in str(x.metavar) for name in x.option_strings}
    completed: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        completed.append(argument)
        if argument in switches and following.lower() not in ("true", "false", "null", "yes", "no", "on", "off"):
            completed.append("true")
    return completed


Call = Callable[[Namespace], int]


def train_options(parser: ArgumentParser) -> Call:
    """Settings of `train`; the groups are those of a recipe in configs/."""
    import torch

    from semask.builder import require_memory
    from semask.settings.sections import SECTIONS
    from semask.training.loop import train

    parser.add_argument(
        "--config",
        action=ReadRecipe,
        groups=SECTIONS,
        help="Recipe to start from; what follows on the line overrides it.",
    )
    parser.add_argument(
        "--print_config", type=bool, default=False, help="Print the whole recipe that the line makes, and stop."
    )
    for name, kind in SECTIONS.items():
        add_settings(parser, name, kind)
    parser.add_function_arguments(train, skip=set(SECTIONS))

    def call(options: Namespace) -> int:
        sections = {name: options[name].as_dict() for name in SECTIONS}
        if options.print_config:
            print(yaml.safe_dump(json.loads(json.dumps(sections)), sort_keys=False, default_flow_style=None), end="")
            return 0
        settings: dict[str, Any] = {name: kind(**sections[name]) for name, kind in SECTIONS.items()}
        require_memory(settings["model"])
        torch.manual_seed(settings["training"].seed)
        model, mask_loss = build(**dataclasses.asdict(settings.pop("model"))), settings.pop("mask_loss")
        if model.decoder.makes_masks:
            settings["loss"] = mask_loss
        others = {name: value for name, value in options.as_dict().items() if name not in (*SECTIONS, *RECIPE_OPTIONS)}
        train(model, **others, **settings)
        return 0

    return call


RECIPE_OPTIONS = ("config", "print_config")


def add_settings(parser: ArgumentParser, group: str, kind: Any) -> None:
    """Add the fields of a dataclass as options --GROUP.FIELD, each a plain value, explained by its docstring."""
    document = docstring_parser.parse(kind.__doc__)
    section = parser.add_argument_group(f"{group}: {document.short_description}")
    explained = {entry.arg_name: " ".join((entry.description or "").split()) for entry in document.params}
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING
        section.add_argument(
            f"--{group}.{field.name}",
            type=field_hints(kind)[field.name],
            help=explained[field.name],
            **({"required": True} if required else {"default": field.default}),
        )


def recipe_values(file: str, groups: Mapping[str, Any]) -> dict[str, Any]:
    """Read a recipe as {"GROUP.FIELD": value}.

    Raises:
        ValueError: If it can't be read, or a setting is unknown or not admitted.
    """
    found: dict[str, Any] = {}
    for group, section in read_recipe(file).items():
        if group not in groups:
            raise ValueError(
                f"{one_line(file)}: has a section {one_line(repr(group), longest=80)}: a recipe has {', '.join(groups)}"
            )
        try:
            values = from_plain(groups[group], section, group)
        except ValueError as error:
            raise ValueError(f"{one_line(file)}: {error}") from error
        found |= {f"{group}.{name}": value for name, value in values.items()}
    if "model.encoder" in found:
        from semask.settings.model import require_name

        require_name(found["model.encoder"], file)
    return found


class ReadRecipe(argparse.Action):
    """Put the settings of a recipe where the line would have put them.

    Not jsonargparse's own way to read files: that would import what a `class_path` names.
    """

    def __init__(self, *arguments: Any, groups: Mapping[str, Any], **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.groups = groups

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Read the recipe."""
        for name, value in recipe_values(str(values), self.groups).items():
            namespace[name] = value
        namespace[self.dest] = str(values)


def evaluate_options(parser: ArgumentParser) -> Call:
    """Settings of `evaluate`."""
    from semask.commands.evaluate import evaluate

    help = (
        "Checkpoint: a .safetensors file, a run's folder, or OWNER/NAME on the hub; an exported file; for published "
        "models see --zoo."
    )
    parser.add_argument("weights", nargs="?", help=help)
    parser.add_function_arguments(evaluate, skip={"weights"})

    def call(options: Namespace) -> int:
        evaluate(**options.as_dict())
        return 0

    return call


def predict_options(parser: ArgumentParser) -> Call:
    """Settings of `predict`."""
    from semask.commands.predict import predict

    help = "Checkpoint: a .safetensors file, a run's folder, or OWNER/NAME on the hub; or an exported file."
    parser.add_argument("weights", help=help)
    parser.add_argument("images", nargs="+", help='Image files, folders, or quoted patterns such as "photos/*.jpg".')
    parser.add_function_arguments(predict, skip={"weights", "images"})
    return lambda options: 2 if predict(**options.as_dict()).failed else 0


def export_options(parser: ArgumentParser) -> Call:
    """Settings of `export`."""
    from semask.commands.export import export
    from semask.engines.catalog import formats

    parser.add_argument("weights", help="Checkpoint: a .safetensors file, a run's folder, or OWNER/NAME on the hub.")
    help = (
        "Image files, folders, or quoted patterns to calibrate and check with; without, the validation images of the "
        "recipe, or for the check synthetic scenes."
    )
    parser.add_argument("--images", nargs="+", help=help)
    parser.add_argument("--format", choices=list(formats()), default="onnx", help="Format of the file.")
    parser.add_function_arguments(export, skip={"weights", "images", "format"})

    def call(options: Namespace) -> int:
        export(**options.as_dict())
        return 0

    return call


def convert_options(parser: ArgumentParser) -> Call:
    """Settings of `convert`."""
    from semask.commands.convert import convert

    parser.add_function_arguments(convert, as_positional=True)

    def call(options: Namespace) -> int:
        convert(**options.as_dict())
        return 0

    return call


def info_options(parser: ArgumentParser) -> Call:
    """Settings of `info`."""
    from semask.commands.info import info

    parser.add_argument("source", type=str, help="Checkpoint or recipe (.yaml).")
    parser.add_function_arguments(info, skip={"source"})

    def call(options: Namespace) -> int:
        info(**options.as_dict())
        return 0

    return call


def demo_options(parser: ArgumentParser) -> Call:
    """Settings of `demo`."""
    from semask.commands.demo import demo

    parser.add_function_arguments(demo)

    def call(options: Namespace) -> int:
        demo(**options.as_dict())
        return 0

    return call


VERBS: dict[str, tuple[Callable[[ArgumentParser], Call], str]] = {
    "train": (train_options, "Train a model from a recipe"),
    "evaluate": (evaluate_options, "Measure a checkpoint on labelled images"),
    "predict": (predict_options, "Segment images"),
    "export": (export_options, "Write a checkpoint as a file for other engines, and check it"),
    "convert": (convert_options, "Turn a checkpoint of the published code into one of ours"),
    "info": (info_options, "Show the parameters, FLOPs and stages of a model"),
    "demo": (demo_options, "Draw a data set, train a small model on it, and show what came out"),
}
"""Sub-commands: how their options are described, and what they do."""
SHARED = ("train", "evaluate", "predict")
"""Those whose work the processes that torchrun starts share."""


if __name__ == "__main__":
    main()
