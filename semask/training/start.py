"""What has to be decided and checked before the first step of a training: precision, devices, data, optimizer."""

import logging
from pathlib import Path
from typing import Any, cast, get_args

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from safetensors import SafetensorError, safe_open
from torch import nn

from semask.acceleration.accelerate import accelerate
from semask.acceleration.precision import choose
from semask.checkpoints.pretrained import load_pretrained
from semask.data import diagnostics
from semask.data.dataset import SegmentationDataset
from semask.data.source import Data
from semask.evaluation import check_classes
from semask.extras import require
from semask.files.reading import parse_json, require_file
from semask.files.reporter import Reporter
from semask.files.text import one_line, reason
from semask.losses.mask import MaskLoss
from semask.losses.pixel import PixelLoss
from semask.model import SeMask
from semask.settings.precision import Asked, Choice
from semask.settings.training import Training
from semask.training.run import Run
from semask.training.state import STATE, require_free, require_run


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
    channels = model.config["in_channels"]
    if train_set.channels != channels:
        raise ValueError(
            f"the model takes {channels} channels, but {train_set.name} is read with {train_set.channels}: "
            f"set data.channels to {channels} (1, 3 or 4), or model.in_channels, mean and std to fit the data"
        )
    classes = len(train_set.classes)
    if isinstance(loss, MaskLoss) != model.decoder.makes_masks:
        kind = "MaskLoss" if model.decoder.makes_masks else "PixelLoss"
        raise ValueError(f"decoder {model.config['decoder']} is trained with {kind}, not with {type(loss).__name__}")
    if isinstance(loss, PixelLoss) and loss.class_weights is not None and len(loss.class_weights) != classes:
        raise ValueError(
            f"loss.class_weights has {len(loss.class_weights)} values for {classes} classes: give one a class"
        )


def check_files(data: Data, train_set: SegmentationDataset, val_set: SegmentationDataset, reporter: Reporter) -> None:
    """Read the files of both splits as `data.check` says, and warn of what is odd about them.

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
            dataset.check(level=data.check, allow_empty_masks=data.allow_empty_masks, track=reporter.track),
        )
        for name, dataset in datasets.items()
    ]
    lines: list[str | None] = [diagnostics.unread_line(name, dataset) for name, dataset in datasets.items()]
    lines += diagnostics.notes_of(train_set, val_set)
    if data.check != "none":
        lines += [*diagnostics.warnings_of(*splits), diagnostics.shared_line(train_set, val_set)]
    if data.check == "labels":
        lines += [diagnostics.dark_images_line(dataset) for dataset in datasets.values()]
    reporter.warn(lines)


def start(
    model: SeMask,
    training: Training,
    accelerator: Accelerator,
    out: Path,
    *,
    resume: bool,
    resume_changed: bool = False,
    reporter: Reporter,
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
    run = Run(
        model,
        torch.optim.AdamW(parameter_groups(model, training), lr=training.lr, betas=training.betas),
        accelerator,
        out,
        steps=training.steps,
        ema=training.ema,
        log_every=training.log_every,
        batch_size=training.batch_size,
        reporter=reporter,
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
