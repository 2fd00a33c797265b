"""Train a model on a folder of images and masks, or from a recipe."""

import contextlib
import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from semask.commands.console import ConsoleReporter, confusion_lines, make_console, score_table
from semask.data.source import Data
from semask.data.transforms import Augmentation
from semask.files.schema import Range
from semask.files.text import one_line, shown
from semask.losses.mask import MaskLoss
from semask.losses.pixel import PixelLoss
from semask.settings.inference import Inference
from semask.settings.model import ModelSettings
from semask.settings.training import Training

SHARED = True
"""Processes that torchrun started share the work."""
OUT = "runs"
"""Folder of the runs whose folder nobody named."""
RARE = 0.01
"""Share of the pixels below which a class is called rare."""
POOR = 0.5
"""IoU below which a class is told about at the end."""


def train(
    folder: str | None = None,
    *,
    out: str | None = None,
    minutes: Annotated[float, Range(0, 1e6, above=True)] | None = None,
    dry_run: bool = False,
    resume: bool = False,
    resume_changed: bool = False,
    resume_or_start: bool = False,
    given: frozenset[str] = frozenset(),
    config: str | None = None,
    model: ModelSettings,
    data: Data,
    augmentation: Augmentation,
    loss: PixelLoss,
    mask_loss: MaskLoss,
    training: Training,
    evaluation: Inference,
) -> None:
    """Train a model; the best and the last checkpoint, logs and sample predictions go to a folder.

    With a FOLDER of images and masks everything is chosen: format, classes and split are found, and a recipe with the
    reason of each choice is written to OUT/recipe.yaml. Options on the line are kept; with --config the recipe decides
    on all but the data. Without a FOLDER, recipe and options say everything.

    Files: best.safetensors and last.safetensors (with .json copies of their headers), the folders resume (all that
    --resume needs) and resume.previous (the one before), log.csv, evaluation.csv, and the trackers' own.
    Start it with torchrun for several GPUs.

    Args:
        folder: Images and masks in one of the layouts of docs/formats.md, or a table of their paths.
        out: Folder of the run; must not hold another run unless --resume. Null for runs/NAME, after the data.
        minutes: Time that the training may take, as --training.minutes.
        dry_run: Print the recipe that is chosen for FOLDER, and stop; it is written only if --out is given.
        resume: Go on from the last state in the folder, to the same numbers as a run without a stop; other settings,
            another number of processes or kind of device are refused.
        resume_changed: Go on from the last state in the folder with them all the same. What changes is printed, and
            noted in what is saved. Another model is refused.
        resume_or_start: Go on, as the other two say, if there is a state in the folder, else begin: for jobs that a
            cluster starts again with the same command.
        given: Names of the settings that are on the line.
        config: Recipe that they change.
        model: Encoder, decoder, classes.
        data: Where the images and masks are.
        augmentation: How training images are varied.
        loss: What is minimized for decoders that score pixels.
        mask_loss: What is minimized for decoders that make masks.
        training: Optimizer, schedule, precision, and how often to log, save and evaluate.
        evaluation: How validation images are put through the model.

    Raises:
        ValueError: If something is wrong with the data or the settings (before the first step where it can be known),
            the loss is NaN or infinite, or a checkpoint can't be written.
    """
    import torch

    from semask.builder import build_model, require_memory
    from semask.prediction.processes import is_first
    from semask.training import loop
    from semask.training.state import holds_run

    if dry_run and (folder is None or resume or resume_changed or resume_or_start):
        raise ValueError("--dry_run prints what is chosen for a folder, for a new run: semask train FOLDER --dry_run")
    run = Path(out) if out is not None else Path(OUT) / (Path(data.root).expanduser().resolve().stem or "data")
    if resume_or_start:
        there = holds_run(run)
        resume, resume_changed = there, there and resume_changed
    settings: dict[str, Any] = {"model": model, "data": data, "augmentation": augmentation, "loss": loss}
    settings |= {"mask_loss": mask_loss, "training": training, "evaluation": evaluation}
    if minutes is not None and folder is None:
        settings["training"] = dataclasses.replace(training, minutes=minutes)
    if folder is not None:
        kept = values_on(settings, given, config)
        if resume or resume_changed:
            kept |= {"data.root": folder} | ({} if minutes is None else {"training.minutes": minutes})
            settings = of_run(run, settings, kept)
        else:
            planned = of_folder(folder, settings, kept, run, minutes, dry_run=dry_run, write=out is not None)
            if planned is None:
                return
            settings = planned
    model = settings["model"].for_images(settings["data"].channels)
    require_memory(model)
    torch.manual_seed(settings["training"].seed)
    built = build_model(model)
    loop.train(
        built,
        settings["data"],
        out=str(run),
        augmentation=settings["augmentation"],
        loss=settings["mask_loss"] if built.decoder.makes_masks else settings["loss"],
        training=settings["training"],
        evaluation=settings["evaluation"],
        resume=resume,
        resume_changed=resume_changed,
        reporter=ConsoleReporter(),
    )
    if is_first():
        print_end(run)


