"""What has to be decided and checked before the first step of a training: precision, devices, data, optimizer."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import nn

from semask.acceleration.accelerate import accelerate
from semask.acceleration.precision import choose
from semask.checkpoints.pretrained import load_pretrained
from semask.data import diagnostics
from semask.data.classes import Classes
from semask.data.dataset import SegmentationDataset
from semask.data.format import Split
from semask.data.source import Data
from semask.data.transforms import Augmentation
from semask.doctor.quick import SAID_BY_CHECK, quick_lines
from semask.evaluation.evaluate import check_classes
from semask.extras import require
from semask.files.reporter import Reporter
from semask.files.text import one_line, reason
from semask.losses.mask import MaskLoss
from semask.losses.pixel import PixelLoss
from semask.model import SeMask
from semask.reporting.charts import require_matplotlib
from semask.settings.precision import Asked, Choice
from semask.settings.training import Training
from semask.training.callbacks import Callback
from semask.training.length import saved_runs
from semask.training.pace import Pace
from semask.training.parameters import parameter_groups
from semask.training.run import Run
from semask.training.state import require_free, require_run
from semask.training.trackers import configure, make_trackers, require_trackers


def default_loss(model: SeMask) -> PixelLoss | MaskLoss:
    """Loss with the published weights for the decoder of a model."""
    return MaskLoss().for_decoder(model.decoder) if model.decoder.makes_masks else PixelLoss()


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
    for saved in saved_runs(out):
        precision = saved["recipe"]["training"].get("precision")
        if precision in get_args(Asked):
            return cast(Asked, precision)
    return None


def make_accelerator(training: Training, out: str, *, resume: bool = False, skips_maps: bool = False) -> Accelerator:
    """Set up devices, precision and logs.

    Args:
        training: Settings.
        out: Folder of the logs.
        resume: Whether a run goes on.
        skips_maps: Whether the decoder leaves some maps out, whose norms then get no gradient.

    Raises:
        ValueError: If the machine or the number of processes does not fit the settings, or a package is missing.
    """
    on_cpu = training.cpu or not torch.cuda.is_available()
    if training.precision == "fp16" and on_cpu:
        raise ValueError("training.precision is fp16, which needs a GPU: use bf16 or fp32 on a CPU")
    require_trackers(training.log_with)
    if training.report:
        require_matplotlib()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    AcceleratorState._reset_state(reset_partial_state=True)  # it would keep the precision of an earlier run's process
    accelerator = Accelerator(
        mixed_precision="no" if training.precision == "fp32" else training.precision,
        gradient_accumulation_steps=training.accumulate,
        cpu=training.cpu,
        project_dir=out,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=skips_maps)],
    )
    if len(set(gather_object([training.precision]))) > 1:
        raise ValueError("training.precision is auto, bf16 on some of the machines and fp32 on others: give one")
    if len(set(gather_object([resume]))) > 1:
        raise ValueError(f"only some of the processes find a run in {one_line(out)}: --out has to be on a shared disk")
    parts = training.accumulate * accelerator.num_processes
    if training.batch_size % parts:
        raise ValueError(
            f"training.batch_size is {training.batch_size}, but is shared by {accelerator.num_processes} processes and "
            f"training.accumulate = {training.accumulate} passes: give a multiple of {parts}"
        )
    return accelerator


def check_settings(
    model: SeMask,
    train_set: SegmentationDataset,
    val_set: SegmentationDataset,
    loss: PixelLoss | MaskLoss,
    augmentation: Augmentation,
) -> None:
    """Find what does not fit together before anything is read.

    Raises:
        ValueError: If model, data and loss have different classes, images have too many channels for a step of the
            augmentation, or a package is missing.
    """
    for dataset in (train_set, val_set):
        check_classes(model, dataset)
    channels = model.config["in_channels"]
    if train_set.channels != channels:
        raise ValueError(
            f"the model takes {channels} channels, but {train_set.name} is read with {train_set.channels}: "
            f"set data.channels to {channels}, or model.in_channels, mean and std to fit the data"
        )
    classes = len(train_set.classes)
    if isinstance(loss, MaskLoss) != model.decoder.makes_masks:
        kind = "MaskLoss" if model.decoder.makes_masks else "PixelLoss"
        raise ValueError(f"decoder {model.config['decoder']} is trained with {kind}, not with {type(loss).__name__}")
    if isinstance(loss, PixelLoss) and isinstance(loss.class_weights, tuple) and len(loss.class_weights) != classes:
        raise ValueError(
            f"loss.class_weights has {len(loss.class_weights)} values for {classes} classes: give one a class"
        )
    augmentation.require_channels(train_set.channels)
    if isinstance(loss, PixelLoss) and (loss.dice_weight or loss.lovasz_weight):
        require("segmentation_models_pytorch")
    if augmentation.copy_paste:
        require("scipy")


def check_files(
    data: Data, train_set: SegmentationDataset, val_set: SegmentationDataset, reporter: Reporter
) -> NDArray[np.uint32] | None:
    """Read the files of both splits as `data.check` says, and warn of what is odd about them.

    Returns:
        Pixels of each class in each training mask, [N, K]; None if they were not read.

    Raises:
        ValueError: If a file is bad, or it has to be said what 255 means in the masks.
    """
    datasets: dict[Split, SegmentationDataset] = {"train": train_set, "val": val_set}
    if data.check == "none":  # a run that never sees class 1 would end with a score all the same
        for dataset in datasets.values():
            dataset.require_decided()
    splits = [
        diagnostics.Split.of(
            name,
            dataset,
            dataset.check(level=data.check, allow_empty_masks=data.allow_empty_masks, track=reporter.track),
        )
        for name, dataset in datasets.items()
    ]
    lines: list[str | None] = [
        tell(name, dataset)
        for tell in (diagnostics.unread_line, diagnostics.unlabeled_line)
        for name, dataset in datasets.items()
    ]
    lines += diagnostics.notes_of(train_set, val_set)
    if data.check != "none":
        shared = diagnostics.shared_line(train_set, val_set)
        # Images of the same pixels in other files are the doctor's to find.
        said = SAID_BY_CHECK if shared is not None else SAID_BY_CHECK - {"shared-image"}
        lines += [*diagnostics.warnings_of(*splits), shared, *quick_lines(data, datasets, said=said)]
    if data.check == "labels":
        lines += [diagnostics.dark_images_line(dataset) for dataset in datasets.values()]
    reporter.warn(lines)
    return splits[0].checked.pixels_of_each


def prepare(
    model: SeMask,
    training: Training,
    accelerator: Accelerator,
    out: Path,
    *,
    classes: Classes,
    resume: bool,
    pace: Pace,
    reporter: Reporter,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Make a run whose steps can be done, but for the state that it begins with.

    Raises:
        ValueError: If the folder holds a run that is not to be resumed, or none that could be.
    """
    if resume:
        require_run(out)
    else:
        require_free(out)
    if training.pretrained is not None and not resume:
        report = load_pretrained(model, training.pretrained)
        for line in f"pretrained {training.pretrained}: {report}".split("\n"):
            reporter.note(line)
    if training.gradient_checkpointing:  # a backbone of your own need not know of it
        model.encoder.backbone.set_gradient_checkpointing(True)
    if training.sync_batchnorm and accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    if training.compile:
        model.compile()
    else:
        accelerate(model)
    return Run(
        model,
        torch.optim.AdamW(parameter_groups(model, training), lr=training.lr, betas=training.betas),
        accelerator,
        out,
        training=training,
        classes=classes,
        pace=pace,
        reporter=reporter,
        callbacks=callbacks,
    )


def start(run: Run, *, resume: bool, resume_changed: bool = False) -> None:
    """Begin a run, or go on with the one in the folder.

    Raises:
        ValueError: If that one is another run, or the folder can't be written to.
    """
    if resume or resume_changed:
        run.resume(changed=resume_changed)
    else:
        run.begin()
    run.check_report()
    accelerator = run.accelerator
    try:
        accelerator.log_with = make_trackers(run.training.log_with, run.out, first_step=run.step + 1)
        accelerator.init_trackers("semask")  # each tracker has a project of its own
        configure(accelerator.trackers, run.model.metadata["recipe"])
    except OSError as error:
        raise ValueError(
            f"{one_line(run.out)}: could not be written ({reason(error)}): choose another --out"
        ) from error
