"""What a training run keeps: weights, optimizer, averages, logs and checkpoints, and how it goes on after a stop."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from semask.checkpoints.saving import require_finite, save
from semask.checkpoints.tensors import read_header
from semask.data.dataset import SegmentationDataset
from semask.data.images import encoded
from semask.evaluation import Evaluation, describe, evaluate_model
from semask.files.atomic import sync, write_whole
from semask.files.reading import parse_json, read_text
from semask.files.reporter import Reporter
from semask.files.text import one_line, reason
from semask.losses.pixel import Losses
from semask.model import SeMask
from semask.prediction.pictures import colorize, side_by_side, to_picture
from semask.prediction.predictor import Predictor
from semask.settings.inference import Inference
from semask.training.log import RunLog
from semask.training.state import (
    Change,
    read_state,
    recipe_changes,
    require_like,
    require_possible,
    require_same,
    require_state,
    write_state,
)

SAMPLES = 4


class Run:
    """The state of a training run after `step` optimizer steps.

    A run is its state on the disk: that is written before anything else of a run, before the first step and at every
    save, so that whatever lies in the folder after a kill belongs to a run that can go on.

    Args:
        model: Model to train; `metadata` holds its recipe and classes.
        optimizer: Optimizer of the model's parameters.
        accelerator: Devices, precision, processes.
        out: Folder of the run.
        steps: Optimizer steps of the whole run.
        ema: Decay of the moving average of the weights; None for none.
        log_every: Steps between two lines of the log.
        batch_size: Images of a step over all processes.
        reporter: Is told how far the run is.

    Attributes:
        step: Optimizer steps done.
        samples: Training samples seen in these steps, over all processes.
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
        reporter: Reporter,
    ) -> None:
        self.model, self.accelerator, self.out = model, accelerator, out
        self.steps, self.log_every, self.batch_size = steps, log_every, batch_size
        self.step, self.samples, self.best = 0, 0, -1.0
        self.saved_step, self.newest_is_whole = 0, False
        self.log = RunLog(out / "log.csv", ["loss", "main", "prior", "lr", "images/s"])
        self.scores = RunLog(out / "evaluation.csv", ["miou", "mean_accuracy", "overall_accuracy"], more="prior_")
        self.evaluated: Evaluation | None = None
        self.average = averaged(model, ema) if ema is not None else None
        self.network, self.optimizer = accelerator.prepare(model, optimizer)
        if self.average is not None:
            self.average.to(accelerator.device)
        self.losses: list[Losses] = []
        self.reporter = reporter
        self._restart_clock()

    @property
    def trained(self) -> SeMask:
        """The model to use: the moving average where there is one."""
        model = self.model if self.average is None else cast(SeMask, self.average.module)
        model.metadata = self.model.metadata
        return model

    def note(self, losses: Losses) -> None:
        """Remember the losses of a pass.

        Raises:
            ValueError: If the loss is NaN or infinite; no weight was changed by it.
        """
        if not torch.isfinite(losses.total):
            lr = self.optimizer.param_groups[0]["lr"]
            kept = f"the state of the last save is in {self.out}" if self.saved_step else "nothing was saved"
            raise ValueError(
                f"the loss is {losses.total.item()} at step {self.step} (learning rate {lr:.2e}): lower training.lr, "
                f"set training.clip_norm or use training.precision fp32; {kept}"
            )
        self.losses.append(Losses(*(x.detach() for x in losses)))

    def finish_step(self, lr: float) -> None:
        """Count a step, update the average, and log when it is time."""
        self.step += 1
        self.samples += self.batch_size
        if self.average is not None:
            self.average.update_parameters(self.accelerator.unwrap_model(self.network))
        losses = self._log_losses(lr) if self.due(self.log_every) else None
        self.reporter.step(self.step, self.steps, losses, self.trained)

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and at the end, happens now; 0: only at the end."""
        return self.step == self.steps or (every > 0 and self.step % every == 0)

    def _log_losses(self, lr: float) -> str:
        """Log the means of the losses since the last time, and say them in a line."""
        means = torch.stack([torch.stack(losses) for losses in self.losses]).mean(0)
        total, main, prior = self.accelerator.reduce(means, "mean").tolist()
        images, seconds = (self.step - self.clock[0]) * self.batch_size, time.perf_counter() - self.clock[1]
        row = {"loss": total, "main": main, "prior": prior, "lr": lr, "images/s": images / seconds}
        self.losses = []
        self._restart_clock()
        self._track("train", row)
        if self.accelerator.is_main_process:
            self.log.append(self.step, row)
        return f"loss {total:.4f}  lr {lr:.2e}  {row['images/s']:.1f} images/s"

    def _restart_clock(self) -> None:
        """Measure images/s from now on: (step, seconds)."""
        self.clock = (self.step, time.perf_counter())

    def evaluate(self, inference: Inference, dataset: SegmentationDataset, *, workers: int) -> None:
        """Evaluate the model, log scores and sample predictions, and keep the checkpoint if it is the best so far."""
        require_finite(self.out / "best.safetensors", self.trained)
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
            track=self.reporter.track,
        )
        self.model.metadata |= {"step": self.step, "metrics": describe(result, dataset.classes.names)}
        row = {"miou": result.scores.miou, "mean_accuracy": result.scores.mean_accuracy}
        row |= {"overall_accuracy": result.scores.overall_accuracy}
        row |= {f"prior_{stage}": prior.miou for stage, prior in enumerate(result.priors, start=1)}
        self.reporter.note(f"step {self.step}/{self.steps}  mIoU {100 * row['miou']:.2f} %")
        self._track("val", row)
        if self.accelerator.is_main_process:
            self.scores.append(self.step, row)
            self._log_samples(predictor, dataset)
            if row["miou"] > self.best:
                save(self.out / "best.safetensors", self.trained, self.model.metadata)
        self.best = max(self.best, row["miou"])
        self.model.train()
        self._restart_clock()

    def _log_samples(self, predictor: Predictor, dataset: SegmentationDataset) -> None:
        """Draw image, label, prediction and priors of a few validation images."""
        for i in np.linspace(0, len(dataset) - 1, min(SAMPLES, len(dataset)), dtype=int):
            image, label = dataset[int(i)]
            prediction = predictor(image, confidence=False, priors=True)
            maps = [label.numpy(), prediction.label, *prediction.priors]
            picture = side_by_side(
                [to_picture(image.permute(1, 2, 0).numpy()), *(colorize(x, dataset.classes) for x in maps)]
            )
            write_whole(self.out / "samples" / f"{i:05d}_step{self.step}.png", encoded(picture, "PNG"))
            tracker = self.accelerator.get_tracker("tensorboard")
            with self._writing_events():
                tracker.log_images({f"sample/{i}": np.asarray(picture)[None]}, step=self.step, dataformats="NHWC")

    def _track(self, group: str, row: Mapping[str, float]) -> None:
        """Add points to the curves in TensorBoard."""
        with self._writing_events():
            self.accelerator.log({f"{group}/{name}": value for name, value in row.items()}, step=self.step)

    def close(self) -> None:
        """End the logs."""
        with self._writing_events():
            self.accelerator.end_training()

    @contextlib.contextmanager
    def _writing_events(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ValueError(
                f"{self.out}: TensorBoard's events could not be written ({reason(error)}): free some space or choose "
                "another --out; checkpoints are untouched"
            ) from error

    def save(self) -> None:
        """Write the state that `resume` needs, then the last checkpoint, each whole or not at all."""
        # Not logged yet: the next line of the log is the mean over these and what follows.
        losses = [self.accelerator.reduce(torch.stack(x), "mean").tolist() for x in self.losses]
        if not self.accelerator.is_main_process:
            return
        self.model.metadata["step"] = self.step
        require_finite(self.out / "last.safetensors", self.trained)
        for log in (self.log, self.scores):
            sync(log.path)  # a state tells that its lines are there
        self._save_state(losses)
        save(self.out / "last.safetensors", self.trained, self.model.metadata)

    def _save_state(self, losses: list[list[float]]) -> None:
        tensors = {f"model.{name}": x for name, x in self.model.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": x for name, x in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": x for name, x in state.items()}
        metadata = self.model.metadata
        write_state(
            self.out,
            {name: x.detach().cpu().contiguous() for name, x in tensors.items()},
            {
                "step": self.step,
                "samples": self.samples,
                "best": self.best,
                "processes": self.accelerator.num_processes,
                "device": self.accelerator.device.type,
                "losses": losses,
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
                "parameters": self._parameters(),
                **{name: metadata[name] for name in ("recipe", "metrics", "changes") if name in metadata},
            },
            keep=self.newest_is_whole,
        )
        self.saved_step, self.newest_is_whole = self.step, True

    def _parameters(self) -> list[str]:
        """Names of the parameters in the order of the optimizer."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return [names[id(x)] for group in self.optimizer.param_groups for x in group["params"]]

    def begin(self) -> None:
        """Write the state before the first step; what an earlier run left that did not come that far is dropped.

        Raises:
            ValueError: If it can't be written, or a file of this name is not of a run.
        """
        for log in (self.log, self.scores):
            log.require_ours()
        self.accelerator.wait_for_everyone()  # before anything that the others look for is there
        if self.accelerator.is_main_process:
            self._save_state([])
        self._forget_later()

    def resume(self, *, changed: bool = False) -> None:
        """Go back to the last saved state.

        Args:
            changed: Whether to go on although something is other than it was that changes the numbers.

        Raises:
            ValueError: If there is none, it belongs to a run with other settings, or can't be gone on with.
        """
        state = read_state(self.out)
        if state.warning is not None:
            self.reporter.warn([state.warning])
        try:
            require_state(state.saved)
            changes = self._changes(state.saved)
            if not changed:
                require_same(changes)
            require_possible(changes, state.saved, steps=self.steps)
            self._restore(state.tensors, state.saved)
        except (KeyError, IndexError, RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{state.path}: not the state of this run ({reason(error)}): start a new run in another folder"
            ) from error
        self.saved_step, self.newest_is_whole = self.step, state.warning is None
        if changes:
            self._tell(changes)
        if self.accelerator.is_main_process:
            self._renew_last()
        self._forget_later()

    def _changes(self, saved: Mapping[str, Any]) -> list[Change]:
        """What is other than in the session that wrote a state, and changes the numbers."""
        machine = {"processes": self.accelerator.num_processes, "device": self.accelerator.device.type}
        return [
            *recipe_changes(saved["recipe"], self.model.metadata["recipe"]),
            *(Change(name, saved[name], now) for name, now in machine.items() if saved.get(name, now) != now),
        ]

    def _tell(self, changes: list[Change]) -> None:
        """Say how a run goes on otherwise than it began, and note it in what will be saved."""
        self.reporter.note(
            f"going on after step {self.step} and {self.samples} samples; the numbers will differ, because of"
        )
        for name, before, now in changes:
            self.reporter.note(f"- {name}: {one_line(before)} -> {one_line(now)}")
        note = {"step": self.step, "changes": {name: [before, now] for name, before, now in changes}}
        self.model.metadata["changes"] = [*self.model.metadata.get("changes", []), note]

    def _restore(self, tensors: Mapping[str, Tensor], saved: Mapping[str, Any]) -> None:
        require_like(part(tensors, "model."), self.model.state_dict())
        self.model.load_state_dict(part(tensors, "model."))
        if self.average is not None:
            require_like(part(tensors, "average."), self.average.state_dict())
            self.average.load_state_dict(part(tensors, "average."))
        self._restore_optimizer(part(tensors, "optimizer."), saved.get("parameters", self._parameters()))
        if saved["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        self.losses = [Losses(*torch.tensor(x, device=self.accelerator.device)) for x in saved["losses"]]
        self.step, self.best = saved["step"], saved["best"]
        # Before semask 0.2 the number of samples was not kept, and the batch could not change.
        self.samples = saved.get("samples", self.step * saved["recipe"]["training"]["batch_size"])
        if self.step:
            self.model.metadata["step"] = self.step
        self.model.metadata |= {name: saved[name] for name in ("metrics", "changes") if name in saved}
        self._restart_clock()

    def _restore_optimizer(self, tensors: Mapping[str, Tensor], names: list[str]) -> None:
        """Give every parameter its moments.

        Args:
            tensors: Moments, "INDEX.NAME".
            names: Names of the parameters by index; with other groups of parameters these are others than now.
        """
        places = {name: place for place, name in enumerate(self._parameters())}
        shapes = {name: parameter.shape for name, parameter in self.model.named_parameters()}
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            index, kind = key.split(".", 1)
            name = names[int(index)]
            if tensor.shape not in ((), shapes[name]):
                raise RuntimeError(f"the moments of {name} have another shape")
            state.setdefault(places[name], {})[kind] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _renew_last(self) -> None:
        """Write the last checkpoint of a run that was killed after it had written the state that belongs to it."""
        path, found = self.out / "last.safetensors", -1
        with contextlib.suppress(ValueError, KeyError):
            header = read_header(path)
            if parse_json(read_text(path.with_suffix(".json"))) == header:
                found = header["step"]
        if found < self.step and self.step > 0:
            save(path, self.trained, self.model.metadata)

    def _forget_later(self) -> None:
        """Drop the lines that a stopped run logged after the step that this one begins with."""
        if not self.accelerator.is_main_process:
            return
        for log in (self.log, self.scores):
            if fault := log.forget_after(self.step):
                self.reporter.warn([fault])


def averaged(model: SeMask, decay: float) -> AveragedModel:
    """Copy of a model that follows its weights as an exponential moving average."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose name begins with a prefix, without it."""
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