def values_on(settings: Mapping[str, Any], given: Sequence[str] | frozenset[str], config: str | None) -> dict[str, Any]:
    """What the line says, and the recipe on it but for its data: SECTION.FIELD -> value."""
    names = {name for name in given if not name.startswith("data.root")}
    if config is not None:
        from semask.settings.recipe import read_recipe

        recipe = {f"{section}.{name}" for section, values in read_recipe(config).items() for name in values}
        names |= {name for name in recipe if not name.startswith("data.") and name != "model.num_classes"}
    return {name: getattr(settings[name.split(".")[0]], name.split(".")[1]) for name in names}


def of_folder(
    folder: str,
    settings: Mapping[str, Any],
    kept: Mapping[str, Any],
    run: Path,
    minutes: float | None,
    *,
    dry_run: bool,
    write: bool,
) -> dict[str, Any] | None:
    """Choose the settings for a folder, print what was chosen, and write it to the folder of the run.

    Args:
        folder: Images and masks.
        settings: Sections of a recipe with the defaults of what is not chosen.
        kept: What is not to be chosen.
        run: Folder of the run.
        minutes: Time that the training may take; None for no limit.
        dry_run: Print the recipe instead.
        write: Write it even then.

    Returns:
        The sections; None if there is to be no training.

    Raises:
        ValueError: If nothing is found in the folder, or its run is there already.
    """
    from semask.extras import require
    from semask.prediction.processes import started
    from semask.training.plan import RECIPE_FILE, make_plan, write_plan
    from semask.training.state import require_free

    for package in ("accelerate", "tensorboard", "scipy", "psutil"):
        require(package)
    if started() > 1:
        raise ValueError(
            f"{started()} processes can't choose settings together: first semask train {one_line(folder)} --dry_run "
            f"--out {one_line(run)}, then torchrun with --config {one_line(run / RECIPE_FILE)}"
        )
    if write or not dry_run:
        require_free(run)
    reporter = ConsoleReporter()
    plan = make_plan(folder, kept, out=run, minutes=minutes, reporter=reporter)
    if dry_run:
        print(plan.text(), end="")
    if write or not dry_run:
        path = write_plan(plan, run)
        reporter.note(f"the recipe, with a reason for each choice: {path}")
    if dry_run:
        return None
    for line in plan.told():
        reporter.note(line)
    return {
        name: type(value)(**plan.sections[name]) if name in plan.sections else value for name, value in settings.items()
    }


def of_run(run: Path, settings: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run that was chosen for a folder, from its recipe, with what the line says.

    Raises:
        ValueError: If the run has no recipe, or it is wrong.
    """
    from semask.files.schema import from_plain
    from semask.settings.model import require_name
    from semask.settings.recipe import read_recipe
    from semask.training.plan import RECIPE_FILE

    recipe = read_recipe(run / RECIPE_FILE)
    if "encoder" in recipe.get("model", {}):
        require_name(recipe["model"]["encoder"], run / RECIPE_FILE)
    values = {name: from_plain(type(x), recipe.get(name, {}), name) for name, x in settings.items()}
    for name, value in kept.items():
        section, field = name.split(".")
        values[section][field] = value
    return {name: type(value)(**values[name]) if values[name] else value for name, value in settings.items()}


def print_end(out: Path) -> None:
    """Say what a finished run reached, where it lies, and what can be done with it."""
    from semask.checkpoints.tensors import read_header

    best, console = out / "best.safetensors", make_console(stderr=False)
    metadata = read_header(best)
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):  # a resumed run's may be anybody's
        table = score_table(metadata["metrics"], title=f"the best model, of step {int(metadata['step'])}")
        console.print(table)
        for line in [*confusion_lines(metadata["metrics"]), *worst_lines(metadata["metrics"])]:
            console.print(line, soft_wrap=True)
    run = shlex.quote(str(out))
    console.print(f"It is in {shown(best)}. What comes next:", soft_wrap=True)
    for command in (f"predict {run} PHOTO --out masks", f"evaluate {run}", f"export {run}"):
        console.print(f"  semask {shown(command)}", soft_wrap=True)


def worst_lines(metrics: Mapping[str, Any], count: int = 3) -> list[str]:
    """Lines about the classes that are predicted worst, and why that may be."""
    from semask.metrics.confusion import percent

    total = max(1, sum(row["pixels"] for row in metrics["classes"]))
    poor = sorted((row for row in metrics["classes"] if (row["iou"] or 0.0) < POOR), key=lambda row: row["iou"] or 0.0)
    lines = []
    for row in poor[:count]:
        name, share = shown(row["name"], longest=60), row["pixels"] / total
        taken = next((pair for pair in metrics.get("confused", []) if pair["label"] == row["name"]), None)
        if row["iou"] is None or not row["pixels"]:
            why = "it never occurs in the validation images: add some that show it"
        elif share < RARE:
            why = f"it has {100 * share:.2g} % of the pixels: more images that show it, or docs/rare-classes.md"
        elif taken is not None and taken["share"] > 0.2:
            why = f"it is often taken for {shown(taken['prediction'], longest=60)}: look at the labels of both"
        else:
            why = "longer training, larger images (augmentation.scale) or more labels may help"
        lines.append(f"{name}, IoU {percent(row['iou'])} %: {why}")
    return lines
