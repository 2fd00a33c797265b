import hashlib
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from states import MANIFEST, read_saved, read_whole, rewrite, shard_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from semask.checkpoints.sources import load
from semask.checkpoints.tensors import FORMAT, read_tensors, write_tensors
from semask.data.loader import Batch, training_loader
from semask.settings.training import Training
from semask.training.parameters import parameter_groups
from semask.training.run import Run
from semask.training.state import EARLIER, STATE

FILES = ("best.safetensors", "last.safetensors")


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
    """Digests of the checkpoints and of all files of the states."""
    paths = [*(run / name for name in FILES if (run / name).exists()), *run.glob(f"{STATE}*/*")]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def timeless(path: Path) -> list[list[str]]:
    """Lines of a log without the column of the time."""
    head, *lines = (line.split(",") for line in path.read_text(encoding="utf-8").splitlines())
    return [[x for x, name in zip(line, head, strict=True) if name != "images/s"] for line in (head, *lines)]


def assert_same_run(one: Path, other: Path, *, names: Sequence[str] = (*FILES, STATE, EARLIER)) -> None:
    """Tensors, headers and logs are equal to the last bit."""
    for name in names:
        read = read_tensors if name in FILES else read_whole
        (expected, said), (found, other_said) = read(one / name), read(other / name)
        assert expected.keys() == found.keys()
        assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
        assert said == other_said
        assert (one / name).with_suffix(".json").exists() == (other / name).with_suffix(".json").exists()
    for name in ("best.json", "last.json"):
        assert json.loads((one / name).read_text()) == json.loads((other / name).read_text())
    for name in ("log.csv", "evaluation.csv"):
        assert timeless(one / name) == timeless(other / name)


SIX_STEPS = {"steps": 6, "save_every": 2, "evaluate_every": 2, "batch_size": 4}


