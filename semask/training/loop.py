"""`train`: a loop that reads in one screen, around Accelerate."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from semask.acceleration.cross_entropy import accelerate_loss
from semask.acceleration.devices import machine
from semask.data.dataset import SegmentationDataset
from semask.data.loader import Batch, training_loader
from semask.data.normalization import Normalization
from semask.data.rare import Balance
from semask.data.source import Data
from semask.data.transforms import Augmentation, training_transform
from semask.evaluation.evaluate import Evaluation
from semask.files.reporter import LineReporter, Reporter, Silent
from semask.files.text import one_line
from semask.losses.label import LabelCounts, count_label
from semask.losses.mask import MaskLoss
from semask.losses.pixel import Losses, PixelLoss
from semask.model import SeMask
from semask.prediction.processes import is_of_connection
from semask.settings.inference import Inference
from semask.settings.precision import tell
from semask.settings.training import Training
from semask.training.callbacks import Callback
from semask.training.fitting import fit
from semask.training.length import decide_steps, saved_runs, seconds_spent, steps_in_time, tell_length
from semask.training.pace import Pace
from semask.training.rare import require_counts, use_counts
from semask.training.run import Run
from semask.training.start import (
    check_files,
    check_settings,
    choose_precision,
    default_loss,
    make_accelerator,
    prepare,
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
    callbacks: Sequence[Callback] = (),
    reporter: Reporter | None = None,
) -> Evaluation:
    """Train a model; the best and the last checkpoint, logs and sample predictions go to a folder.

    Files: best.safetensors and last.safetensors (with .json copies of their headers), the folders resume (all that
    `resume` needs) and resume.previous (the one before), log.csv, evaluation.csv, and TensorBoard's events.
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
        callbacks: Code of your own that is called at the start, after each step and evaluation, and at the end.
        reporter: Is told how far it is, by the first process; None prints lines on the standard error stream.

    Returns:
        The last evaluation.

    Raises:
        ValueError: If something is wrong with the data or the settings (before the first step where it can be known),
            the loss is no longer a number, or a checkpoint can't be written.
        Exception: What a callback raised; the state is saved before.
    """
    pace = Pace()
    augmentation, loss = augmentation or Augmentation(), loss or default_loss(model)
    if isinstance(loss, MaskLoss):
        loss = loss.for_decoder(model.decoder)
    training, evaluation = training or Training(), evaluation or Inference()
    chosen = choose_precision(training, Path(out), resume=resume)
    training = dataclasses.replace(training, precision=chosen.precision)  # what it is goes into the recipe
    accelerator = make_accelerator(
        training, out, resume=resume or resume_changed, skips_maps=getattr(model.decoder, "skips_maps", False)
    )
    reporter = (reporter or LineReporter()) if accelerator.is_main_process else Silent()
    tell(chosen, reporter)
    train_set, val_set = data.dataset("train"), data.dataset("val")
    check_settings(model, train_set, val_set, loss, augmentation)
    require_counts(data, loss, augmentation)
    fit(
        model,
        data,
        {"train": train_set, "val": val_set},
        out=Path(out),
        resume=resume or resume_changed,
        accelerator=accelerator,
        reporter=reporter,
    )
    saved = next(saved_runs(Path(out)), {}) if resume or resume_changed else {}
    training, to_time = decide_steps(training, len(train_set), saved, changed=resume_changed)
    pace.spent = seconds_spent(saved)
    counted = check_files(data, train_set, val_set, reporter) if accelerator.is_main_process else None
    accelerator.wait_for_everyone()
    loss, balance = use_counts(counted, loss, augmentation, train_set.classes.names, reporter)
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
        "machine": machine(accelerator.device),
    }
    run = prepare(
        model,
        training,
        accelerator,
        Path(out),
        classes=train_set.classes,
        resume=resume or resume_changed,
        pace=pace,
        reporter=reporter,
        callbacks=callbacks,
    )
    work = Work(
        run,
        train_set,
        val_set,
        augmentation=augmentation,
        loss=loss,
        data=data,
        evaluation=evaluation,
        balance=balance,
    )
    if to_time:
        steps = time_steps(work, done=saved.get("step", 0))
        training = run.training = dataclasses.replace(training, steps=steps)
        model.metadata["recipe"]["training"]["steps"] = steps
    tell_length(training, len(train_set), reporter)
    with explained(accelerator.num_processes, Path(out)):
        start(run, resume=resume, resume_changed=resume_changed)
        run_steps(work)
    assert run.evaluated is not None
    return run.evaluated


@contextlib.contextmanager
def explained(processes: int, out: Path) -> Iterator[None]:
    """Say in one line that another process of a training is gone.

    Raises:
        ValueError: If so.
    """
    try:
        yield
    except (RuntimeError, CheckpointException) as error:
        if processes == 1 or not is_of_connection(error):
            raise
        raise ValueError(
            f"another of the {processes} processes died or can't be reached, its own lines may say why: start all of "
            f"them again with --resume, from the last save in {one_line(out)}"
        ) from error


class Work:
    """A run with what its steps are made of.

    Args:
        run: The run.
        train_set: Images to train on.
        val_set: Images to evaluate on.
        augmentation: How training images are varied.
        loss: What is minimized.
        data: Settings of the data.
        evaluation: How validation images are put through the model.
        balance: How samples and crops are drawn by class; None for every image alike.
    """

    def __init__(
        self,
        run: Run,
        train_set: SegmentationDataset,
        val_set: SegmentationDataset,
        *,
        augmentation: Augmentation,
        loss: PixelLoss | MaskLoss,
        data: Data,
        evaluation: Inference,
        balance: Balance | None = None,
    ) -> None:
        self.balance = balance
        self.run, self.train_set, self.val_set, self.inference = run, train_set, val_set, evaluation
        self.augmentation, self.criterion, self.workers = augmentation, accelerate_loss(loss), data.workers

    def batches(self, steps: int) -> Iterator[Batch]:
        """Batches of the next steps of the run, one for each pass."""
        run, config, training = self.run, self.run.model.config, self.run.training
        normalization = Normalization(tuple(config["mean"]), tuple(config["std"]))
        loader = training_loader(
            self.train_set,
            training_transform(
                self.augmentation, normalization, rare=self.balance.rare if self.balance is not None else None
            ),
            seed=training.seed,
            batch_size=training.batch_size // (training.accumulate * run.accelerator.num_processes),
            first_sample=run.samples,
            steps=steps * training.accumulate,
            rank=run.accelerator.process_index,
            world_size=run.accelerator.num_processes,
            workers=self.workers,
            pin_memory=run.accelerator.device.type == "cuda",
            balance=self.balance,
        )
        return iter(loader)

    def passes(self, batches: Iterator[Batch], number: int) -> Iterator[Losses]:
        """Put the batches of a step through the model.

        Args:
            batches: Those of the run.
            number: Number of the step, from 0.

        Yields:
            The losses of each pass.
        """
        run, device = self.run, self.run.accelerator.device
        training = run.training
        # On the CPU: what the losses are divided by is counted in the labels of all passes, before the first.
        step_batches = [next(batches) for _ in range(training.accumulate)]
        labels = [batch.label for batch in step_batches]
        counts = share_of_step(labels, len(self.train_set.classes), run.accelerator)
        for index, batch in enumerate(step_batches):
            image, label = batch.image.to(device, non_blocking=True), batch.label.to(device, non_blocking=True)
            seed_dropout(training.seed, number * training.accumulate + index, run.accelerator.process_index)
            with run.accelerator.accumulate(run.network):
                yield self.criterion(run.network(image), label, counts=counts)

    def evaluate(self) -> None:
        """Evaluate the model as it is."""
        self.run.evaluate(self.inference, self.val_set, workers=self.workers)


def run_steps(work: Work) -> None:
    """Do the steps that a run has left, and evaluate and save when it is time."""
    run = work.run
    training, accelerator = run.training, run.accelerator
    batches = work.batches(training.steps - run.step)
    run.train_mode()
    run.restart_clock()
    run.pace.warm_up()
    run.call("on_start")
    with run.reporter.training(run.step, training.steps):
        while not run.finished():
            lr = training.lr_at(run.step)
            for group in run.optimizer.param_groups:
                group["lr"] = lr * group["factor"]
            for losses in work.passes(batches, run.step):
                run.note(losses)
                accelerator.backward(losses.total)
                if accelerator.sync_gradients:
                    run.before_update()
                    if training.clip_norm is not None:
                        accelerator.clip_grad_norm_(run.network.parameters(), training.clip_norm)
                run.optimizer.step()
                run.optimizer.zero_grad()
            run.finish_step(lr)
            if run.due(training.evaluate_every):
                work.evaluate()
            run.call("on_step")
            if run.finished() and run.evaluated_step != run.step:
                work.evaluate()
            if run.due(training.save_every):
                run.save_timed()
            run.pace.restart()
        run.show_step(logged=False)  # no time is left
    if run.evaluated is None:  # a finished run was resumed
        work.evaluate()
    run.call("on_end")
    run.close()


def time_steps(work: Work, *, done: int) -> int:
    """Find out how many steps there is time for: time some, and forget them.

    Args:
        work: The run, before its state is there.
        done: Steps that were done in sessions before.
    """
    run = work.run
    run.reporter.note("timing the first steps ...")
    before = {name: x.detach().clone() for name, x in run.model.state_dict().items()}
    optimizer = torch.optim.AdamW(run.model.parameters(), lr=0.0)
    numbers = itertools.count()
    batches = work.batches(100_000)  # more than are timed

    def step() -> None:
        for losses in work.passes(batches, next(numbers)):
            (losses.total / run.training.accumulate).backward()  # type: ignore[no-untyped-call]
            losses.total.item()  # waits for a GPU
        optimizer.step()
        optimizer.zero_grad()

    run.train_mode()
    steps = steps_in_time(run, step, work.inference, work.val_set, done=done)
    run.model.load_state_dict(before)
    return steps


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
