import json
import os
import subprocess
import sys

import pytest
import torch

from semask.acceleration.precision import choose, computes_in_bf16, processor_has_bf16
from semask.commands.console import ConsoleReporter
from semask.settings.precision import tell
from semask.training.state import read_saved

CPU = torch.device("cpu")


@pytest.fixture
def native(monkeypatch):
    """Tell what a device computes in."""
    return lambda answer: monkeypatch.setattr("semask.acceleration.precision.computes_in_bf16", lambda device: answer)


@pytest.mark.parametrize(
    ("capabilities", "kernels", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "AVX2", False),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "AVX512", False),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": True}, "AVX512", True),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": True}, "AVX2", False),  # as ATEN_CPU_CAPABILITY=avx2 makes it
        ({"amx_bf16": True}, "AVX512", True),
        ({"neon": True, "bf16": True}, "DEFAULT", True),
        ({"neon": True, "bf16": False}, "SVE256", False),
        ({}, "DEFAULT", False),
    ],
)
def test_processors(capabilities, kernels, expected):
    assert processor_has_bf16(capabilities, kernels=kernels) is expected


@pytest.mark.parametrize("lesser", [{"ATEN_CPU_CAPABILITY": "avx2"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}], ids=str)
def test_this_processor_with_less(lesser):
    code = "import torch; from semask.acceleration.precision import choose; print(choose('auto', 'cpu').precision)"
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **lesser}, capture_output=True, text=True, check=True
    )
    assert run.stdout == "fp32\n"


def test_devices_that_are_not_known_to_compute_in_it():
    assert not computes_in_bf16(torch.device("mps"))


@pytest.mark.parametrize(
    ("asked", "answer", "precision", "remark", "warning"),
    [
        ("auto", True, "bf16", "precision bf16 (auto: this processor computes in it)", False),
        ("auto", False, "fp32", "precision fp32 (auto: this processor does not compute in bf16)", False),
        ("fp32", True, "fp32", "precision fp32", False),
        ("bf16", True, "bf16", "precision bf16", False),
        ("bf16", False, "bf16", "this processor only emulates it: it is 5 to 7 times slower than fp32", True),
        ("fp16", False, "fp16", "precision fp16", False),
    ],
)
def test_choices(native, capsys, asked, answer, precision, remark, warning):
    native(answer)
    chosen = choose(asked, CPU)
    assert (chosen.precision, chosen.warning) == (precision, warning)
    assert remark in chosen.remark
    tell(chosen, ConsoleReporter())
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.startswith("warning: ") == warning


@pytest.mark.parametrize(("answer", "precision"), [(True, "bf16"), (False, "fp32")])
def test_commands_say_and_store_what_was_chosen(semask, recipe, scenes, tmp_path, native, answer, precision):
    native(answer)
    said = semask(*recipe(tmp_path / "run", steps=1, precision="auto")).err
    assert f"precision {precision} (auto" in said
    stored = json.loads((tmp_path / "run" / "last.json").read_text(encoding="utf-8"))
    assert stored["recipe"]["training"]["precision"] == precision
    report = tmp_path / "report.json"
    said = semask("evaluate", tmp_path / "run", "--workers=0", "--device=cpu", "--out", report).err
    assert f"precision {precision} (auto" in said
    assert json.loads(report.read_text(encoding="utf-8"))["precision"] == precision
    said = semask("predict", tmp_path / "run", scenes / "images" / "val", "--device=cpu", "--out", tmp_path / "out").err
    assert f"precision {precision} (auto" in said


def test_an_explicit_bf16_that_is_emulated_is_warned_of(semask, trained, recipe, scenes, tmp_path, native):
    native(False)
    warning = "warning: precision bf16, but this processor only emulates it: it is 5 to 7 times slower than fp32"
    assert warning in semask(*recipe(tmp_path / "run", steps=1, precision="bf16")).err
    assert warning in semask("evaluate", trained, "--workers=0", "--device=cpu", "--precision=bf16").err
    image = sorted((scenes / "images" / "val").iterdir())[0]
    assert warning in semask("predict", trained, image, "--device=cpu", "--precision=bf16", "--out", tmp_path / "x").err


@pytest.mark.parametrize(("before", "after", "precision"), [(True, False, "bf16"), (False, True, "fp32")])
def test_a_run_goes_on_in_what_it_was_started_with(semask, recipe, tmp_path, native, before, after, precision):
    out = tmp_path / "run"
    native(before)
    semask(*recipe(out, steps=2, precision="auto"))
    native(after)
    said = semask(*recipe(out, steps=2, precision="auto"), "--resume").err
    assert f"precision {precision}" in said
    assert ("warning: precision bf16, but this processor only emulates it" in said) == before
    assert read_saved(out / "resume")["recipe"]["training"]["precision"] == precision
    other = {"bf16": "fp32", "fp32": "bf16"}[precision]
    message = semask.refused(*recipe(out, steps=2, precision=other), "--resume")
    assert f"training.precision is {other}, but the run to resume was started with {precision}" in message