@pytest.mark.parametrize(
    ("stopped_at", "settings"),
    [
        (3, {}),
        (5, {"ema": 0.9, "accumulate": 2, "clip_norm": 0.5, "gradient_checkpointing": "true"}),
        (5, {"log_every": 3, "precision": "bf16", "data.workers": 1}),  # logs of steps on both sides of a save
        (5, {"save_every": 1, "evaluate_every": 3}),  # what is saved holds scores of an evaluation before
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
    step = (stopped_at - 1) // settings["save_every"] * settings["save_every"]
    assert load(tmp_path / "stopped" / "last.safetensors").metadata["step"] == step
    semask(*recipe(tmp_path / "stopped", **settings), "--resume")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_run_stopped_before_its_first_save_goes_on_or_begins_anew(semask, recipe, tmp_path, monkeypatch, resume):
    semask(*recipe(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        after_step(patch, 1, stop)
        semask(*recipe(tmp_path / "run", **({} if resume else {"lr": 1.0})), code=130)
    semask(*recipe(tmp_path / "run"), *resume)
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [point.step for point in events.Scalars("train/loss")] == [1, 2, 3, 4]


def test_nothing_of_a_run_is_written_before_its_state(semask, recipe, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    assert "holds no run to resume" in semask.refused(*recipe(out), "--resume")
    with monkeypatch.context() as patch:
        patch.setattr("semask.training.state_files.move_folder", fail)
        semask(*recipe(out), code=130)
    assert [path for path in out.rglob("*") if path.is_file()] == []
    with monkeypatch.context() as patch:
        patch.setattr("accelerate.Accelerator.init_trackers", fail)
        semask(*recipe(out), code=130)
    assert [path.name for path in out.iterdir()] == [STATE]
    semask(*recipe(out))


def test_weights_without_a_state_are_nobodys_to_replace(semask, recipe, trained, tmp_path):
    for name in ("best.safetensors", "last.safetensors", EARLIER):
        out = tmp_path / name[:8] / name
        out.mkdir(parents=True)
        (shutil.copytree if name == EARLIER else shutil.copy)(trained / name, out / name)
        assert "already holds a run" in semask.refused(*recipe(out))
    log = tmp_path / "mine" / "log.csv"
    log.parent.mkdir()
    log.write_text("date,km\n")
    assert semask.refused(*recipe(log.parent)).startswith(f"{log}: not the log of a run")
    assert [path.name for path in log.parent.iterdir()] == ["log.csv"]


@pytest.mark.parametrize("at", ["a best checkpoint", "the state", "the last checkpoint", "its copy as JSON"])
@pytest.mark.parametrize("step", [2, 4])
def test_a_run_stopped_between_two_files_goes_on(semask, recipe, tmp_path, monkeypatch, at, step):
    """What lies between two files of a save; the moments of `tests/kill.py` are chance's."""
    settings = {"steps": 4, "save_every": 2, "evaluate_every": 2}
    names = {"a best checkpoint": "best.safetensors", "the state": STATE}
    names |= {"the last checkpoint": "last.safetensors", "its copy as JSON": "last.json"}
    replace = os.replace

    def stop_at(source: Any, target: Any) -> None:
        if Path(target).name == names[at] and run.get("step") == step:
            raise KeyboardInterrupt
        replace(source, target)

    run: dict[str, int] = {}
    semask(*recipe(tmp_path / "whole", **settings))
    with monkeypatch.context() as patch:
        after_step(patch, step, lambda _: run.update(step=step))
        patch.setattr("semask.files.atomic.os.replace", stop_at)
        semask(*recipe(tmp_path / "run", **settings), code=130)
    found = semask(*recipe(tmp_path / "run", **settings), "--resume").err
    assert ("missing; going on from the state before it, of step" in found) == (at == "the state")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


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
    before, scores = digests(tmp_path / "run"), (tmp_path / "run" / "evaluation.csv").read_text()
    semask(*recipe(tmp_path / "run"), "--resume")
    assert digests(tmp_path / "run") == before
    assert (tmp_path / "run" / "evaluation.csv").read_text() == scores


def truncate(state: Path) -> None:
    path = shard_of(state)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(state: Path) -> None:
    content = bytearray(shard_of(state).read_bytes())
    content[-1000] ^= 4
    shard_of(state).write_bytes(content)


def change_number(state: Path) -> None:
    text = (state / MANIFEST).read_text(encoding="utf-8")
    (state / MANIFEST).write_text(text.replace('"samples": 24', '"samples": 25'), encoding="utf-8")


def lose_shard(state: Path) -> None:
    shard_of(state).unlink()


def add_shard(state: Path) -> None:
    shutil.copy(shard_of(state), shard_of(state, 2))


DAMAGES = {
    "truncated": truncate,
    "flipped": flip,
    "a number": change_number,
    "a lost shard": lose_shard,
    "a strange shard": add_shard,
    "missing": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_the_state_before_stands_in_for_a_damaged_one(semask, recipe, tmp_path, damage):
    settings = {**SIX_STEPS, "log_every": 4}
    semask(*recipe(tmp_path / "whole", **settings))
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    damage(tmp_path / "run" / STATE)
    lines = semask(*recipe(tmp_path / "run", **settings), "--resume").err.splitlines()
    what = "missing" if damage is shutil.rmtree else "damaged"
    warning = f"{tmp_path / 'run' / STATE}: {what}; going on from the state before it, of step 4"
    assert [line for line in lines if "warning" in line] == [f"warning: {warning}"]
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    assert read_saved(tmp_path / "run" / EARLIER)["step"] == 4


@pytest.mark.parametrize("damage", [flip, shutil.rmtree], ids=["flipped", "missing"])
def test_a_damaged_state_never_takes_the_place_of_the_one_before(semask, recipe, tmp_path, monkeypatch, damage):
    semask(*recipe(tmp_path / "run", **SIX_STEPS))
    damage(tmp_path / "run" / STATE)
    earlier = read_whole(tmp_path / "run" / EARLIER)[1]

    replace = os.replace

    def stop_there(source: Any, target: Any) -> None:
        if Path(target).name == STATE:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        after_step(patch, 6, lambda _: patch.setattr("semask.files.atomic.os.replace", stop_there))
        semask(*recipe(tmp_path / "run", **SIX_STEPS), "--resume", code=130)
    assert read_whole(tmp_path / "run" / EARLIER)[1] == earlier


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, f"/{shard_of(Path())}: damaged, it is not what was written"),
        (lambda state: (state / MANIFEST).write_bytes(b""), f"/{MANIFEST}: not a state of semask, or damaged"),
        (lambda state: (state / MANIFEST).unlink(), f"/{MANIFEST}: no such file"),
        (lambda state: (state / MANIFEST).write_text("[" * 10**5), f"/{MANIFEST}: not a state of semask, or damaged"),
        (lambda state: rewrite(state, lambda tensors, saved: saved.clear()), ": not the state of this run"),
    ],
    ids=["truncated", "empty", "no list", "deep", "of nothing"],
)
def test_a_damaged_state_is_refused_and_nothing_is_lost(semask, recipe, tmp_path, damage, message):
    semask(*recipe(tmp_path / "run"))
    log = (tmp_path / "run" / "log.csv").read_bytes()
    for name in (STATE, EARLIER):
        damage(tmp_path / "run" / name)
    before = digests(tmp_path / "run")
    refused = semask.refused(*recipe(tmp_path / "run"), "--resume")
    assert refused.startswith(f"{tmp_path / 'run' / STATE}{message}")
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
    # Decoupled weight decay multiplies the weights by 1 - lr * weight_decay, here some -10,000, at every step.
    message = semask.refused(*recipe(tmp_path / "run", lr=100.0, weight_decay=100.0, warmup_steps=0, steps=20))
    assert message.startswith("the loss is nan at step ")
    assert message.endswith("nothing was saved")


@pytest.mark.parametrize("evaluate_every", [0, 2])
def test_weights_that_are_no_numbers_are_not_saved(semask, recipe, tmp_path, monkeypatch, evaluate_every):
    settings = {"steps": 6, "save_every": 2, "evaluate_every": evaluate_every}
    kept: dict[str, str] = {}

    def note_and_spoil(run: Run) -> None:
        kept.update(digests(run.out))
        spoil(run)

    after_step(monkeypatch, 4, note_and_spoil)
    message = semask.refused(*recipe(tmp_path / "run", **settings))
    assert "decoder.classifier.weight is not finite any more: lower training.lr" in message
    assert {"last.safetensors", str(shard_of(Path(STATE)))} <= kept.keys()
    assert digests(tmp_path / "run") == kept


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
@pytest.mark.parametrize("megabytes", [0, 0.001, 0.01, 5, 20], ids=["logs", "events", "samples", "best", "state"])
def test_no_space_left_while_saving(semask, recipe, tmp_path, monkeypatch, megabytes):
    """A limit on the size of files stands for a full disk: the 10 MB checkpoint or the 30 MB state don't fit."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept: dict[str, str] = {}

    def fill(run: Run) -> None:
        kept.update(digests(run.out))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(megabytes * 10**6) + 100, limits[1]))

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
    assert {name for name in kept if found[name] != kept[name]} <= ({"best.safetensors"} if megabytes == 20 else set())
    for path in (tmp_path / "run").glob("*.csv"):
        assert path.read_text().endswith("\n")
    assert list((tmp_path / "run").rglob("*.part")) == []
    semask(*recipe(tmp_path / "whole", **settings))
    semask(*recipe(tmp_path / "run", **settings), "--resume")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_no_space_for_the_last_checkpoint_after_the_state(semask, recipe, tmp_path, monkeypatch):
    """The state of a step is there, its checkpoint is not; resuming writes it."""
    write = write_tensors

    def limited(path: Path, *arguments: Any, **settings: Any) -> None:
        if path.name == "last.safetensors":
            resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, limits[1]))
        write(path, *arguments, **settings)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    semask(*recipe(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr("semask.checkpoints.saving.write_tensors", limited)
        try:
            message = semask.refused(*recipe(tmp_path / "run"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert message.startswith(f"{tmp_path / 'run' / 'last.safetensors'}: could not be written")
    assert not (tmp_path / "run" / "last.safetensors").exists()
    semask(*recipe(tmp_path / "run"), "--resume")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_damaged_lines_of_a_log_are_named_and_dropped(semask, recipe, tmp_path, monkeypatch):
    semask(*recipe(tmp_path / "whole", **SIX_STEPS))
    with monkeypatch.context() as patch:
        after_step(patch, 5, stop)
        semask(*recipe(tmp_path / "run", **SIX_STEPS), code=130)
    log, scores = tmp_path / "run" / "log.csv", tmp_path / "run" / "evaluation.csv"
    log.write_text(log.read_text().replace("\n3,", "\n\n3,") + "6,0.12")
    scores.write_text(scores.read_text() + 4096 * "\0")
    lines = semask(*recipe(tmp_path / "run", **SIX_STEPS), "--resume").err.splitlines()
    assert [line for line in lines if "warning" in line] == [
        f"warning: {log}: dropped lines 4, 8 (blank, cut or damaged)",
        f"warning: {scores}: dropped line 4 (blank, cut or damaged)",
    ]
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_folder_in_place_of_a_log(semask, recipe, trained, tmp_path, resume):
    out = tmp_path / "run"
    if resume:
        shutil.copytree(trained, out)
        (out / "log.csv").unlink()
    os.makedirs(out / "log.csv")
    settings = {"steps": 8, "save_every": 4, "evaluate_every": 4}
    assert semask.refused(*recipe(out, **settings), *resume).startswith(f"{out / 'log.csv'}: is a folder, not a file")


def positions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The images that are trained on, as they come."""
    seen: list[int] = []

    def watched(*arguments: Any, **settings: Any) -> Iterator[Batch]:
        for batch in training_loader(*arguments, **settings):
            seen.extend(batch.indices)
            yield batch

    monkeypatch.setattr("semask.training.loop.training_loader", watched)
    return seen


def test_a_run_goes_on_with_other_settings(semask, recipe, tmp_path, monkeypatch):
    out, settings = tmp_path / "run", {**SIX_STEPS, "ema": 0.5}
    with monkeypatch.context() as patch:
        after_step(patch, 5, stop)
        semask(*recipe(out, **settings), code=130)
    before = read_whole(out / STATE)[0]
    changed = {**settings, "batch_size": 3, "lr": 2e-3, "steps": 8, "encoder_lr": 0.5, "weight_decay": 0}
    message = semask.refused(*recipe(out, **changed), "--resume")
    assert message == (
        "training.steps is 8, but the run to resume was started with 6: give the same, --resume_changed to go on all "
        "the same with other numbers, or start a new run in another folder"
    )
    with monkeypatch.context() as patch:
        restored: list[tuple[dict[str, torch.Tensor], Any]] = []
        restore = Run._restore

        def watched(run: Run, *arguments: Any) -> None:
            restore(run, *arguments)
            moments = {name: run.optimizer.state[x] for name, x in run.model.named_parameters()}
            restored.append((run.model.state_dict(), {name: x["exp_avg"].clone() for name, x in moments.items()}))

        patch.setattr(Run, "_restore", watched)
        lines = semask(*recipe(out, **changed), "--resume_changed").err.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("going on"))
    assert lines[first : first + 6] == [
        "going on after step 4 and 16 samples; the numbers will differ, because of",
        "- training.steps: 6 -> 8",
        "- training.batch_size: 4 -> 3",
        "- training.lr: 0.001 -> 0.002",
        "- training.encoder_lr: 1.0 -> 0.5",
        "- training.weight_decay: 0.0001 -> 0.0",
    ]
    moments = restored[0][1]
    for name, moment in moments.items():  # the parameters are in other groups now
        assert torch.equal(moment, before[f"optimizer.{name}.exp_avg"])
    note = {
        "step": 4,
        "changes": {
            "training.steps": [6, 8],
            "training.batch_size": [4, 3],
            "training.lr": [0.001, 0.002],
            "training.encoder_lr": [1.0, 0.5],
            "training.weight_decay": [0.0001, 0.0],
        },
    }
    assert load(out / "last.safetensors").metadata["changes"] == [note]
    assert read_saved(out / STATE)["samples"] == 4 * 4 + 4 * 3
    assert [line[0] for line in timeless(out / "log.csv")] == ["step", *"12345678"]
    semask(*recipe(out, **{**changed, "steps": 9, "ema": "null"}), "--resume_changed")
    later = {"step": 8, "changes": {"training.steps": [8, 9], "training.ema": [0.5, None]}}
    assert load(out / "last.safetensors").metadata["changes"] == [note, later]
    assert "changes" not in semask(*recipe(out, **{**changed, "steps": 9, "ema": "null"}), "--resume").err


@pytest.mark.parametrize("batch", [3, 7])
def test_no_image_is_skipped_or_repeated_when_the_batch_changes(semask, recipe, tmp_path, monkeypatch, batch):
    settings = {"save_every": 2, "batch_size": 2, "data.check": "none"}
    whole = positions(monkeypatch)
    semask(*recipe(tmp_path / "whole", steps=13, **settings))
    found = whole[:]
    whole.clear()
    semask(*recipe(tmp_path / "run", steps=2, **settings))
    semask(*recipe(tmp_path / "run", **{**settings, "steps": 5, "batch_size": batch}), "--resume_changed", "true")
    assert whole == found[: 2 * 2 + 3 * batch]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.drop_path": 0.2}, "model.drop_path is 0.2, but the run to resume has None: that is another model"),
        ({"model.channels": 8}, "model.channels is 8, but the run to resume has 16: that is another model"),
        ({"ema": 0.9}, "training.ema is 0.9, but the run to resume keeps no average: leave it out"),
        ({"steps": 7}, "training.steps is 7, but the run to resume has done 8: give more"),
    ],
)
def test_what_a_run_can_not_go_on_with(semask, recipe, trained, settings, message):
    state = digests(trained)
    settings = {"steps": 8, "save_every": 4, "evaluate_every": 4, **settings}
    assert semask.refused(*recipe(trained, **settings), "--resume_changed") == message
    assert digests(trained) == state


