import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import uneven
from uneven import STEPS, compare_runs, train_uneven, write_uneven

from semask.checkpoints.sources import load

# Dropout aside, the prior's loss is the same for any split of a batch: no BatchNorm, and divided by all pixels.
SETTINGS = {"batch_size": 4, "steps": 3, "save_every": 3, "loss.average": "all", "model.drop_path": 0, "ema": 0.5}
# Only the first process counts the pixels of the classes; all draw by them, and weigh with them.
SETTINGS |= {"loss.class_weights": "effective", "augmentation.rare_images": 0.5, "augmentation.rare_crop": 0.5}


def losses(run: Path) -> list[dict[str, str]]:
    with open(run / "log.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def two_processes(recipe, tmp_path_factory) -> Path:
    """Run that two processes trained together."""
    out = tmp_path_factory.mktemp("two") / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "semask.cli"]
    subprocess.run(
        [*launcher, *recipe(out, **SETTINGS)],
        check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, capture_output=True,
    )  # fmt: skip
    return out


def test_every_image_is_measured_once_with_the_saved_weights(semask, two_processes, tmp_path):
    metrics = json.loads((two_processes / "last.json").read_text(encoding="utf-8"))["metrics"]
    path = two_processes / "last.safetensors"
    semask("evaluate", path, "--workers=0", "--device=cpu", "--out", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert {name: report[name] for name in metrics} == metrics


def test_two_processes_see_the_samples_of_one(semask, recipe, two_processes, tmp_path):
    semask(*recipe(tmp_path / "one", **SETTINGS))
    one, two = losses(tmp_path / "one")[0], losses(two_processes)[0]
    assert float(two["prior"]) == pytest.approx(float(one["prior"]), rel=1e-4)


@pytest.mark.parametrize("decoder", STEPS)
def test_every_pixel_of_a_step_weighs_the_same_in_one_and_in_two_processes(semask, tmp_path, decoder):
    data = write_uneven(tmp_path / "data")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*launcher, uneven.__file__, str(data), str(tmp_path / "two"), decoder, "2"],
        check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, capture_output=True,
    )  # fmt: skip
    train_uneven(data, tmp_path / "one", decoder, passes=1)
    compare_runs(tmp_path / "one", tmp_path / "two")


def test_one_process_writes(two_processes):
    assert [row["step"] for row in losses(two_processes)] == ["1", "2", "3"]
    assert len((two_processes / "evaluation.csv").read_text(encoding="utf-8").splitlines()) == 2
    assert len(list((two_processes / "tensorboard").iterdir())) == 1
    assert load(two_processes).metadata["step"] == 3


def test_one_process_goes_on_with_what_two_began(semask, recipe, two_processes, tmp_path):
    shutil.copytree(two_processes, tmp_path / "run")
    settings = {**SETTINGS, "steps": 5}
    message = semask.refused(*recipe(tmp_path / "run", **SETTINGS), "--resume")
    assert message.startswith("processes is 1, but the run to resume was started with 2: give the same, --resume_ch")
    lines = semask(*recipe(tmp_path / "run", **settings), "--resume_changed").err.splitlines()
    assert "- processes: 2 -> 1" in lines
    semask(*recipe(tmp_path / "one", **settings))
    # The same images in the same steps, so nearly the same loss; dropout and BatchNorm's statistics differ.
    one, other = losses(tmp_path / "one")[3:], losses(tmp_path / "run")[3:]
    assert [row["step"] for row in other] == ["4", "5"]
    assert [float(row["prior"]) for row in other] == pytest.approx([float(row["prior"]) for row in one], rel=0.02)
    changes = load(tmp_path / "run" / "last.safetensors").metadata["changes"]
    assert changes == [{"step": 3, "changes": {"training.steps": [3, 5], "processes": [2, 1]}}]
