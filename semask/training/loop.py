"""The verb `train`: a loop that reads in one screen, around Accelerate."""

import dataclasses
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from semask.acceleration.accelerate import accelerate
from semask.acceleration.cross_entropy import accelerate_loss
from semask.acceleration.precision import Asked, Choice, choose, tell
from semask.checkpoints.pretrained import load_pretrained
from semask.data import diagnostics
from semask.data.dataset import SegmentationDataset
from semask.data.loader import training_loader
from semask.data.normalization import Normalization
from semask.data.progress import Track, untracked
from semask.data.source import Data
from semask.data.transforms import Augmentation, training_transform
from semask.evaluation import Evaluation, check_classes
from semask.extras import require
from semask.files.reading import parse_json, require_file
from semask.files.text import make_console, one_line, reason
from semask.losses.label import LabelCounts, count_label
from semask.losses.mask import MaskLoss
from semask.losses.pixel import PixelLoss
from semask.model import SeMask
from semask.settings.inference import Inference
from semask.settings.training import Training
from semask.training.run import Run
from semask.training.state import STATE, require_free, require_run


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
    track: Track = untracked,
    warn: Callable[[Sequence[str | None]], None] | None = None,
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
        loss: What is minimised: `PixelLoss` for fpn, `MaskLoss` for the mask decoders; what it leaves "published" is
            that of the model's decoder.
        training: Optimiser, schedule, precision, and how often to log, save and evaluate.
        evaluation: How validation images are put through the model.
        resume: Go on from the last state in `out`, to the same numbers as a run without a stop; other settings, another
            number of processes or kind of device are refused.
        resume_changed: Go on from the last state in `out` with them all the same. What changes is printed, and noted in
            what is saved. Another model is refused.
        track: Shows how far the check of the files is.
        warn: Takes lines of warning about the data, None among them; by default they become Python's warnings.

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
    tell(chosen, make_console(quiet=not accelerator.is_main_process))
    train_set, val_set = data.dataset("train"), data.dataset("val")
    check_settings(model, train_set, val_set, loss)
    if accelerator.is_main_process:
        (warn or as_warnings)(check_files(data, train_set, val_set, track=track))
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
    run = start(model, training, accelerator, Path(out), resume=resume, resume_changed=resume_changed)
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
    with run.progress():
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


def default_loss(model: SeMask) -> PixelLoss | MaskLoss:
    """Loss with the published weights for the decoder of a model."""
    return MaskLoss().for_decoder(model.decoder) if model.decoder.makes_masks else PixelLoss()


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


def choose_precision(training: Training, out: Path, *, resume: bool) -> Choice:
    """Decide what a run computes in: with auto what the run to resume was started with, else what suits the device."""
    device = torch.device("cpu")
    if not training.cpu and torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator() or device
    before = started_with(out) if resume and training.precision == "auto" else None
    if before is None:
        return choose(training.precision, device)
    chosen = choose(before, device)
    return chosen if chosen.warning else chosen._replace(remark=f"precision {before} (the run was started with it)")


def started_with(out: Path) -> Asked | None:
    """Precision of the run in a folder, of any of its files: all hold its recipe. None if none can be read."""
    for path in (out / STATE, *sorted(out.glob("*.safetensors"))):
        try:
            with safe_open(require_file(path), framework="pt") as file:
                recipe = parse_json(file.metadata()["semask"])["recipe"]
            precision = recipe["training"]["precision"]
            if precision in get_args(Asked):
                return cast(Asked, precision)
        except (SafetensorError, OSError, ValueError, TypeError, KeyError):
            continue  # it is read again, and its faults are told, when the run goes on
    return None


def make_accelerator(training: Training, out: str, *, skips_maps: bool = False) -> Accelerator:
    """Set up devices, precision and logs.

    Args:
        training: Settings.
        out: Folder of the logs.
        skips_maps: Whether the decoder leaves some maps out, whose norms then get no gradient.

    Raises:
        ValueError: If the machine or the number of processes does not fit the settings, or a package is missing.
    """
    on_cpu = training.cpu or not torch.cuda.is_available()
    if training.precision == "fp16" and on_cpu:
        raise ValueError("training.precision is fp16, which needs a GPU: use bf16 or fp32 on a CPU")
    require("tensorboard")
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    AcceleratorState._reset_state(reset_partial_state=True)  # it would keep the precision of an earlier run's process
    accelerator = Accelerator(
        mixed_precision="no" if training.precision == "fp32" else training.precision,
        gradient_accumulation_steps=training.accumulate,
        cpu=training.cpu,
        log_with="tensorboard",
        project_dir=out,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=skips_maps)],
    )
    if len(set(gather_object([training.precision]))) > 1:
        raise ValueError("training.precision is auto, bf16 on some of the machines and fp32 on others: give one")
    parts = training.accumulate * accelerator.num_processes
    if training.batch_size % parts:
        raise ValueError(
            f"training.batch_size is {training.batch_size}, but is shared by {accelerator.num_processes} processes and "
            f"training.accumulate = {training.accumulate} passes: give a multiple of {parts}"
        )
    return accelerator