def age(out: Path, *, version: str) -> None:
    """Turn the state before the newest into one that an earlier version wrote: one file, with numbered moments."""
    tensors, saved = read_whole(out / EARLIER)
    model = load(out / "last.safetensors")
    names = {id(x): name for name, x in model.named_parameters()}
    saved["parameters"] = [names[id(x)] for group in parameter_groups(model, Training()) for x in group["params"]]
    for number, name in enumerate(saved["parameters"]):
        for kind in ("step", "exp_avg", "exp_avg_sq"):
            tensors[f"optimizer.{number}.{kind}"] = tensors.pop(f"optimizer.{name}.{kind}")
    for name in (STATE, EARLIER):
        shutil.rmtree(out / name)
    path = out / "resume.safetensors"
    if version == "0.2.dev":
        write_tensors(path, tensors, saved)
    else:
        for name in ("samples", "device", "parameters", "metrics"):
            del saved[name]
        del saved["recipe"]["training"]["betas"]  # as if it were a new setting
        save_file(tensors, path, metadata={"format": FORMAT, "semask": json.dumps(saved)})


def test_a_state_in_one_file_goes_on(semask, recipe, tmp_path, monkeypatch):
    settings = {"steps": 6, "save_every": 2, "evaluate_every": 2}
    semask(*recipe(tmp_path / "whole", **settings))
    with monkeypatch.context() as patch:
        after_step(patch, 5, stop)
        semask(*recipe(tmp_path / "run", **settings), code=130)
    age(tmp_path / "run", version="0.2.dev")
    assert "already holds a run" in semask.refused(*recipe(tmp_path / "run", **settings))
    with monkeypatch.context() as patch:
        after_step(patch, 5, stop)
        semask(*recipe(tmp_path / "run", **settings), "--resume", code=130)
    assert (tmp_path / "run" / "resume.safetensors").exists()  # it is the state before the newest one
    semask(*recipe(tmp_path / "run", **settings), "--resume")
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    assert not (tmp_path / "run" / "resume.safetensors").exists()


