"""The same numbers in one process and in 2, 3 and 4, with DDP and with FSDP2; a stop, and another number of them."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from many import launch, train_tiny, train_together, write_scenes
from safetensors.torch import load_file
from states import MANIFEST, read_saved, read_whole

from semask.checkpoints.tensors import read_header

FIFTY = {"steps": 50, "ema": 0.9, "clip_norm": 1.0, "gradient_checkpointing": True}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("many") / "scenes")


@pytest.fixture(scope="module")
def alone(scenes, tmp_path_factory) -> Path:
    """Fifty steps in one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    train_tiny(scenes, out, **FIFTY)
    return out


def require_close(expected: Path, found: Path, *, most: float) -> None:
    """Losses, weights and everything else of two runs."""
    rows = [
        list(csv.DictReader((run / "log.csv").read_text(encoding="utf-8").splitlines())) for run in (expected, found)
    ]
    assert len(rows[0]) == len(rows[1]) > 0
    for one, other in zip(*rows, strict=True):
        for name in ("loss", "main", "prior"):
            assert float(one[name]) == pytest.approx(float(other[name]), rel=most), (name, one["step"])
    for name in ("last.safetensors", "best.safetensors"):
        weights, others = (load_file(run / name) for run in (expected, found))
        assert weights.keys() == others.keys()
        difference = max((weights[key] - others[key]).abs().max().item() for key in weights)
        assert difference <= most, (name, difference)
    states = [read_whole(run / "resume")[0] for run in (expected, found)]
    assert states[0].keys() == states[1].keys()
    for key, tensor in states[0].items():
        torch.testing.assert_close(states[1][key], tensor, rtol=0, atol=most)
    confusions = [read_header(run / "last.safetensors")["metrics"] for run in (expected, found)]
    assert confusions[0] == confusions[1]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_fifty_steps_give_the_weights_of_one_process(scenes, alone, tmp_path, processes, parallel):
    train_together(processes, scenes, tmp_path / "run", parallel=parallel, **FIFTY)
    require_close(alone, tmp_path / "run", most=1e-5)
    files = json.loads((tmp_path / "run" / "resume" / MANIFEST).read_text(encoding="utf-8"))["state"]["files"]
    assert len(files) == (processes if parallel == "fsdp" else 1)


def test_fsdp_takes_other_passes_precisions_and_a_frozen_backbone(scenes, tmp_path):
    settings = {"dtype": "float32", "steps": 3, "accumulate": 2, "freeze_encoder_steps": 2, "precision": "bf16"}
    for parallel in ("ddp", "fsdp"):
        train_together(2, scenes, tmp_path / parallel, parallel=parallel, **settings)
    rows = [(tmp_path / x / "log.csv").read_text(encoding="utf-8").splitlines()[1:] for x in ("ddp", "fsdp")]
    for one, other in zip(*rows, strict=True):
        assert float(one.split(",")[1]) == pytest.approx(float(other.split(",")[1]), rel=1e-3)


GONE = "processes died or can't be reached, its own lines may say why: start all of them again with --resume"


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_run_killed_on_four_processes_goes_on_with_others(scenes, tmp_path, parallel):
    settings = {"steps": 8, "parallel": parallel, "ema": 0.9, "save_every": 4}
    train_together(4, scenes, tmp_path / "whole", **settings)
    said = train_together(4, scenes, tmp_path / "run", code=2, die_at=[2, 6], **settings)
    assert said.count(GONE) == 3
    assert "Traceback" not in said
    assert read_saved(tmp_path / "run" / "resume")["step"] == 4
    for processes in (4, 2, 1):
        out = tmp_path / str(processes)
        shutil.copytree(tmp_path / "run", out)
        if processes > 1:
            said = train_together(processes, scenes, out, changed=processes != 4, **settings)
            assert (f"- processes: 4 -> {processes}" in said) == (processes != 4)
        else:
            train_tiny(scenes, out, changed=True, **settings)
        require_close(tmp_path / "whole", out, most=1e-5)
    states = [read_whole(tmp_path / x / "resume")[0] for x in ("whole", "4")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])  # bit for bit


def test_torchrun_starts_a_run_again_whose_process_died(scenes, tmp_path):
    settings = {"steps": 6, "parallel": "fsdp", "save_every": 2}
    train_together(2, scenes, tmp_path / "whole", **settings)
    said = launch(2, scenes, tmp_path / "run", "--max-restarts=1", die_at=[1, 5], **settings)
    assert GONE in said
    for name in ("resume", "resume.previous"):
        states = [read_whole(tmp_path / x / name) for x in ("whole", "run")]
        assert states[0][1] == states[1][1]
        assert all(torch.equal(states[0][0][key], states[1][0][key]) for key in states[0][0])
