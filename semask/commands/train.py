"""Train a model from a recipe."""

from semask.commands.console import ConsoleReporter
from semask.data.source import Data
from semask.data.transforms import Augmentation
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
    from semask.training import loop

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