def test_a_state_of_version_0_1_goes_on(semask, recipe, tmp_path):
    settings = {"steps": 4, "save_every": 2, "evaluate_every": 2}
    semask(*recipe(tmp_path / "whole", **settings))
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    age(tmp_path / "run", version="0.1")
    refused = semask.refused(*recipe(tmp_path / "run", **settings, encoder_lr=0.1), "--resume_changed")
    assert refused == "training.encoder_lr is 0.1, which a state of semask 0.1 can't go on with: give 1.0"
    semask(*recipe(tmp_path / "run", **settings), "--resume")
    assert_same_run(tmp_path / "whole", tmp_path / "run", names=(*FILES, STATE))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors, saved: saved.update(parameters=["x"]),
        lambda tensors, saved: tensors.update({"optimizer.0.exp_avg": torch.zeros(1)}),
        lambda tensors, saved: tensors.update({"optimizer.9999.exp_avg": torch.zeros(1)}),
        lambda tensors, saved: tensors.update({"optimizer.x.exp_avg": torch.zeros(1)}),
        lambda tensors, saved: tensors.update({"optimizer.": torch.zeros(1)}),
        lambda tensors, saved: tensors.pop("model.decoder.classifier.bias"),
    ],
)
def test_a_state_in_one_file_of_a_wrong_form_is_refused(semask, recipe, trained, tmp_path, spoil):
    shutil.copytree(trained, tmp_path / "run")
    age(tmp_path / "run", version="0.2.dev")
    path = tmp_path / "run" / "resume.safetensors"
    tensors, saved = read_tensors(path)
    spoil(tensors, saved)
    write_tensors(path, tensors, saved)
    semask.refused(*recipe(tmp_path / "run", steps=8, save_every=4, evaluate_every=4), "--resume")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors, saved: saved.update(step="4"),
        lambda tensors, saved: saved.update(step=-1),
        lambda tensors, saved: saved.update(best=None),
        lambda tensors, saved: saved.update(losses=[[1.0, 2.0]]),
        lambda tensors, saved: saved.update(losses=[["a", "b", "c"]]),
        lambda tensors, saved: saved.update(recipe={}),
        lambda tensors, saved: saved.update(recipe={"training": 3}),
        lambda tensors, saved: saved.update(changes={}),
        lambda tensors, saved: saved.pop("losses"),
        lambda tensors, saved: tensors.pop("model.decoder.classifier.bias"),
        lambda tensors, saved: tensors.update({"model.more": torch.zeros(1)}),
        lambda tensors, saved: tensors.update({"model.decoder.classifier.bias": torch.zeros(11).long()}),
        lambda tensors, saved: tensors.update({"model.decoder.classifier.bias": torch.zeros(12)}),
        lambda tensors, saved: tensors.pop("optimizer.decoder.classifier.bias.exp_avg"),
        lambda tensors, saved: tensors.update({"optimizer.decoder.classifier.bias.exp_avg": torch.zeros(12)}),
        lambda tensors, saved: tensors.update({"optimizer.decoder.classifier.bias.more": torch.zeros(11)}),
        lambda tensors, saved: tensors.update({"optimizer.x.exp_avg": torch.zeros(1)}),
        lambda tensors, saved: tensors.update({"optimizer.": torch.zeros(1)}),
    ],
)
@pytest.mark.parametrize("switch", ["--resume", "--resume_changed"])
def test_a_state_of_a_wrong_form_is_refused_with_one_line(semask, recipe, trained, tmp_path, spoil, switch):
    shutil.copytree(trained, tmp_path / "run")
    rewrite(tmp_path / "run" / STATE, spoil)
    before = digests(tmp_path / "run")
    semask.refused(*recipe(tmp_path / "run", steps=8, save_every=4, evaluate_every=4), switch)
    assert digests(tmp_path / "run") == before
