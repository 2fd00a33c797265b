"""Train a model from a recipe."""

import contextlib
import shlex
from pathlib import Path

from semask.commands.console import ConsoleReporter, confusion_lines, make_console, score_table
from semask.data.source import Data
from semask.data.transforms import Augmentation
from semask.files.text import shown
from semask.losses.mask import MaskLoss
from semask.losses.pixel import PixelLoss
from semask.settings.inference import Inference
from semask.settings.model import ModelSettings
from semask.settings.training import Training

SHARED = True
"""Processes that torchrun started share the work."""


def train(
    *,
    out: str,
    resume: bool = False,
    resume_changed: bool = False,
    model: ModelSettings,
    data: Data,
    augmentation: Augmentation,
    loss: PixelLoss,
    mask_loss: MaskLoss,
    training: Training,
    evaluation: Inference,
) -> None:
    """Train a model; the best and the last checkpoint, logs and sample predictions go to a folder.

    Files: best.safetensors and last.safetensors (with .json copies of their headers), resume.safetensors (all that
    --resume needs) and resume.previous.safetensors (the one before), log.csv, evaluation.csv, and TensorBoard's events.
    Start it with torchrun for several GPUs.

    Args:
        out: Folder of the run; must not hold another run unless --resume.
        resume: Go on from the last state in the folder, to the same numbers as a run without a stop; other settings,
            another number of processes or kind of device are refused.
        resume_changed: Go on from the last state in the folder with them all the same. What changes is printed, and
            noted in what is saved. Another model is refused.
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

    model = model.for_images(data.channels)
    require_memory(model)
    torch.manual_seed(training.seed)
    built = build_model(model)
    loop.train(
        built,
        data,
        out=out,
        augmentation=augmentation,
        loss=mask_loss if built.decoder.makes_masks else loss,
        training=training,
        evaluation=evaluation,
        resume=resume,
        resume_changed=resume_changed,
        reporter=ConsoleReporter(),
    )
    if is_first():
        print_end(Path(out))


def print_end(out: Path) -> None:
    """Say what a finished run reached, where it lies, and what can be done with it."""
    from semask.checkpoints.tensors import read_header

    best, console = out / "best.safetensors", make_console(stderr=False)
    metadata = read_header(best)
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):  # a resumed run's may be anybody's
        table = score_table(metadata["metrics"], title=f"the best model, of step {int(metadata['step'])}")
        console.print(table)
        for line in confusion_lines(metadata["metrics"]):
            console.print(line)
    run = shlex.quote(str(out))
    console.print(f"It is in {shown(best)}. What comes next:", soft_wrap=True)
    for command in (f"predict {run} PHOTO --out masks", f"evaluate {run}", f"export {run}"):
        console.print(f"  semask {shown(command)}", soft_wrap=True)
