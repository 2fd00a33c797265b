import re
import subprocess
import sys
from pathlib import Path

import pytest

from semask.extras import EXTRAS, explained, require

WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None  # as if it were not installed
from semask.cli import main
main(sys.argv[2:])
"""


def without(package: str, *arguments: object) -> str:
    """Run a command where a package is not installed; returns the one line that it ends in."""
    command = [sys.executable, "-c", WITHOUT, package, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert "Traceback" not in run.stderr
    assert run.returncode == 2
    return run.stderr.splitlines()[-1].removeprefix("semask: error: ")


def line(package: str) -> str:
    extra = EXTRAS[package]
    return f"{package} is not installed: it comes with the {extra} extra, pip install 'semask[{extra}]'"


def test_training_without_accelerate(recipe, tmp_path):
    for arguments in (recipe(tmp_path / "run"), ["demo", "--out", tmp_path]):
        assert without("accelerate", *arguments) == line("accelerate")
    assert not list(tmp_path.iterdir())


def test_training_without_tensorboard(recipe, tmp_path):
    assert without("tensorboard", *recipe(tmp_path / "run")) == line("tensorboard")
    assert not (tmp_path / "run").exists()


def test_the_app_without_gradio():
    assert without("gradio", "app") == line("gradio")


def test_serving_without_its_packages():
    for package in ("fastapi", "uvicorn", "prometheus_client", "httpx"):
        assert without(package, "serve", "--port", "0") == line(package)


def test_packages_are_those_of_the_extras():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    for package, extra in EXTRAS.items():
        (packages,) = re.findall(rf"^{extra} = (\[.*\])$", text, flags=re.M)
        assert f'"{package}>=' in packages


def test_lines(monkeypatch):
    require("onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match=re.escape(line("onnx"))):
        require("onnx")
    assert explained(ModuleNotFoundError("No module named 'nncf.x'", name="nncf.x")) == line("nncf")
    assert explained(ImportError("Matcher requires the scipy library but it was not found")) == line("scipy")
    assert explained(ModuleNotFoundError("No module named 'torch'", name="torch")) == (
        "torch is not installed: only .onnx files are predicted without it; pip install semask"
    )
    assert explained(ImportError("libGL.so.1: cannot open shared object file")) is None


def test_report_without_matplotlib(recipe, tmp_path):
    (tmp_path / "log.csv").write_text("step,loss\n1,2\n")
    assert without("matplotlib", "report", tmp_path) == line("matplotlib")
    assert without("matplotlib", *recipe(tmp_path / "run", report="true")) == line("matplotlib")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv"]


def test_films_without_pyav(trained, tmp_path):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"\0\0\0\x20ftypisom" + bytes(300))
    assert without("av", "predict", trained, film, "--out", tmp_path / "out") == line("av")
    assert not (tmp_path / "out").exists()
