"""What a training run keeps: weights, optimiser, averages, logs and checkpoints, and how it goes on after a stop."""

import csv
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from semask import checkpoint
from semask.data import SegmentationDataset
from semask.data.images import encoded
from semask.evaluate import Evaluation, describe, evaluate_model
from semask.files import write_whole, written_whole
from semask.inference import Inference, Predictor, to_image
from semask.losses import Losses
from semask.model import SeMask
from semask.pictures import colorize, side_by_side

STATE = "resume.safetensors"
SAMPLES = 4
CHANGEABLE = {
    "data": {"root", "workers", "check"},
    "training": {"log_every", "save_every", "evaluate_every", "cpu"},
}
"""Settings of the recipe that a resumed run may change: they don't change its numbers."""


class Run:
    """The state of a training run after `step` optimiser steps.

    Args:
        model: Model to train; `metadata` holds its recipe and classes.
        optimizer: Optimiser of the model's parameters.
        accelerator: Devices, precision, processes.
        out: Folder of the run.
        steps: Optimiser steps of the whole run.
        ema: Decay of the moving average of the weights; None for none.
        log_every: Steps between two lines of the log.
        batch_size: Images of a step over all processes.

    Attributes:
        step: Optimiser steps done.
        network: The model as the engine wraps it.
        evaluated: The last evaluation, None before the first.
    """

    def __init__(
        self,
        model: SeMask,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        out: Path,
        *,
        steps: int,
        ema: float | None,
        log_every: int,
        batch_size: int,
    ) -> None:
        self.model, self.accelerator, self.out = model, accelerator, out
        self.steps, self.log_every, self.batch_size = steps, log_every, batch_size
        self.step, self.best = 0, -1.0
        self.evaluated: Evaluation | None = None
        self.average = averaged(model, ema) if ema is not None else None
        self.network, self.optimizer = accelerator.prepare(model, optimizer)
        if self.average is not None:
            self.average.to(accelerator.device)
        self.losses: list[Losses] = []
        self.console = Console(stderr=True, quiet=not accelerator.is_main_process)
        self._restart_clock()

    @property
    def trained(self) -> SeMask:
        """The model to use: the moving average where there is one."""
        model = self.model if self.average is None else cast(SeMask, self.average.module)
        model.metadata = self.model.metadata
        return model

    def progress(self) -> Progress:
        """Bar with loss, learning rate, images/s and the time left."""
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.accelerator.is_main_process,
        )
        self.task = self.bar.add_task("", total=self.steps, completed=self.step, text="")
        return self.bar

    def note(self, losses: Losses) -> None:
        """Remember the losses of a pass.

        Raises:
            ValueError: If the loss is no number any more; no weight has been changed by it.
        """
        if not torch.isfinite(losses.total):
            lr = self.optimizer.param_groups[0]["lr"]
            kept = (
                f"the state of the last save is in {self.out}" if (self.out / STATE).exists() else "nothing was saved"
            )
            raise ValueError(
                f"the loss is {losses.total.item()} at step {self.step} (learning rate {lr:.2e}): lower training.lr, "
                f"set training.clip_norm or use training.precision fp32; {kept}"
            )
        self.losses.append(Losses(*(x.detach() for x in losses)))

    def finish_step(self, lr: float) -> None:
        """Count a step, update the average, and log when it is time."""
        self.step += 1
        if self.average is not None:
            self.average.update_parameters(self.accelerator.unwrap_model(self.network))
        self.bar.advance(self.task)
        if self.due(self.log_every):
            self._log_losses(lr)

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and at the end, happens now; 0: only at the end."""
        return self.step == self.steps or (every > 0 and self.step % every == 0)

    def _log_losses(self, lr: float) -> None:
        means = torch.stack([torch.stack(losses) for losses in self.losses]).mean(0)
        total, main, prior = self.accelerator.reduce(means, "mean").tolist()
        images, seconds = (self.step - self.clock[0]) * self.batch_size, time.perf_counter() - self.clock[1]
        row = {"loss": total, "main": main, "prior": prior, "lr": lr, "images/s": images / seconds}
        self.losses = []
        self._restart_clock()
        text = f"loss {total:.4f}  lr {lr:.2e}  {row['images/s']:.1f} images/s"
        self.bar.update(self.task, text=text)
        if not self.console.is_terminal:
            self.console.print(f"step {self.step}/{self.steps}  {text}", highlight=False)
        self._track("train", row)
        self._append("log.csv", row)

    def _restart_clock(self) -> None:
        """Measure images/s from now on: (step, seconds)."""
        self.clock = (self.step, time.perf_counter())

    def evaluate(self, inference: Inference, dataset: SegmentationDataset, *, workers: int) -> None:
        """Measure the model, log scores and sample predictions, and keep the checkpoint if it is the best so far."""
        checkpoint.require_finite(self.out / "best.safetensors", self.trained)
        predictor = Predictor(self.trained, inference)
        if self.accelerator.num_processes > 1:
            for buffer in predictor.model.buffers():  # BatchNorm's statistics differ where they are not shared
                torch.distributed.broadcast(buffer, src=0)
        self.evaluated = result = evaluate_model(
            predictor,
            dataset,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            workers=workers,
            progress=self.accelerator.is_main_process,
        )
        self.model.metadata |= {"step": self.step, "metrics": describe(result, dataset.classes.names)}
        row = {"miou": result.scores.miou, "mean_accuracy": result.scores.mean_accuracy}
        row |= {"overall_accuracy": result.scores.overall_accuracy}
        row |= {f"prior_{stage}": prior.miou for stage, prior in enumerate(result.priors, start=1)}
        self.console.print(f"step {self.step}/{self.steps}  mIoU {100 * row['miou']:.2f} %", highlight=False)
        self._track("val", row)
        self._append("evaluation.csv", row)
        if self.accelerator.is_main_process:
            self._log_samples(predictor, dataset)
            if row["miou"] > self.best:
                checkpoint.save(self.out / "best.safetensors", self.trained, self.model.metadata)
        self.best = max(self.best, row["miou"])
        self.model.train()
        self._restart_clock()

    def _log_samples(self, predictor: Predictor, dataset: SegmentationDataset) -> None:
        """Draw image, label, prediction and priors of a few validation images."""
        for i in np.linspace(0, len(dataset) - 1, min(SAMPLES, len(dataset)), dtype=int):
            image, label = dataset[int(i)]
            prediction = predictor(image, confidence=False, priors=True)
            maps = [label.numpy(), prediction.label, *prediction.priors]
            picture = side_by_side([to_image(image), *(colorize(x, dataset.classes) for x in maps)])
            write_whole(self.out / "samples" / f"{i:05d}_step{self.step}.png", encoded(picture, "PNG"))
            tracker = self.accelerator.get_tracker("tensorboard")
            tracker.log_images({f"sample/{i}": np.asarray(picture)[None]}, step=self.step, dataformats="NHWC")

    def _track(self, group: str, row: Mapping[str, float]) -> None:
        """Add points to the curves in TensorBoard."""
        try:
            self.accelerator.log({f"{group}/{name}": value for name, value in row.items()}, step=self.step)
        except OSError as error:
            raise ValueError(
                f"{self.out}: TensorBoard's events could not be written ({error}): free some space; checkpoints are "
                "untouched"
            ) from error

    def _append(self, name: str, row: Mapping[str, float]) -> None:
        """Add a line to a CSV file of the run."""
        if not self.accelerator.is_main_process:
            return
        path = self.out / name
        new = not path.exists()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                if new:
                    writer.writerow(["step", *row])
                writer.writerow([self.step, *(f"{value:.6g}" for value in row.values())])
        except OSError as error:
            raise ValueError(
                f"{path}: could not be written ({error}): free some space; checkpoints are untouched"
            ) from error

    def save(self) -> None:
        """Write the last checkpoint and the state that `resume` needs, each whole or not at all."""
        # Not logged yet: the next line of the log is the mean over these and what follows.
        losses = [self.accelerator.reduce(torch.stack(x), "mean").tolist() for x in self.losses]
        if not self.accelerator.is_main_process:
            return
        self.model.metadata["step"] = self.step
        checkpoint.save(self.out / "last.safetensors", self.trained, self.model.metadata)
        tensors = {f"model.{name}": x for name, x in self.model.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": x for name, x in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": x for name, x in state.items()}
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None
        checkpoint.write_tensors(
            self.out / STATE,
            {name: x.detach().cpu().contiguous() for name, x in tensors.items()},
            {
                "step": self.step,
                "best": self.best,
                "processes": self.accelerator.num_processes,
                "losses": losses,
                "scaler": scaler,
                "recipe": self.model.metadata["recipe"],
            },
        )

    def resume(self) -> None:
        """Go back to the last saved state.

        Raises:
            ValueError: If there is none, or it belongs to a run with other settings.
        """
        tensors, saved = checkpoint.read_tensors(self.out / STATE)
        compare_recipes(saved.get("recipe", {}), self.model.metadata["recipe"])
        processes = self.accelerator.num_processes
        if saved.get("processes", processes) != processes:
            raise ValueError(
                f"the run to resume was started with {saved['processes']} processes, this are {processes}: the numbers "
                "would not be the same; start as many, or a new run in another folder"
            )
        try:
            self._restore(tensors, saved)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"{self.out / STATE}: not the state of this run ({str(error).splitlines()[0]}): start a new run in "
                "another folder"
            ) from error

    def _restore(self, tensors: Mapping[str, Tensor], saved: Mapping[str, Any]) -> None:
        self.model.load_state_dict(part(tensors, "model."))
        if self.average is not None:
            self.average.load_state_dict(part(tensors, "average."))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part(tensors, "optimizer.").items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        if saved["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        self.losses = [Losses(*torch.tensor(x, device=self.accelerator.device)) for x in saved["losses"]]
        self.step, self.best = saved["step"], saved["best"]
        self._restart_clock()

    def forget_later(self) -> None:
        """Drop the lines that a stopped run logged after the step that this one begins with."""
        if not self.accelerator.is_main_process:
            return
        for path in (self.out / "log.csv", self.out / "evaluation.csv"):
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            kept = [line for line in lines[1:] if int(line.split(",")[0]) <= self.step]
            if kept:
                with written_whole(path) as temporary:
                    temporary.write_text("\n".join([lines[0], *kept]) + "\n", encoding="utf-8")
            else:
                path.unlink(missing_ok=True)


def averaged(model: SeMask, decay: float) -> AveragedModel:
    """Copy of a model that follows its weights as an exponential moving average."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose name begins with a prefix, without it."""
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


def compare_recipes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with settings that would change the numbers.

    Raises:
        ValueError: If a setting differs; the message names it.
    """
    for group, settings in now.items():
        for name, value in settings.items():
            before = saved.get(group, {}).get(name)
            same = plain(before) == plain(value)
            if not same and name not in CHANGEABLE.get(group, set()):
                raise ValueError(
                    f"{group}.{name} is {value}, but the run to resume was started with {before}: "
                    "give the same settings, or start a new run in another folder"
                )


def plain(value: Any) -> Any:
    """A setting as JSON gives it back: tuples become lists."""
    return [plain(x) for x in value] if isinstance(value, list | tuple) else value
