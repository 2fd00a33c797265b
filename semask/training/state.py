"""The state of a run on the disk, the newest and the one before, and what changes when a run goes on otherwise."""

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from semask.checkpoints.tensors import read_header, read_tensors
from semask.files.text import one_line
from semask.prediction.processes import is_first
from semask.training.state_files import read_manifest, read_shapes, write_state_files

STATE, EARLIER = "resume", "resume.previous"
"""Folders of the newest state and of the one before it."""
FILES = ("resume.safetensors", "resume.previous.safetensors")
"""What they were in earlier versions: a file each, with the moments numbered as the optimizer has them."""
CHANGEABLE = {
    "data": {"root", "workers", "check", "cache", "cache_gib"},
    "training": {"log_every", "save_every", "evaluate_every", "samples", "report", "log_with", "cpu"},
}
"""Settings of the recipe that a resumed run may change: they don't change its numbers."""


GROUPING = ("training.encoder_lr", "training.layer_decay", "training.weight_decay")
"""Settings that put the parameters in other groups."""


class State(NamedTuple):
    """A state that was found whole.

    Attributes:
        path: Its folder, or its file in earlier versions.
        tensors: Weights, moments, averages: of a folder their types and shapes only, see `state_files.read_into`.
        saved: Everything else, as JSON.
        warning: Why it is not the newest one; None if it is.
    """

    path: Path
    tensors: dict[str, Tensor]
    saved: dict[str, Any]
    warning: str | None


class Change(NamedTuple):
    """A setting, or a property of the machine, that is not what it was."""

    name: str
    before: Any
    now: Any


def require_free(out: Path) -> None:
    """Refuse a folder with a run in it; one that did not come to its first save may be begun again.

    Raises:
        ValueError: If there is one.
    """
    names = (EARLIER, *FILES, "best.safetensors", "last.safetensors")
    if any(os.path.lexists(out / name) for name in names) or not is_new(out / STATE):
        raise ValueError(f"{out} already holds a run: give --resume to go on with it, or another --out")


def is_new(path: Path) -> bool:
    """Whether there is no state, or that of a run before its first step."""
    if not os.path.lexists(path):
        return True
    try:
        return read_saved(path).get("step") == 0
    except ValueError:
        return False


def holds_run(out: Path) -> bool:
    """Whether there is a state in a folder, whole or not."""
    return any(os.path.lexists(out / name) for name in (STATE, EARLIER, *FILES))


def require_run(out: Path) -> None:
    """Refuse a folder without a state.

    Raises:
        ValueError: If there is none.
    """
    if not holds_run(out):
        raise ValueError(f"{out} holds no run to resume ({STATE} is missing): start one without --resume")


def read_saved(path: Path) -> dict[str, Any]:
    """Read only the JSON of a state, in a folder or in a file; the tensors are not looked at.

    Raises:
        ValueError: If it is missing, damaged, or of something else.
    """
    return read_header(path) if path.name in FILES else read_manifest(path)[0]


def read_state(out: Path) -> State:
    """Read the newest state, or the one before if that is damaged or missing; all processes call it together.

    Raises:
        ValueError: If none can be read.
    """
    faults: list[ValueError] = []
    newest, *earlier = [out / name for name in (STATE, EARLIER, *FILES)]
    if not any(os.path.lexists(out / name) for name in (STATE, EARLIER)):
        newest, *earlier = [out / name for name in FILES]
    for path in (newest, *(x for x in earlier if os.path.lexists(x))):
        try:
            tensors, saved = read_tensors(path) if path.name in FILES else read_shapes(path)
        except ValueError as error:
            faults.append(error)
            continue
        if not faults:
            return State(path, tensors, saved, warning=None)
        what = "damaged" if os.path.lexists(newest) else "missing"
        step = one_line(saved.get("step"))
        warning = f"{newest}: {what}; going on from the state before it, of step {step}"
        return State(path, tensors, saved, warning)
    if len(faults) == 1:
        raise faults[0]
    names = " and ".join(path.name for path in earlier if os.path.lexists(path))
    raise ValueError(f"{faults[0]}; what was before it, {names}, can't be read either") from faults[-1]


def write_state(out: Path, tensors: Mapping[str, Tensor], saved: Mapping[str, Any], *, keep: bool) -> None:
    """Write the newest state; at every moment there is a whole one under one of the two names.

    Args:
        out: Folder of the run.
        tensors: Weights, moments, averages.
        saved: Everything else, as JSON.
        keep: Whether the newest one of before is whole and of this run: then it is kept as the one before. Else it is
            replaced, and the one before stays.

    Raises:
        ValueError: If it can't be written.
    """
    write_state_files(out / STATE, tensors, saved, keep=out / EARLIER if keep else None)
    if (out / EARLIER).is_dir() and is_first():
        for name in FILES:  # older than both
            (out / name).unlink(missing_ok=True)


