"""The command line: verb -> function, nothing else."""

import itertools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a sub-command; a user's mistake is one line on the standard error stream and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(run(arguments))
    except (ValueError, OSError, ArgumentError) as error:
        if os.environ.get("SEMASK_TRACEBACK"):
            raise
        message = " ".join(str(error).split())
        print(
            f"semask: error: {message}{origin(arguments) if isinstance(error, ArgumentError) else ''}", file=sys.stderr
        )
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
        print(
            f"semask: error: there is not enough memory ({str(error).splitlines()[0][:200]}): {hint}", file=sys.stderr
        )
        sys.exit(2)
    except KeyboardInterrupt:
        print("semask: stopped; training goes on with --resume, tiles with the same command", file=sys.stderr)
        sys.exit(130)


def out_of_memory(error: Exception) -> bool:
    """Whether a device or the system had no memory left."""
    words = ("out of memory", "can't allocate memory", "bad_alloc", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def run(arguments: list[str]) -> int:
    """Parse the arguments and call the verb; returns the exit code."""
    from semask import __version__
    from semask.processes import require_one

    parser = ArgumentParser(prog="semask", description="Semantic segmentation with SeMask.", version=__version__)
    parser.exit_on_error = False
    verbs = parser.add_subcommands(dest="verb")
    for verb, (describe, help) in VERBS.items():
        subparser = ArgumentParser(description=f"{help}.", exit_on_error=False)
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
    recipes = [file for option, file in itertools.pairwise(arguments) if option == "--config"]
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

    from semask.data import Augmentation, Data
    from semask.inference import Inference
    from semask.losses import MaskLoss, PixelLoss
    from semask.model import SeMask
    from semask.train import Training, train

    parser.add_argument(
        "--config", action="config", help="Recipe to start from; what follows on the line overrides it."
    )
    parser.add_class_arguments(SeMask, "model", instantiate=False)
    groups: dict[str, Any] = {
        "data": Data,
        "augmentation": Augmentation,
        "loss": PixelLoss,
        "mask_loss": MaskLoss,
        "training": Training,
        "evaluation": Inference,
    }
    for name, group in groups.items():
        parser.add_class_arguments(group, name, instantiate=False)
    parser.add_function_arguments(train, skip={"model", *groups})

    def call(options: Namespace) -> int:
        settings: dict[str, Any] = {name: group(**options[name].as_dict()) for name, group in groups.items()}
        torch.manual_seed(settings["training"].seed)
        model, mask_loss = SeMask(**options.model.as_dict()), settings.pop("mask_loss")
        if model.decoder.makes_masks:
            settings["loss"] = mask_loss
        train(model, out=options.out, resume=options.resume, **settings)
        return 0

    return call


def evaluate_options(parser: ArgumentParser) -> Call:
    """Settings of `evaluate`."""
    from semask.evaluate import evaluate

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
    from semask.predict import predict

    help = "Checkpoint: a .safetensors file, a run's folder, or OWNER/NAME on the hub; or an exported file."
    parser.add_argument("weights", help=help)
    parser.add_argument("images", nargs="+", help='Image files, folders, or quoted patterns such as "photos/*.jpg".')
    parser.add_function_arguments(predict, skip={"weights", "images"})
    return lambda options: 2 if predict(**options.as_dict()).failed else 0


def export_options(parser: ArgumentParser) -> Call:
    """Settings of `export`."""
    from semask.export import export

    parser.add_argument("weights", help="Checkpoint: a .safetensors file, a run's folder, or OWNER/NAME on the hub.")
    help = (
        "Image files, folders, or quoted patterns to calibrate and check with; without, the validation images of the "
        "recipe, or for the check drawn scenes."
    )
    parser.add_argument("--images", nargs="+", help=help)
    parser.add_function_arguments(export, skip={"weights", "images"})

    def call(options: Namespace) -> int:
        export(**options.as_dict())
        return 0

    return call


def convert_options(parser: ArgumentParser) -> Call:
    """Settings of `convert`."""
    from semask.convert import convert

    parser.add_function_arguments(convert, as_positional=True)

    def call(options: Namespace) -> int:
        convert(**options.as_dict())
        return 0

    return call


def info_options(parser: ArgumentParser) -> Call:
    """Settings of `info`."""
    from semask.info import info

    parser.add_function_arguments(info, as_positional=True)

    def call(options: Namespace) -> int:
        info(**options.as_dict())
        return 0

    return call


def demo_options(parser: ArgumentParser) -> Call:
    """Settings of `demo`."""
    from semask.demo import demo

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
