"""What a run keeps on the disk: weights, optimizer, averages and counters, and how it goes on from there."""

import contextlib
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from semask.checkpoints.saving import require_finite, save
from semask.checkpoints.tensors import read_header
from semask.data.classes import Classes
from semask.files.atomic import sync
from semask.files.reading import parse_json, read_text
from semask.files.reporter import Reporter
from semask.files.text import one_line, reason
from semask.losses.pixel import Losses
from semask.model import SeMask
from semask.prediction.processes import all_or_none
from semask.settings.training import Training
from semask.training.best import Best
from semask.training.log import RunLog
from semask.training.pace import Pace
from semask.training.sharding import exchange, mesh_of_all, shard, whole
from semask.training.state import (
    FILES,
    Change,
    State,
    read_state,
    recipe_changes,
    require_like,
    require_possible,
    require_same,
    require_state,
    write_state,
)
from semask.training.state_files import read_into

NOTED = ("recipe", "metrics", "changes", "ended")
"""What a state holds of the description that its checkpoints have."""
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of a parameter that it has updated."""


class Ended(NamedTuple):
    """Why a run ended before its last step."""

    step: int
    why: str


class KeptRun:
    """The state of a training run after `step` optimizer steps.

    A run is its state on the disk: that is written before anything else of a run, before the first step and at every
    save, so that whatever lies in the folder after a kill belongs to a run that can go on.

    Args:
        model: Model to train; `metadata` holds its recipe and classes.
        optimizer: Optimizer of the model's parameters.
        accelerator: Devices, precision, processes.
        out: Folder of the run.
        training: Settings.
        classes: Classes of the data.
        pace: Times the run.
        reporter: Is told how far the run is.

    Attributes:
        step: Optimizer steps done.
        samples: Training samples seen in these steps, over all processes.
        network: The model as the engine wraps it.
        copy: With FSDP, a whole model to evaluate and to save; it has the weights of the last `gather`.
        best: The best score so far.
        ended: Why the run ended before its last step; None if it did not.
    """

    def __init__(
        self,
        model: SeMask,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        out: Path,
        *,
        training: Training,
        classes: Classes,
        pace: Pace,
        reporter: Reporter,
    ) -> None:
        self.model, self.accelerator, self.out, self.training = model, accelerator, out, training
        self.step, self.samples, self.ended = 0, 0, cast(Ended | None, None)
        self.best = Best(training.best_by, classes, patience=training.patience)
        self.pace, self.reporter = pace, reporter
        self.saved_step, self.newest_is_whole = 0, False
        self.log = RunLog(out / "log.csv", ["loss", "main", "prior", "lr", "images/s"])
        self.scores = RunLog(out / "evaluation.csv", ["miou", "mean_accuracy", "overall_accuracy"], more="prior_")
        self.average = averaged(model, training.ema) if training.ema is not None else None
        self.copy: SeMask | None = None
        if training.parallel == "fsdp" and accelerator.num_processes > 1:
            self._shard(optimizer)
        else:
            self.network, self.optimizer = accelerator.prepare(model, optimizer)
        if self.average is not None:
            self.average.to(accelerator.device)
        self.losses: list[Losses] = []

    def _shard(self, optimizer: torch.optim.Optimizer) -> None:
        """Share everything out to the processes; Accelerate is left what it does for one: precision and steps."""
        self.copy = copy.deepcopy(self.model).to(self.accelerator.device)
        if self.average is None:
            self.accelerator.prepare_model(self.copy, evaluation_mode=True)  # evaluates in the precision of training
        before, mesh = dict(self.model.named_parameters()), mesh_of_all(self.accelerator.device.type)
        shard(self.model, mesh)
        exchange(optimizer, before, dict(self.model.named_parameters()))
        if self.average is not None:
            shard(cast(SeMask, self.average.module), mesh)
        self.network = self.accelerator.prepare_model(self.model, device_placement=False, evaluation_mode=True)
        self.optimizer = self.accelerator.prepare(optimizer)

    @property
    def _latest(self) -> SeMask:
        return self.model if self.average is None else cast(SeMask, self.average.module)

    @property
    def trained(self) -> SeMask:
        """The model to use: the moving average where there is one; with FSDP it is that of the last `gather`."""
        model = self.copy or self._latest
        model.metadata = self.model.metadata
        return model

    def gather(self) -> None:
        """With FSDP, bring the whole model up to date; all processes call it together."""
        if self.copy is not None:
            self.copy.load_state_dict({name: whole(x) for name, x in self._latest.state_dict().items()})

    def save(self) -> None:
        """Write the state that `resume` needs, then the last checkpoint, each whole or not at all."""
        # Not logged yet: the next line of the log is the mean over these and what follows.
        losses = [self.accelerator.reduce(torch.stack(x), "mean").tolist() for x in self.losses]
        self.model.metadata["step"] = self.step
        self.gather()
        first = self.accelerator.is_main_process
        with all_or_none(self.accelerator.num_processes):
            if first:
                require_finite(self.out / "last.safetensors", self.trained)
                for log in (self.log, self.scores):
                    sync(log.path)  # a state tells that its lines are there
        self._save_state(losses)
        if first:
            save(self.out / "last.safetensors", self.trained, self.model.metadata)

    def _tensors(self) -> dict[str, Tensor]:
        """All tensors of the state, as they are in use: what is copied into one of them changes the run."""
        tensors = {f"model.{name}": x for name, x in self.model.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": x for name, x in self.average.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            moments = self.optimizer.state.get(parameter, {})  # none before its first update
            tensors |= {f"optimizer.{name}.{kind}": x for kind, x in moments.items()}
        return tensors

    def _save_state(self, losses: list[list[float]]) -> None:
        metadata = self.model.metadata
        write_state(
            self.out,
            self._tensors(),
            {
                "step": self.step,
                "samples": self.samples,
                "best": self.best.score,
                "stale": self.best.stale,
                "processes": self.accelerator.num_processes,
                "device": self.accelerator.device.type,
                "losses": losses,
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
                **({"seconds": self.pace.elapsed()} if self.training.minutes is not None else {}),
                **{name: metadata[name] for name in NOTED if name in metadata},
            },
            keep=self.newest_is_whole,
        )
        self.saved_step, self.newest_is_whole = self.step, True

    def begin(self) -> None:
        """Write the state before the first step; what an earlier run left that did not come that far is dropped.

        Raises:
            ValueError: If it can't be written, or a file of this name is not of a run.
        """
        for log in (self.log, self.scores):
            log.require_ours()
        self.accelerator.wait_for_everyone()  # before anything that the others look for is there
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
            named = state.path.name not in FILES or "parameters" in state.saved
            require_possible(changes, state.saved, steps=self.training.steps, named=named)
            self._restore(state)
        except (KeyError, IndexError, RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{state.path}: not the state of this run ({reason(error)}): start a new run in another folder"
            ) from error
        self.saved_step, self.newest_is_whole = self.step, state.warning is None
        if changes:
            self._tell(changes)
            self.ended = None  # by what was asked for before
            self.model.metadata.pop("ended", None)
        self.gather()
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

    def _restore(self, state: State) -> None:
        saved, tensors = state.saved, state.tensors
        if state.path.name in FILES:
            tensors = self._named(tensors, saved.get("parameters", self._parameters()))
        if self.average is None:
            tensors = {name: x for name, x in tensors.items() if not name.startswith("average.")}
        self._make_moments(tensors)
        now = self._tensors()
        require_like(tensors, now)
        if state.path.name in FILES:
            for name, x in now.items():
                x.copy_(like(tensors[name], x))
        else:
            read_into(state.path, now)
        if saved["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        self.losses = [Losses(*torch.tensor(x, device=self.accelerator.device)) for x in saved["losses"]]
        self.step = saved["step"]
        if saved["recipe"]["training"].get("best_by", "miou") == self.training.best_by:  # else they are other numbers
            self.best.score, self.best.stale = saved["best"], saved.get("stale", 0)
        # Before semask 0.2 the number of samples was not kept, and the batch could not change.
        self.samples = saved.get("samples", self.step * saved["recipe"]["training"]["batch_size"])
        if self.step:
            self.model.metadata["step"] = self.step
        self.model.metadata |= {name: saved[name] for name in NOTED[1:] if name in saved}
        if "ended" in saved:
            self.ended = Ended(saved["ended"]["step"], saved["ended"]["why"])

    def _make_moments(self, tensors: Mapping[str, Tensor]) -> None:
        """Give every parameter that had an update the moments, still zero, that are to be read."""
        found = {
            name.removeprefix("optimizer.").rpartition(".")[0] for name in tensors if name.startswith("optimizer.")
        }
        for name, parameter in self.model.named_parameters():
            if name in found:
                step, *others = MOMENTS
                moments = {kind: torch.zeros_like(parameter, requires_grad=False) for kind in others}
                self.optimizer.state[parameter] = {step: torch.zeros(()), **moments}

    def _parameters(self) -> list[str]:
        """Names of the parameters in the order of the optimizer."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return [names[id(x)] for group in self.optimizer.param_groups for x in group["params"]]

    def _named(self, tensors: Mapping[str, Tensor], names: list[str]) -> dict[str, Tensor]:
        """Tensors of a state of an earlier version, which numbered the moments, with their names of today."""
        named = {}
        for key, tensor in tensors.items():
            group, _, rest = key.partition(".")
            index, _, kind = rest.partition(".")
            named[key if group != "optimizer" else f"optimizer.{names[int(index)]}.{kind}"] = tensor
        return named

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


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, or this process's part of it where another one is shared out."""
    if isinstance(other, DTensor):
        return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None)
    return tensor