def recipe_changes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Settings that would change the numbers of a run.

    Args:
        saved: Recipe of the state.
        now: Recipe of this run. A setting that an older version did not have is no change if it has its default.
    """
    changes = []
    for group, settings in now.items():
        before = saved.get(group, {})
        for name, value in settings.items():
            known = before.get(name, defaults(group).get(name)) if before else None
            changes_nothing = name in CHANGEABLE.get(group, set())
            if name == "evaluate_every":  # where the run ends when no evaluation is better
                changes_nothing = settings.get("patience") is None
            if plain(known) != plain(value) and not changes_nothing:
                changes.append(Change(f"{group}.{name}", known, plain(value)))
    return changes


def defaults(group: str) -> dict[str, Any]:
    """Default of every setting of a section of a recipe."""
    from semask.settings.sections import SECTIONS  # builds on this module

    return {name: x.default for name, x in inspect.signature(SECTIONS[group]).parameters.items()}


def plain(value: Any) -> Any:
    """A setting as JSON gives it back: tuples become lists."""
    return [plain(x) for x in value] if isinstance(value, list | tuple) else value


def require_same(changes: list[Change]) -> None:
    """Refuse to go on when something changed that changes the numbers.

    Raises:
        ValueError: If so; the message names the first.
    """
    for name, before, now in changes:
        raise ValueError(
            f"{name} is {one_line(now)}, but the run to resume was started with {one_line(before)}: give the same, "
            "--resume_changed to go on all the same with other numbers, or start a new run in another folder"
        )


def require_possible(changes: list[Change], saved: Mapping[str, Any], *, steps: int, named: bool) -> None:
    """Refuse what a run can't go on with.

    Args:
        changes: What changed.
        saved: JSON of the state.
        steps: Steps of the run that is to go on.
        named: Whether it is known which moments belong to which parameter.

    Raises:
        ValueError: If it is another model, there is no moving average to go on with, or more steps were done.
    """
    for name, before, now in changes:
        texts = (one_line(now), one_line(before))
        if name.startswith("model."):
            raise ValueError(f"{name} is {texts[0]}, but the run to resume has {texts[1]}: that is another model")
        if name == "training.ema" and before is None:
            raise ValueError(f"training.ema is {texts[0]}, but the run to resume keeps no average: leave it out")
        if name in GROUPING and not named:
            raise ValueError(f"{name} is {texts[0]}, which a state of semask 0.1 can't go on with: give {texts[1]}")
    if saved["step"] > steps:
        raise ValueError(f"training.steps is {steps}, but the run to resume has done {saved['step']}: give more")


def require_like(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not those of a model, which loading would cast.

    Raises:
        RuntimeError: If names, shapes or types differ.
    """
    for name in sorted(tensors.keys() | expected.keys()):
        if name not in tensors or name not in expected:
            raise RuntimeError(f"{name} is {'missing' if name in expected else 'unknown'}")
        found, wanted = (f"{x.dtype} {list(x.shape)}" for x in (tensors[name], expected[name]))
        if found != wanted:
            raise RuntimeError(f"{name} is {found} instead of {wanted}")


def require_state(saved: Mapping[str, Any]) -> None:
    """Refuse JSON that is not that of a state.

    Raises:
        TypeError: If something is missing, or of another kind.
    """
    kinds: dict[str, Any] = {
        "step": int,
        "samples": int,
        "best": int | float,
        "recipe": dict,
        "losses": list,
        "scaler": dict | None,
        "parameters": list,
        "changes": list,
        "stale": int,
        "ended": dict,
    }
    later = ("samples", "parameters", "changes", "stale", "ended")  # not in states of semask 0.1
    if "ended" in saved:
        require_ended(saved["ended"])
    for name, kind in kinds.items():
        value = saved.get(name)
        if not (name in saved and isinstance(value, kind)) and not (name in later and name not in saved):
            raise TypeError(f"{name} is {one_line(value, longest=40)}")
        if kind is int and name in saved and saved[name] < 0:
            raise TypeError(f"{name} is {saved[name]}")


def require_ended(ended: Any) -> None:
    """Refuse JSON that does not say at which step a run ended, and why.

    Raises:
        TypeError: If it does not.
    """
    known = isinstance(ended, dict) and isinstance(ended.get("step"), int) and isinstance(ended.get("why"), str)
    if not known:
        raise TypeError(f"ended is {one_line(ended, longest=40)}")
