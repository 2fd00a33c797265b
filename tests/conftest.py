import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from app_server import both, street
from browser import browser_page, chromium
from torch.utils._python_dispatch import TorchDispatchMode

from semask.cli import main
from semask.synthetic.dataset import write_synthetic

__all__ = ["both", "browser_page", "chromium", "street"]  # fixtures for every test
collect_ignore = ["goldens/version_0_1/write.py"]
"""Runs with the code of version 0.1 only."""
collect_ignore_glob = ["data/formats/samples/write*.py"]
"""Run with the tools whose files they write, which the tests do without."""


class LargestTensor(TorchDispatchMode):
    """Notes how many values the largest tensor has that any operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.values = max(self.values, tensor.numel())
        return result


@pytest.fixture
def largest_tensor() -> LargestTensor:
    """Use as `with largest_tensor: ...`, then look at `largest_tensor.values`."""
    return LargestTensor()


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def auto_is_fp32() -> Iterator[None]:
    """Tests compare the commands with models in float32: let auto mean that on every machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("semask.acceleration.precision.computes_in_bf16", lambda device: False)
        yield


class Output(NamedTuple):
    """What a command printed."""

    out: str
    err: str


class CommandLine:
    """Runs `semask ...` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object, code: int = 0) -> Output:
        """Run a command that ends with an exit code; the last 2000 characters of its errors explain another one."""
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(x) for x in arguments])
        output = Output(*self.capsys.readouterr())
        assert stop.value.code == code, output.err[-2000:]
        return output

    def refused(self, *arguments: object) -> str:
        """Run a command that a user got wrong: exit code 2, one line, no stack trace; returns the line."""
        output = self(*arguments, code=2)
        assert "Traceback" not in output.out + output.err
        lines = [line for line in output.err.splitlines() if line.startswith("semask: error: ")]
        assert len(lines) == 1
        assert output.err.endswith(lines[0] + "\n")
        return lines[0].removeprefix("semask: error: ")


Recipe = Callable[..., list[str]]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from threads, and lose much where other processes want the cores too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def semask(capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    with one_thread():
        yield CommandLine(capsys)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data set of 6 scenes to train on and 3 to evaluate on; only to be read."""
    return write_synthetic(tmp_path_factory.mktemp("scenes"), train=6, val=3, size=(48, 64))


@pytest.fixture(scope="session")
def recipe(scenes: Path) -> Recipe:
    """Arguments of a tiny training: recipe(out, steps=6, **{"model.channels": 8}); names without dot are training's."""

    def arguments(out: Path, **settings: object) -> list[str]:
        values: dict[str, object] = {
            "model.encoder": "swin_nano",
            "model.channels": 16,
            "model.num_classes": 11,
            "data.root": scenes,
            "data.workers": 0,
            "augmentation.scale": "null",
            "augmentation.crop": [32, 32],
            "training.steps": 4,
            "training.batch_size": 2,
            "training.lr": 1e-3,
            "training.warmup_steps": 2,
            "training.log_every": 1,
            "training.cpu": "true",
            "training.precision": "fp32",
        }
        values |= {name if "." in name else f"training.{name}": value for name, value in settings.items()}
        return ["train", *(f"--{name}={value}" for name, value in values.items()), f"--out={out}"]

    return arguments


@pytest.fixture(scope="session")
def trained(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run; only to be read."""
    out = tmp_path_factory.mktemp("trained") / "run"
    with one_thread(), pytest.raises(SystemExit, match="0"):
        main(recipe(out, steps=8, save_every=4, evaluate_every=4))
    return out
