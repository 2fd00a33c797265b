"""`train`: a loop that reads in one screen, around Accelerate."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from semask.acceleration.cross_entropy import accelerate_loss
from semask.data.loader import training_loader
from semask.data.normalization import Normalization
from semask.data.source import Data
from semask.data.transforms import Augmentation, training_transform
from semask.evaluation import Evaluation
from semask.files.reporter import LineReporter, Reporter, Silent
from semask.losses.label import LabelCounts, count_label
from semask.losses.mask import MaskLoss
from semask.losses.pixel import PixelLoss
from semask.model import SeMask
from semask.settings.inference import Inference
from semask.settings.precision import tell
from semask.settings.training import Training
from semask.training.fitting import fit
from semask.training.start import (
    check_files,
    check_settings,
    choose_precision,
    default_loss,
    make_accelerator,
    start,
)


def train(
    model: SeMask,
    data: Data,
    *,
    out: str,
    augmentation: Augmentation | None = None,
    loss: PixelLoss | MaskLoss | None = None,
    training: Training | None = None,
    evaluation: Inference | None = None,
    resume: bool = False,
    resume_changed: bool = False,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Train a model; the best and the last checkpoint, logs and sample predictions go to a folder.

    Files: best.safetensors and last.safetensors (with .json copies of their headers), resume.safetensors (all that
    `resume` needs) and resume.previous.safetensors (the one before), log.csv, evaluation.csv, and TensorBoard's events.
    Start it with torchrun for several GPUs.

    Args:
        model: Model to train; its weights are the start.
        data: Where the images and masks are.
        out: Folder of the run; must not hold another run unless `resume`.
        augmentation: How training images are varied.
        loss: What is minimized: `PixelLoss` for fpn, `MaskLoss` for the mask decoders; what it leaves "published" is
            that of the model's decoder.
        training: Optimizer, schedule, precision, and how often to log, save and evaluate.
        evaluation: How validation images are put through the model.
        resume: Go on from the last state in `out`, to the same numbers as a run without a stop; other settings, another
            number of processes or kind of device are refused.
        resume_changed: Go on from the last state in `out` with them all the same. What changes is printed, and noted in
            what is saved. Another model is refused.
        reporter: Is told how far it is, by the first process; None prints lines on the standard error stream.

    Returns:
        The last evaluation.

    Raises:
        ValueError: If something is wrong with the data or the settings (before the first step where it can be known),
            the loss is no longer a number, or a checkpoint can't be written.
    """
    augmentation, loss = augmentation or Augmentation(), loss or default_loss(model)
    if isinstance(loss, MaskLoss):
        loss = loss.for_decoder(model.decoder)
    training, evaluation = training or Training(), evaluation or Inference()
    chosen = choose_precision(training, Path(out), resume=resume)
    training = dataclasses.replace(training, precision=chosen.precision)  # what it is goes into the recipe
    accelerator = make_accelerator(training, out, skips_maps=getattr(model.decoder, "skips_maps", False))
    reporter = (reporter or LineReporter()) if accelerator.is_main_process else Silent()
    tell(chosen, reporter)
    train_set, val_set = data.dataset("train"), data.dataset("val")
    check_settings(model, train_set, val_set, loss)
    fit(
        model,
        data,
        {"train": train_set, "val": val_set},
        out=Path(out),
        resume=resume or resume_changed,
        accelerator=accelerator,
        reporter=reporter,
    )
    if accelerator.is_main_process:
        check_files(data, train_set, val_set, reporter)
    accelerator.wait_for_everyone()
    settings: dict[str, Any] = {
        "augmentation": augmentation,
        "data": data,
        "mask_loss" if isinstance(loss, MaskLoss) else "loss": loss,
        "training": training,
        "evaluation": evaluation,
    }
    model.metadata = {
        "classes": train_set.classes.as_dict(),
        "recipe": {"model": model.config, **{name: dataclasses.asdict(value) for name, value in settings.items()}},
    }
    run = start(
        model, training, accelerator, Path(out), resume=resume, resume_changed=resume_changed, reporter=reporter
    )
    passes, device, criterion = training.accumulate, accelerator.device, accelerate_loss(loss)
    batches = iter(
        training_loader(
            train_set,
            training_transform(augmentation, Normalization(tuple(model.config["mean"]), tuple(model.config["std"]))),
            seed=training.seed,
            batch_size=training.batch_size // (passes * accelerator.num_processes),
            first_sample=run.samples,
            steps=(training.steps - run.step) * passes,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            workers=data.workers,
            pin_memory=device.type == "cuda",
        )
    )
    model.train()
    with reporter.training(run.step, training.steps):
        while run.step < training.steps:
            lr = training.lr_at(run.step)
            for group in run.optimizer.param_groups:
                group["lr"] = lr * group["factor"]
            # On the CPU: what the losses are divided by is counted in the labels of all passes, before the first.
            step_batches = [next(batches) for _ in range(passes)]
            counts = share_of_step([batch.label for batch in step_batches], len(train_set.classes), accelerator)
            for number, batch in enumerate(step_batches):
                image, label = batch.image.to(device, non_blocking=True), batch.label.to(device, non_blocking=True)
                seed_dropout(training.seed, run.step * passes + number, accelerator.process_index)
                with accelerator.accumulate(run.network):
                    losses = criterion(run.network(image), label, counts=counts)
                    run.note(losses)
                    accelerator.backward(losses.total)
                    if accelerator.sync_gradients and training.clip_norm is not None:
                        accelerator.clip_grad_norm_(run.network.parameters(), training.clip_norm)
                    run.optimizer.step()
                    run.optimizer.zero_grad()
            run.finish_step(lr)
            if run.due(training.evaluate_every):
                run.evaluate(evaluation, val_set, workers=data.workers)
            if run.due(training.save_every):
                run.save()
    if run.evaluated is None:  # a finished run was resumed
        run.evaluate(evaluation, val_set, workers=data.workers)
    run.close()
    assert run.evaluated is not None
    return run.evaluated


def share_of_step(labels: Sequence[Tensor], num_classes: int, accelerator: Accelerator) -> LabelCounts | None:
    """Count the labels of a whole step, and share the counts out to its passes and processes.

    Each pass divides its sums by this share, Accelerate the gradients by the passes, and DDP takes the mean over the
    processes: so every pixel of the step weighs the same, however they are spread.

    Args:
        labels: Labels [B, H, W] of this process, one a pass.
        num_classes: Classes K.
        accelerator: Knows the other processes.

    Returns:
        The share; None for a single pass of a single process, which has all that there is to count.
    """
    parts = len(labels) * accelerator.num_processes
    if parts == 1:
        return None
    passes = [count_label(label, num_classes) for label in labels]
    counts = torch.stack([torch.cat(counted) for counted in passes]).sum(0)
    total = accelerator.reduce(counts.float().to(accelerator.device), "sum")
    return LabelCounts(*(total / parts).split([num_classes, num_classes + 1]))


def seed_dropout(seed: int, number: int, rank: int) -> None:
    """Make dropout and stochastic depth a function of (seed, pass, process), so that a resumed run repeats them."""
    mixed = np.random.SeedSequence([seed, number, rank]).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(mixed))