def check_settings(
    model: SeMask, train_set: SegmentationDataset, val_set: SegmentationDataset, loss: PixelLoss | MaskLoss
) -> None:
    """Find what does not fit together before anything is read.

    Raises:
        ValueError: If model, data and loss have different classes.
    """
    for dataset in (train_set, val_set):
        check_classes(model, dataset)
    bands = model.config["in_channels"]
    if train_set.channels != bands:
        raise ValueError(
            f"the model takes {bands} bands, but {train_set.name} is read with {train_set.channels}: "
            f"set data.channels to {bands} (1, 3 or 4), or model.in_channels, mean and std to fit the data"
        )
    classes = len(train_set.classes)
    if isinstance(loss, MaskLoss) != model.decoder.makes_masks:
        kind = "MaskLoss" if model.decoder.makes_masks else "PixelLoss"
        raise ValueError(f"decoder {model.config['decoder']} is trained with {kind}, not with {type(loss).__name__}")
    if isinstance(loss, PixelLoss) and loss.class_weights is not None and len(loss.class_weights) != classes:
        raise ValueError(
            f"loss.class_weights has {len(loss.class_weights)} values for {classes} classes: give one a class"
        )


def check_files(
    data: Data, train_set: SegmentationDataset, val_set: SegmentationDataset, *, track: Track = untracked
) -> list[str | None]:
    """Read the files of both splits as `data.check` says; returns lines of warning about them, None among them.

    Raises:
        ValueError: If a file is bad, or it has to be said what 255 means in the masks.
    """
    datasets = {"train": train_set, "val": val_set}
    if data.check == "none":  # a run that never sees class 1 would end with a score all the same
        for dataset in datasets.values():
            dataset.require_decided()
    splits = [
        diagnostics.Split.of(
            name,
            dataset,
            dataset.check(level=data.check, allow_empty_masks=data.allow_empty_masks, track=track),
        )
        for name, dataset in datasets.items()
    ]
    lines: list[str | None] = [diagnostics.unread_line(name, dataset) for name, dataset in datasets.items()]
    if data.check != "none":
        lines += [*diagnostics.warnings_of(*splits), diagnostics.shared_line(train_set, val_set)]
    if data.check == "labels":
        lines += [diagnostics.dark_images_line(dataset) for dataset in datasets.values()]
    return lines


def as_warnings(lines: Sequence[str | None]) -> None:
    """Give lines of warning to Python's `warnings`, each once; None is left out."""
    for line in dict.fromkeys(lines):
        if line is not None:
            warnings.warn(line, stacklevel=3)


def start(
    model: SeMask,
    training: Training,
    accelerator: Accelerator,
    out: Path,
    *,
    resume: bool,
    resume_changed: bool = False,
) -> Run:
    """Begin a run, or go on with the one in the folder.

    Raises:
        ValueError: If the folder holds a run that is not to be resumed, or none that could be.
    """
    resume = resume or resume_changed
    if resume:
        require_run(out)
    else:
        require_free(out)
    if training.pretrained is not None and not resume:
        report = load_pretrained(model, training.pretrained)
        accelerator.print("\n".join(map(one_line, f"pretrained {training.pretrained}: {report}".split("\n"))))
    if training.gradient_checkpointing:  # a backbone of your own need not know of it
        model.encoder.backbone.set_gradient_checkpointing(True)
    if training.sync_batchnorm and accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    if training.compile:
        model.compile()
    else:
        accelerate(model)
    run = Run(
        model,
        torch.optim.AdamW(parameter_groups(model, training), lr=training.lr, betas=training.betas),
        accelerator,
        out,
        steps=training.steps,
        ema=training.ema,
        log_every=training.log_every,
        batch_size=training.batch_size,
    )
    if resume:
        run.resume(changed=resume_changed)
    else:
        run.begin()
    try:  # TensorBoard shows the points of a stopped run that came after this step no more
        accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": run.step + 1}})
    except OSError as error:
        raise ValueError(f"{one_line(out)}: could not be written ({reason(error)}): choose another --out") from error
    return run


def parameter_groups(model: SeMask, training: Training) -> list[dict[str, Any]]:
    """Split parameters by weight decay and learning rate as the published recipes do.

    LayerNorm, GroupNorm, embeddings and relative position tables have no weight decay; BatchNorm, biases and the scale
    of the semantic attention have. The encoder's learning rate is `encoder_lr` times the others'.
    """
    kinds = (nn.LayerNorm, nn.GroupNorm, nn.Embedding)
    exempt = {id(p) for module in model.modules() if isinstance(module, kinds) for p in module.parameters()}
    exempt |= {id(p) for name, p in model.named_parameters() if name.endswith("relative_position_bias_table")}
    encoder = {id(p) for p in model.encoder.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        decay = 0.0 if id(parameter) in exempt else training.weight_decay
        factor = training.encoder_lr if id(parameter) in encoder else 1.0
        groups.setdefault((decay, factor), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "factor": factor, "lr": training.lr * factor}
        for (decay, factor), parameters in groups.items()
    ]


def seed_dropout(seed: int, number: int, rank: int) -> None:
    """Make dropout and stochastic depth a function of (seed, pass, process), so that a resumed run repeats them."""
    mixed = np.random.SeedSequence([seed, number, rank]).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(mixed))
