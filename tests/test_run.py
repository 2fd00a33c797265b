import hashlib
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from semask import checkpoint
from semask.run import Run

FILES = ("best.safetensors", "last.safetensors", "resume.safetensors")


def after_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[Run], None]) -> None:
    """Let something happen when a run has done some steps, before it evaluates and saves."""
    finish_step = Run.finish_step

    def finish(run: Run, lr: float) -> None:
        finish_step(run, lr)
        if run.step == step:
            action(run)

    monkeypatch.setattr(Run, "finish_step", finish)


def stop(run: Run) -> None:
    raise KeyboardInterrupt


def spoil(run: Run) -> None:
    run.model.decoder.classifier.weight.data[0] = torch.nan


def digests(run: Path) -> dict[str, str]:
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in FILES}


def timeless(path: Path) -> list[list[str]]:
    """Lines of a log without the column of the time."""
    head, *lines = (line.split(",") for line in path.read_text(encoding="utf-8").splitlines())
    return [[x for x, name in zip(line, head, strict=True) if name != "images/s"] for line in (head, *lines)]


def assert_same_run(one: Path, other: Path) -> None:
    """Tensors, headers and logs are equal to the last bit."""
    for name in FILES:
        expected, found = load_file(one / name), load_file(other / name)
        assert expected.keys() == found.keys()
        assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
        assert checkpoint.read_tensors(one / name)[1] == checkpoint.read_tensors(other / name)[1]
    for name in ("log.csv", "evaluation.csv"):
        assert timeless(one / name) == timeless(other / name)


SIX_STEPS = {"steps": 6, "save_every": 2, "evaluate_every": 2, "batch_size": 4}


@pytest.mark.parametrize(
    ("stopped_at", "settings"),
    [
        (3, {}),
        (5, {"ema": 0.9, "accumulate": 2, "clip_norm": 0.5, "gradient_checkpointing": "true"}),
        (5, {"log_every": 3, "precision": "bf16", "data.workers": 1}),  # logs of steps on both sides of a save
    ],
    ids=str,
)
def test_a_resumed_run_equals_one_without_a_stop(semask, recipe, tmp_path, monkeypatch, stopped_at, settings):
    settings = {**SIX_STEPS, **settings}
    semask(*recipe(tmp_path / "whole", **settings))
    with monkeypatch.context() as patch:
        after_step(patch, stopped_at, stop)
        output = semask(*recipe(tmp_path / "stopped", **settings), code=130)
    assert "semask: stopped; training goes on with --resume" in output.err
    assert checkpoint.load(tmp_path / "stopped" / "last.safetensors").metadata["step"] == (stopped_at - 1) // 2 * 2
    semask(*recipe(tmp_path / "stopped", **settings), "--resume")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_a_run_stopped_before_its_first_save_begins_anew(semask, recipe, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        after_step(patch, 1, stop)
        semask(*recipe(tmp_path / "run"), code=130)
    assert "holds no run to resume" in semask.refused(*recipe(tmp_path / "run"), "--resume")
    semask(*recipe(tmp_path / "run"))
    assert [line[0] for line in timeless(tmp_path / "run" / "log.csv")] == ["step", "1", "2", "3", "4"]


def test_a_run_is_not_overwritten(semask, recipe, trained):
    before = digests(trained)
    message = semask.refused(*recipe(trained, steps=8, save_every=4, evaluate_every=4))
    assert message == f"{trained} already holds a run: give --resume to go on with it, or another --out"
    assert digests(trained) == before


@pytest.mark.parametrize(
    ("name", "value", "before"),
    [
        ("training.lr", 0.5, 0.001),
        ("training.steps", 9, 8),
        ("augmentation.flip", 0.1, 0.5),
        ("loss.average", "all", "valid"),
    ],
)
def test_other_settings_that_change_the_numbers_are_refused(semask, recipe, trained, name, value, before):
    state = digests(trained)
    settings = {"steps": 8, "save_every": 4, "evaluate_every": 4, name.removeprefix("training."): value}
    message = semask.refused(*recipe(trained, **settings), "--resume")
    assert message.startswith(f"{name} is {value}, but the run to resume was started with {before}: ")
    assert digests(trained) == state


def test_settings_that_change_no_number_may_change(semask, recipe, tmp_path, monkeypatch):
    settings = {**SIX_STEPS, "save_every": 3}
    semask(*recipe(tmp_path / "whole", **settings))
    with monkeypatch.context() as patch:
        after_step(patch, 4, stop)
        semask(*recipe(tmp_path / "stopped", **settings), code=130)
    changed = {"log_every": 2, "save_every": 1, "evaluate_every": 0, "data.workers": 1, "data.check": "none"}
    semask(*recipe(tmp_path / "stopped", **{**settings, **changed}), "--resume", "true")
    whole, stopped = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_resuming_a_finished_run_only_measures_it(semask, recipe, tmp_path):
    semask(*recipe(tmp_path / "run"))
    before = digests(tmp_path / "run")
    semask(*recipe(tmp_path / "run"), "--resume")
    assert digests(tmp_path / "run") == before


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "not a safetensors checkpoint, or damaged"),
        (lambda path: path.write_bytes(b""), "not a safetensors checkpoint, or damaged"),
        (lambda path: path.write_bytes(path.with_name("last.safetensors").read_bytes()), "not the state of this run"),
    ],
    ids=["truncated", "empty", "a checkpoint"],
)
def test_a_damaged_state_is_refused_and_nothing_is_lost(semask, recipe, tmp_path, damage, message):
    semask(*recipe(tmp_path / "run"))
    log = (tmp_path / "run" / "log.csv").read_bytes()
    damage(tmp_path / "run" / "resume.safetensors")
    before = digests(tmp_path / "run")
    refused = semask.refused(*recipe(tmp_path / "run"), "--resume")
    assert refused.startswith(f"{tmp_path / 'run' / 'resume.safetensors'}: {message}")
    assert digests(tmp_path / "run") == before
    assert (tmp_path / "run" / "log.csv").read_bytes() == log


