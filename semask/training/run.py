"""What a training run does at each step: count, log, evaluate, tell callbacks, and end when it is time."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import broadcast_object_list

from semask.checkpoints.saving import require_finite, save, versions
from semask.data.dataset import SegmentationDataset
from semask.data.images import encoded
from semask.evaluation.evaluate import Evaluation, evaluate_model
from semask.evaluation.report import describe
from semask.files.atomic import write_whole
from semask.files.text import one_line, reason
from semask.losses.pixel import Losses
from semask.metrics.confusion import percent
from semask.prediction.predictor import Predictor
from semask.reporting.of_run import PICTURES_AT_END, write_run_report
from semask.reporting.report import NAME, require_replaceable
from semask.settings.inference import Inference
from semask.training.callbacks import Callback, Progress, StopTraining
from semask.training.kept import Ended, KeptRun
from semask.training.pace import times_due
from semask.training.parameters import drop_gradients, keep_statistics
from semask.training.samples import draw_samples
from semask.training.trackers import PICTURES

Event = Literal["on_start", "on_step", "on_evaluation", "on_end"]


class Run(KeptRun):
    """A training run; see `KeptRun` for what it is made of.

    Args:
        callbacks: Are told how far it is.

    Attributes:
        evaluated: The last evaluation, None before the first.
        lr: Learning rate of the last step.
    """

    def __init__(self, *arguments: Any, callbacks: Sequence[Callback] = (), **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.callbacks = callbacks
        self.evaluated: Evaluation | None = None
        self.evaluated_step = -1
        self.lr = 0.0
        self.last_losses: list[Losses] = []
        self.report_fault: str | None = None
        self.restart_clock()

    def finished(self) -> bool:
        """Whether no step comes any more."""
        return self.ended is not None or self.step >= self.training.steps

    def restart_clock(self) -> None:
        """Measure images/s from now on: (step, seconds)."""
        self.pace.restart()
        self.stepped = self.pace.mark
        self.clock = (self.step, self.stepped)

    def train_mode(self) -> None:
        """Put the model in training mode, but for the statistics of a backbone that stays as it is."""
        self.model.train()
        if self.frozen:
            keep_statistics(self.model.encoder.backbone)

    @property
    def frozen(self) -> bool:
        """Whether the next step leaves the backbone as it is."""
        return self.step < self.training.freeze_encoder_steps

    def before_update(self) -> None:
        """Take back what the optimizer is not to use, when the gradients of a step are complete."""
        if self.frozen:
            drop_gradients(self.model.encoder.backbone)

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
        thawed = self.frozen
        self.step, self.lr = self.step + 1, lr
        self.samples += self.training.batch_size
        if thawed and not self.frozen:
            self.train_mode()
        if self.average is not None:
            self.average.update_parameters(self.accelerator.unwrap_model(self.network))
        if self.callbacks:
            self.last_losses = self.losses[-self.training.accumulate :]
        self.pace.done("step")
        self.stepped = self.pace.mark
        self.end_in_time()
        self.show_step(logged=self.due(self.training.log_every))

    def show_step(self, *, logged: bool) -> None:
        """Say that a step is done, and log the losses since the last time."""
        losses = self._log_losses() if logged and self.losses else None
        self.reporter.step(self.step, self.training.steps, losses, self.seconds_left())

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and at the end, happens now; 0: only at the end."""
        return self.finished() or (every > 0 and self.step % every == 0)

    def seconds_left(self) -> float | None:
        """Seconds that the rest of the run takes with its evaluations and saves; None before it can be told."""
        steps = self.training.steps if self.ended is None else self.step
        before = max(self.step - 1, 0)  # what is due after this step may be still to come
        evaluations = times_due(
            self.training.evaluate_every, self.step if self.evaluated_step == self.step else before, steps
        )
        counts = {
            "step": steps - self.step,
            "evaluation": evaluations,
            "report": evaluations,
            "save": times_due(self.training.save_every, self.step if self.saved_step == self.step else before, steps),
        }
        return self.pace.left(counts)

    def end_in_time(self) -> None:
        """End the run when there is no time for another step, an evaluation and a save."""
        minutes = self.training.minutes
        if minutes is None or self.finished():
            return
        next_ = sum(self.pace.mean(kind) or 0.0 for kind in ("step", "evaluation", "report", "save"))
        if self.told_by_first(self.pace.elapsed() + next_ >= 60 * minutes):
            self.end(f"the time of {minutes:g} minutes is over")

    def end(self, why: str) -> None:
        """Let the run have no further step."""
        if self.finished():
            return
        self.ended = Ended(self.step, why)
        self.model.metadata["ended"] = self.ended._asdict()
        self.reporter.note(f"ends after step {self.step} of {self.training.steps}: {one_line(why)}")
        self.show_step(logged=True)  # the steps since the last line of the log

    def told_by_first(self, value: Any) -> Any:
        """What the first process says, in all of them: clocks and callbacks of the others may say something else."""
        if self.accelerator.num_processes == 1:
            return value
        return broadcast_object_list([value])[0]

    def call(self, event: Event) -> None:
        """Tell the callbacks; one may end the run.

        Raises:
            Exception: What a callback raised; the state is saved before.
        """
        if not self.callbacks:
            return
        stop: str | None = None
        failure: Exception | None = None
        self.gather()
        if self.accelerator.is_main_process:
            try:
                for callback in self.callbacks:
                    getattr(callback, event)(self.progress())
            except StopTraining as stopped:
                stop = str(stopped) or "a callback stopped it"
            except Exception as error:  # code of somebody else may raise anything
                failure = error
        stop, failed = self.told_by_first((stop, failure is not None))
        if event != "on_end" and not self.model.training:
            self.train_mode()  # whoever looked at what it predicts put it in evaluation mode
        if failed:
            if self.step > self.saved_step:
                self.save()
            raise failure or ValueError("a callback failed in the first process: its message says why")
        if stop is not None:
            self.end(stop)

    def progress(self) -> Progress:
        """How far it is, for callbacks."""
        losses: dict[str, float] = {}
        if self.last_losses:
            means = torch.stack([torch.stack(x) for x in self.last_losses]).mean(0).tolist()
            losses = dict(zip(("loss", "main", "prior"), means, strict=True))
        return Progress(
            step=self.step,
            steps=self.training.steps,
            lr=self.lr,
            losses=losses,
            evaluation=self.evaluated,
            seconds_left=self.seconds_left(),
            model=self.trained,
            out=self.out,
        )

    def _log_losses(self) -> str:
        """Log the means of the losses since the last time, and say them in a line."""
        means = torch.stack([torch.stack(losses) for losses in self.losses]).mean(0)
        total, main, prior = self.accelerator.reduce(means, "mean").tolist()
        images, seconds = (self.step - self.clock[0]) * self.training.batch_size, self.stepped - self.clock[1]
        if images == 0:  # the clock began anew at this step
            images, seconds = self.training.batch_size, self.pace.mean("step") or 1.0
        row = {"loss": total, "main": main, "prior": prior, "lr": self.lr, "images/s": images / seconds}
        self.losses = []
        self.clock = (self.step, self.stepped)
        self._track("train", row)
        if self.accelerator.is_main_process:
            self.log.append(self.step, row)
        return f"loss {total:.4f}  lr {self.lr:.2e}  {row['images/s']:.1f} images/s"

    def save_timed(self) -> None:
        """Save, and remember how long it takes."""
        self.pace.restart()
        self.save()
        self.pace.done("save")

    def evaluate(self, inference: Inference, dataset: SegmentationDataset, *, workers: int) -> None:
        """Evaluate the model, log scores and sample predictions, and keep the checkpoint if it is the best so far."""
        self.gather()
        require_finite(self.out / "best.safetensors", self.trained)
        self.pace.restart()
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
        self.evaluated_step = self.step
        self.model.metadata |= {"step": self.step, "metrics": describe(result, dataset.classes.names)}
        row = {"miou": result.scores.miou, "mean_accuracy": result.scores.mean_accuracy}
        row |= {"overall_accuracy": result.scores.overall_accuracy}
        row |= {f"prior_{stage}": prior.miou for stage, prior in enumerate(result.priors, start=1)}
        other = "" if self.best.by == "miou" else f"  {self.best.name} {percent(self.best.of(result))} %"
        self.reporter.note(f"step {self.step}/{self.training.steps}  mIoU {100 * row['miou']:.2f} %{other}")
        self._track("val", row)
        better = self.best.update(result)
        if self.accelerator.is_main_process:
            self.scores.append(self.step, row)
            self._log_samples(predictor, dataset)
            if better:
                save(self.out / "best.safetensors", self.trained, self.model.metadata)
        self.pace.done("evaluation")
        self._end_after_evaluation()
        self.pace.restart()
        self._write_report(predictor, dataset)
        self.train_mode()
        self.restart_clock()
        self.call("on_evaluation")

    def _end_after_evaluation(self) -> None:
        """End the run when there is no hope of a better score, or no time for more."""
        if self.finished():
            return
        if why := self.best.gives_up():
            self.end(why)
        self.end_in_time()

    def _log_samples(self, predictor: Predictor, dataset: SegmentationDataset) -> None:
        """Draw image, label, prediction and priors of a few validation images."""
        for place, picture in draw_samples(predictor, dataset, self.training.samples):
            write_whole(self.out / "samples" / f"{place:05d}_step{self.step}.png", encoded(picture, "PNG"))
            pixels = np.asarray(picture)[None]
            for tracker in self.accelerator.trackers:
                if tracker.name in PICTURES:
                    shape = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                    with self._writing_events():
                        tracker.log_images({f"sample/{place}": pixels}, step=self.step, **shape)

    def check_report(self) -> None:
        """Say before the first step why there can be no page of the run, if it is to have one."""
        if self.training.report and self.accelerator.is_main_process:
            try:
                require_replaceable(self.out / NAME)
            except ValueError as error:
                self._warn_of_report(error)

    def _warn_of_report(self, error: Exception) -> None:
        """Say why there is no page, but not again and again."""
        if (fault := reason(error)) != self.report_fault:
            self.report_fault = fault
            self.reporter.warn([f"no report, the training goes on without: {fault}"])

    def _write_report(self, predictor: Predictor, dataset: SegmentationDataset) -> None:
        """Write the page of the run, at the end with the worst images; what goes wrong there does not end a run."""
        if not self.training.report or not self.accelerator.is_main_process or self.evaluated is None:
            return
        about = {"machine": self.model.metadata.get("machine"), "processes": self.accelerator.num_processes}
        try:
            write_run_report(
                self.out,
                {**self.model.metadata, "versions": versions()},
                self.evaluated,
                predictor,
                dataset,
                about={**about, "precision": self.training.precision},
                pictures=PICTURES_AT_END if self.finished() else 0,
            )
        except Exception as error:  # a page is not worth a run, whatever goes wrong in a library that draws
            self._warn_of_report(error)
            return
        first = self.pace.mean("report") is None
        self.pace.done("report")
        if first:
            self.reporter.note(f"report: {self.out / NAME} (written in {self.pace.mean('report') or 0:.1f} s)")

    def _track(self, group: str, row: Mapping[str, float]) -> None:
        """Add points to the curves of the trackers."""
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
