from pathlib import Path
from typing import Any

import pytest
from test_run import assert_same_run, timeless

import semask
from semask.checkpoints.tensors import read_header
from semask.training.callbacks import Callback, Progress, StopTraining
from semask.training.state import read_saved


class Listener(Callback):
    """Notes what it is told, and raises something at a step."""

    def __init__(self, at: tuple[str, int] | None = None, error: Exception | None = None) -> None:
        self.told: list[tuple[str, Progress]] = []
        self.at, self.error = at, error

    def hear(self, event: str, run: Progress) -> None:
        self.told.append((event, run))
        run.model.eval()  # whoever looks at what it predicts does this
        if self.error is not None and self.at == (event, run.step):
            raise self.error

    def on_start(self, run: Progress) -> None:
        self.hear("start", run)

    def on_step(self, run: Progress) -> None:
        self.hear("step", run)

    def on_evaluation(self, run: Progress) -> None:
        self.hear("evaluation", run)

    def on_end(self, run: Progress) -> None:
        self.hear("end", run)


@pytest.fixture
def train(scenes, tmp_path):
    def run(name: str, *callbacks: Callback, resume: bool = False, **settings: Any) -> Path:
        semask.train(
            small(),
            semask.Data(root=str(scenes), workers=0, check="none"),
            out=str(tmp_path / name),
            augmentation=semask.Augmentation(scale=None, crop=(32, 32)),
            training=semask.Training(
                **{"steps": 4, "batch_size": 2, "lr": 1e-3, "warmup_steps": 0, "log_every": 3, "cpu": True,
                   "evaluate_every": 2, "save_every": 4, "precision": "fp32"} | settings
            ),
            callbacks=callbacks,
            resume=resume,
            reporter=semask.files.reporter.Reporter(),
        )  # fmt: skip
        return tmp_path / name

    return run


def small() -> semask.SeMask:
    import torch

    torch.manual_seed(0)
    return semask.build("swin_nano", num_classes=11, channels=16)


def test_callbacks_are_told_everything_in_order_and_change_nothing(train):
    listener = Listener()
    heard, alone = train("heard", listener), train("alone")
    expected = [("start", 0), ("step", 1), ("evaluation", 2), ("step", 2), ("step", 3), ("evaluation", 4), ("step", 4),
                ("end", 4)]  # fmt: skip
    assert [(event, run.step) for event, run in listener.told] == expected
    first, last = listener.told[0][1], listener.told[-1][1]
    assert (first.losses, first.evaluation, first.seconds_left, first.lr) == ({}, None, None, 0.0)
    assert last.losses.keys() == {"loss", "main", "prior"}
    assert last.losses["loss"] == pytest.approx(last.losses["main"] + 0.4 * last.losses["prior"], rel=1e-4)
    assert last.evaluation is not None
    assert (last.out, last.steps, last.model.metadata["step"]) == (heard, 4, 4)
    with pytest.raises(AttributeError):
        last.step = 5  # type: ignore[misc]
    assert_same_run(alone, heard, names=["best.safetensors", "last.safetensors", "resume"])


@pytest.mark.parametrize("event", ["step", "evaluation"])
def test_a_callback_ends_the_run(train, event):
    out = train("run", Listener((event, 2), StopTraining("good enough")))
    last = read_header(out / "last.safetensors")
    assert (last["step"], last["ended"]) == (2, {"step": 2, "why": "good enough"})
    assert [line[0] for line in timeless(out / "evaluation.csv")] == ["step", "2"]
    assert [line[0] for line in timeless(out / "log.csv")] == ["step", "2"]


def test_a_callback_that_ends_the_run_between_evaluations_gets_one(train):
    listener = Listener(("step", 3), StopTraining())
    out = train("run", listener)
    assert [(event, run.step) for event, run in listener.told][-3:] == [("step", 3), ("evaluation", 3), ("end", 3)]
    assert read_header(out / "last.safetensors")["ended"] == {"step": 3, "why": "a callback stopped it"}


@pytest.mark.parametrize("at", [("step", 3), ("step", 2), ("evaluation", 2)], ids=str)
def test_what_a_callback_raises_comes_out_and_the_state_is_saved(train, at):
    with pytest.raises(KeyError, match="mine"):
        train("run", Listener(at, KeyError("mine")))
    out = train("run", resume=True)
    assert read_saved(out / "resume.previous")["step"] == at[1]
    assert_same_run(train("whole"), out, names=["best.safetensors", "last.safetensors", "resume"])


def test_a_callback_that_fails_before_the_first_step_leaves_a_run_that_may_begin_anew(train):
    with pytest.raises(ZeroDivisionError):
        train("run", Listener(("start", 0), ZeroDivisionError()))
    train("run")