def test_a_loss_that_is_no_number_stops_the_run_and_the_last_save_is_good(semask, recipe, tmp_path, monkeypatch):
    settings = {**SIX_STEPS, "steps": 4}
    with monkeypatch.context() as patch:
        after_step(patch, 3, spoil)
        message = semask.refused(*recipe(tmp_path / "run", **settings))
    assert message.startswith("the loss is nan at step 3 (learning rate 2.50e-04): lower training.lr")
    assert message.endswith(f"the state of the last save is in {tmp_path / 'run'}")
    semask(*recipe(tmp_path / "whole", **settings))
    semask(*recipe(tmp_path / "run", **settings), "--resume")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_learning_rate_that_explodes(semask, recipe, tmp_path):
    message = semask.refused(*recipe(tmp_path / "run", lr=1e30, warmup_steps=0))
    assert message.startswith("the loss is nan at step 1 ")
    assert message.endswith("nothing was saved")


@pytest.mark.parametrize("evaluate_every", [0, 2])
def test_weights_that_are_no_numbers_are_not_saved(semask, recipe, tmp_path, monkeypatch, evaluate_every):
    settings = {"steps": 6, "save_every": 2, "evaluate_every": evaluate_every}
    kept: dict[str, str] = {}

    def note_and_spoil(run: Run) -> None:
        kept.update(
            {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in run.out.glob("*.safetensors")}
        )
        spoil(run)

    after_step(monkeypatch, 4, note_and_spoil)
    message = semask.refused(*recipe(tmp_path / "run", **settings))
    assert "decoder.classifier.weight is not finite any more: lower training.lr" in message
    assert {"last.safetensors", "resume.safetensors"} <= kept.keys()
    assert {name: hashlib.sha256((tmp_path / "run" / name).read_bytes()).hexdigest() for name in kept} == kept


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
@pytest.mark.parametrize("megabytes", [0, 5, 20], ids=["logs", "checkpoint", "state"])
def test_no_space_left_while_saving(semask, recipe, tmp_path, monkeypatch, megabytes):
    """A limit on the size of files stands for a full disk: the 10 MB checkpoint or the 30 MB state don't fit."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept: dict[str, str] = {}

    def fill(run: Run) -> None:
        kept.update(digests(run.out))
        resource.setrlimit(resource.RLIMIT_FSIZE, (megabytes * 10**6 + 100, limits[1]))

    settings = {**SIX_STEPS, "steps": 4, "log_every": 4}
    with monkeypatch.context() as patch:
        after_step(patch, 3, fill)
        try:
            message = semask.refused(*recipe(tmp_path / "run", **settings))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert message.startswith(str(tmp_path / "run"))
    assert "could not be written" in message
    assert "free some space" in message
    found = digests(tmp_path / "run")
    assert {name for name in FILES if found[name] != kept[name]} <= (
        {"last.safetensors", "best.safetensors"} if megabytes == 20 else set()
    )
    assert list((tmp_path / "run").rglob("*.part")) == []
    semask(*recipe(tmp_path / "whole", **settings))
    semask(*recipe(tmp_path / "run", **settings), "--resume")
    assert_same_run(tmp_path / "whole", tmp_path / "run")
