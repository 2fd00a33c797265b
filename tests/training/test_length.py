"""How long a run is: epochs, minutes, patience, and the time that is left."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from test_pace import FakeClock
from test_run import after_step, assert_same_run, stop, timeless

from semask.checkpoints.tensors import read_header
from semask.settings.training import Training
from semask.training import length, loop, run
from semask.training.best import Best
from semask.training.kept import KeptRun
from semask.training.length import steps_of_epochs
from semask.training.pace import Pace, steps_within
from semask.training.run import Run
from semask.training.state import read_saved


def assert_same_weights(one: Path, other: Path) -> None:
    expected, found = (load_file(folder / "last.safetensors") for folder in (one, other))
    assert all(found[name].equal(tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("epochs", "batch", "steps"), [(1, 4, 2), (2, 4, 3), (0.1, 4, 1), (1.5, 3, 3), (100, 7, 86), (0.3, 1, 2)]
)
def test_epochs_become_steps(epochs, batch, steps):
    assert steps_of_epochs(Training(epochs=epochs, batch_size=batch), 6, {}).steps == steps


def test_epochs_count_the_images_that_were_seen_when_the_batch_changes():
    saved = {"step": 5, "samples": 20, "recipe": {"training": {"batch_size": 4}}}
    assert steps_of_epochs(Training(epochs=10, batch_size=4), 6, saved).steps == 15
    assert steps_of_epochs(Training(epochs=10, batch_size=8), 6, saved).steps == 5 + 5
    later = {"step": 7, "samples": 36, "recipe": {"training": {"batch_size": 8}}}
    assert steps_of_epochs(Training(epochs=10, batch_size=8), 6, later).steps == 10
    for broken in ({"step": -1}, {"step": 3, "samples": "x"}):
        assert steps_of_epochs(Training(epochs=10, batch_size=4), 6, broken).steps == 15


def test_a_run_of_epochs_is_one_of_so_many_steps_and_goes_on_exactly(semask, recipe, tmp_path, monkeypatch):
    settings = {"batch_size": 4, "warmup_steps": 0, "save_every": 1, "evaluate_every": 2}
    said = semask(*recipe(tmp_path / "epochs", epochs=2, **settings)).err
    assert "2 epochs of 6 images in batches of 4 are 3 steps" in said
    semask(*recipe(tmp_path / "steps", steps=3, **settings))
    assert_same_weights(tmp_path / "steps", tmp_path / "epochs")
    training = json.loads((tmp_path / "epochs" / "last.json").read_text())["recipe"]["training"]
    assert (training["epochs"], training["steps"]) == (2.0, 3)
    with monkeypatch.context() as patch:
        after_step(patch, 2, stop)
        semask(*recipe(tmp_path / "stopped", epochs=2, **settings), code=130)
    message = semask.refused(*recipe(tmp_path / "stopped", epochs=3, **settings), "--resume")
    assert message.startswith("training.steps is 5, but the run to resume was started with 3: ")
    semask(*recipe(tmp_path / "stopped", epochs=2, **settings), "--resume")
    assert_same_run(tmp_path / "epochs", tmp_path / "stopped")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 2, "minutes": 1}, "training.epochs and training.minutes are given: both decide how long it trains"),
        ({"epochs": 0}, "training.epochs is 0"),
        ({"minutes": -1}, "training.minutes is -1"),
        ({"patience": 3, "evaluate_every": 0}, "training.patience counts evaluations, and training.evaluate_every is"),
        ({"best_by": "f1"}, "training.best_by is 'f1': give one of miou, mean_accuracy, overall_accuracy, or iou:NAME"),
        ({"best_by": "iou:"}, "training.best_by is 'iou:': give one of"),
        ({"best_by": "iou:sofa"}, "training.best_by is 'iou:sofa', but no class has this name: there are 'sky'"),
    ],
    ids=str,
)
def test_what_can_not_be_meant(semask, recipe, tmp_path, settings, message):
    assert semask.refused(*recipe(tmp_path / "run", **settings)).startswith(message)
    assert not (tmp_path / "run" / "resume").exists()


STEP, EVALUATION, SAVE = 2.0, 10.0, 1.0


@pytest.fixture
def clock(monkeypatch) -> FakeClock:
    """The only time that passes in a run: 2 s a step, 10 s an evaluation, 1 s a save."""
    clock = FakeClock()

    def slow(owner: Any, name: str, seconds: float) -> None:
        real = getattr(owner, name)

        def slowed(*arguments: Any, **settings: Any) -> Any:
            clock.passes(seconds)
            return real(*arguments, **settings)

        monkeypatch.setattr(owner, name, slowed)

    monkeypatch.setattr(loop, "Pace", lambda: Pace(clock))
    monkeypatch.setattr(length, "seconds_per_image", lambda *_: EVALUATION / 7)  # 3 images and as many pictures, 4
    slow(loop.Work, "passes", STEP)
    slow(run, "evaluate_model", EVALUATION)
    slow(KeptRun, "save", SAVE)
    return clock


def test_the_time_left_over_the_whole_run(semask, recipe, tmp_path, monkeypatch, clock):
    said: list[float | None] = []
    finish_step = Run.finish_step

    def watched(run: Run, lr: float) -> None:
        finish_step(run, lr)
        said.append(run.seconds_left())

    monkeypatch.setattr(Run, "finish_step", watched)
    output = semask(*recipe(tmp_path / "run", steps=6, evaluate_every=2, save_every=3, log_every=5))
    # Evaluations count from the first one on, as do saves.
    assert said == [5 * STEP, 4 * STEP, 3 * STEP + 2 * EVALUATION, 2 * STEP + 2 * EVALUATION + SAVE,
                    STEP + EVALUATION + SAVE, EVALUATION + SAVE]  # fmt: skip
    assert "  0:00:13 left" in next(line for line in output.err.splitlines() if line.startswith("step 5/6  loss"))
    assert clock.now == 6 * STEP + 3 * EVALUATION + 2 * SAVE


MINUTES = {"minutes": 1, "batch_size": 2, "evaluate_every": 8, "save_every": 4, "log_every": 20}


def test_a_run_of_a_minute_ends_in_time_and_is_one_of_so_many_steps(semask, recipe, tmp_path, monkeypatch, clock):
    said = semask(*recipe(tmp_path / "minute", **MINUTES)).err
    trial = 4 * STEP  # a tenth of the minute is over then
    steps = steps_within(60 - trial, STEP, evaluation=EVALUATION, every=8)
    assert steps == 12  # 44.2 s are planned for
    assert f"1 minutes are enough for {steps} steps" in said
    assert clock.now == trial + steps * STEP + 2 * EVALUATION + 3 * SAVE <= 60
    assert "ends after" not in said
    semask(*recipe(tmp_path / "steps", **{**MINUTES, "minutes": "null", "steps": steps, "warmup_steps": 1}))
    assert_same_weights(tmp_path / "steps", tmp_path / "minute")
    with monkeypatch.context() as patch:
        after_step(patch, 7, stop)
        semask(*recipe(tmp_path / "stopped", **MINUTES), code=130)
    saved = read_saved(tmp_path / "stopped" / "resume")
    assert (saved["step"], saved["seconds"]) == (4, trial + 4 * STEP + SAVE)
    assert saved["recipe"]["training"]["steps"] == steps
    refused = semask.refused(*recipe(tmp_path / "stopped", **{**MINUTES, "minutes": 2}), "--resume")
    assert refused.startswith("training.minutes is 2.0, but the run to resume was started with 1.0: ")
    said = semask(*recipe(tmp_path / "stopped", **MINUTES), "--resume").err
    assert "timing" not in said
    assert_same_weights(tmp_path / "minute", tmp_path / "stopped")
    assert timeless(tmp_path / "minute" / "log.csv") == timeless(tmp_path / "stopped" / "log.csv")


def test_more_minutes_for_a_run_that_goes_on(semask, recipe, tmp_path, clock):
    semask(*recipe(tmp_path / "run", **MINUTES))
    clock.now = 0
    said = semask(*recipe(tmp_path / "run", **{**MINUTES, "minutes": 2}), "--resume_changed").err
    steps = read_header(tmp_path / "run" / "last.safetensors")["recipe"]["training"]["steps"]
    assert "- training.minutes: 1.0 -> 2.0" in said
    assert steps > 12
    assert read_header(tmp_path / "run" / "last.safetensors")["step"] == steps
    assert read_saved(tmp_path / "run" / "resume")["seconds"] <= 120


@pytest.mark.parametrize("slowness", [1.0, 4.0])
def test_a_machine_that_becomes_slow_ends_the_run_in_time(semask, recipe, tmp_path, monkeypatch, clock, slowness):
    finish_step = Run.finish_step

    def slower(run: Run, lr: float) -> None:
        clock.passes(slowness)
        finish_step(run, lr)

    monkeypatch.setattr(Run, "finish_step", slower)
    said = semask(*recipe(tmp_path / "run", **MINUTES)).err
    last = read_header(tmp_path / "run" / "last.safetensors")
    assert clock.now <= 60 + EVALUATION
    assert last["ended"] == {"step": last["step"], "why": "the time of 1 minutes is over"}
    assert last["step"] < 12
    assert f"ends after step {last['step']} of 12: the time of 1 minutes is over" in said
    assert [line[0] for line in timeless(tmp_path / "run" / "evaluation.csv")][-1] == str(last["step"])
    weights = (tmp_path / "run" / "last.safetensors").read_bytes()
    semask(*recipe(tmp_path / "run", **MINUTES), "--resume")  # it is over: evaluated only
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == weights


def scores(monkeypatch: pytest.MonkeyPatch, values: Callable[[int], float]) -> None:
    """Let the score that decides be a function of the step."""
    evaluate = Run.evaluate

    def watched(run: Run, *arguments: Any, **settings: Any) -> None:
        run.best.of = lambda _: values(run.step)  # type: ignore[method-assign]
        evaluate(run, *arguments, **settings)

    monkeypatch.setattr(Run, "evaluate", watched)


def test_a_run_ends_when_its_score_gets_no_better(semask, recipe, tmp_path, monkeypatch):
    scores(monkeypatch, {1: 0.1, 2: 0.3, 3: 0.2, 4: 0.3}.__getitem__)
    settings = {"steps": 9, "patience": 2, "evaluate_every": 1, "save_every": 3, "log_every": 3}
    said = semask(*recipe(tmp_path / "whole", **settings)).err
    why = "no better mIoU in 2 evaluations"
    assert f"ends after step 4 of 9: {why}" in said
    last, best = (read_header(tmp_path / "whole" / f"{name}.safetensors") for name in ("last", "best"))
    assert (last["step"], last["ended"]) == (4, {"step": 4, "why": why})
    assert best["step"] == 2
    assert "ended" not in best
    assert [line[0] for line in timeless(tmp_path / "whole" / "log.csv")] == ["step", "3", "4"]
    with monkeypatch.context() as patch:
        after_step(patch, 4, stop)
        semask(*recipe(tmp_path / "stopped", **settings), code=130)
    state = read_saved(tmp_path / "stopped" / "resume")
    assert (state["step"], state["best"], state["stale"]) == (3, 0.3, 1)
    changed = semask.refused(*recipe(tmp_path / "stopped", **{**settings, "evaluate_every": 2}), "--resume")
    assert changed.startswith("training.evaluate_every is 2, but the run to resume was started with 1: ")
    semask(*recipe(tmp_path / "stopped", **settings), "--resume")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")
    semask(*recipe(tmp_path / "stopped", **settings), "--resume")  # it is over
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_a_run_that_ended_goes_on_with_more_patience(semask, recipe, tmp_path, monkeypatch):
    scores(monkeypatch, lambda step: 0.5)
    settings = {"steps": 6, "patience": 1, "evaluate_every": 1}
    semask(*recipe(tmp_path / "run", **settings))
    assert read_header(tmp_path / "run" / "last.safetensors")["step"] == 2
    semask(*recipe(tmp_path / "run", **{**settings, "patience": 3}), "--resume_changed")
    last = read_header(tmp_path / "run" / "last.safetensors")
    assert (last["step"], last["ended"]["step"]) == (4, 4)


def test_the_best_by_another_score_is_kept(semask, recipe, tmp_path, monkeypatch):
    settings = {"steps": 2, "evaluate_every": 1, "save_every": 1}
    said = semask(*recipe(tmp_path / "run", best_by="iou:sky", **settings)).err
    assert " IoU of sky " in said
    refused = semask.refused(*recipe(tmp_path / "run", **settings), "--resume")
    assert refused.startswith("training.best_by is miou, but the run to resume was started with iou:sky")
    monkeypatch.setattr(Best, "of", lambda *_: 0.0)  # 0 is better than nothing, though not than the IoU of before
    semask(*recipe(tmp_path / "run", best_by="mean_accuracy", **{**settings, "steps": 3}), "--resume_changed")
    assert read_saved(tmp_path / "run" / "resume")["best"] == 0.0
    assert read_header(tmp_path / "run" / "best.safetensors")["step"] == 3
