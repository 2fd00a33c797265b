import json
import os
import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from semask.checkpoints.tensors import read_header
from semask.prediction.processes import Processes, all_or_none, gathered, joined

LINE = "semask: error: "


def start_two(*command: object, **environment: str) -> list[subprocess.Popen[str]]:
    """Start a Python command twice, as torchrun does, but with nobody that stops one when the other fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    } | environment
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**settings, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip


def finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each."""
    try:
        said = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]


def error_line(text: str) -> str:
    assert "Traceback" not in text
    (line,) = (line for line in text.splitlines() if line.startswith(LINE))
    return line.removeprefix(LINE)


def test_evaluate_shares_the_images(semask, trained, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "semask.cli"]
    corrupted = ["--corruptions", "snow", "--strengths", "4"] if find_spec("imagecorruptions") is not None else []
    command = ["evaluate", trained, "--workers=0", "--device=cpu", "--precision=fp32", "--details", *corrupted]
    made = {
        name: [f"--calibrate={tmp_path / f'{name}.safetensors'}", f"--worst={tmp_path / name}", "--out"]
        for name in ("one", "two")
    }
    run = subprocess.run(
        [*launcher, *map(str, [*command, *made["two"]]), str(tmp_path / "two.json")],
        check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, capture_output=True, text=True,
    )  # fmt: skip
    assert run.stderr.count("precision fp32") == 1
    assert run.stdout == semask(*command, *made["one"], tmp_path / "one.json").out
    one, two = (json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) for name in ("one", "two"))
    assert (one.pop("processes"), two.pop("processes")) == (1, 2)
    assert two.pop("machine").startswith(one.pop("machine").split(",")[0])
    assert one == two
    assert "calibrated" in one
    assert one["details"]["calibration"]["ece"] > 0
    assert read_header(tmp_path / "one.safetensors") == read_header(tmp_path / "two.safetensors")
    pictures = [[path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in ("one", "two")]
    assert len(pictures[0]) == 3
    assert pictures[0] == pictures[1]


def test_evaluate_ends_everywhere_when_one_process_cannot_go_on(trained, scenes, tmp_path):
    shutil.copytree(scenes, tmp_path / "data")
    image = sorted((tmp_path / "data" / "annotations" / "val").iterdir())[1]  # of the second process
    image.write_bytes(image.read_bytes()[:200])
    command = ["evaluate", trained, "--workers=0", "--device=cpu", "--data", tmp_path / "data"]
    (first, _, waiting), (second, _, broken) = finish(start_two("-m", "semask.cli", *command))
    assert (first, second) == (2, 2)
    assert image.name in error_line(broken)
    assert error_line(waiting) == "another process could not do its part: its own line says why"


def test_predict_shares_the_images(semask, trained, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.png")
    (photos / "3.png").write_bytes(b"no image")  # of the second process
    command = ["predict", trained, photos, "--device=cpu", "--precision=fp32", "--out"]
    (first, _, err), (second, *nothing) = finish(start_two("-m", "semask.cli", *command, tmp_path / "two"))
    assert (first, second) == (2, 2)  # as one process ends that has seen the image
    assert nothing == ["", ""]
    assert f"4 masks in {tmp_path / 'two'}" in err
    assert "1 of 5 images could not be segmented" in err
    assert "3.png" in err
    semask(*command, tmp_path / "one", code=2)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("verb", ["export", "convert", "info", "demo"])
def test_other_verbs_run_in_one_process(semask, monkeypatch, verb):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert semask.refused(verb) == f"{verb} runs in one process, but 2 were started: leave torchrun out"


def test_a_process_that_dies_is_not_waited_for(tmp_path):
    script = tmp_path / "part.py"
    script.write_text(
        """
import os, signal
from semask.checkpoints.tensors import read_header
from semask.prediction.processes import all_or_none, joined

with joined("cpu") as group:
    try:
        with all_or_none(group.world_size):
            if group.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
    except ValueError as error:
        print(error)
""",
        encoding="utf-8",
    )
    (first, said, err), (second, _, _) = finish(start_two(script))
    assert (first, second) == (0, -9), err
    assert said == "another process died: the work is not complete, start it again\n"


def test_alone():
    with joined("cpu") as group:
        assert group == Processes(0, 1, "cpu")
    assert gathered("a", 1) == ["a"]
    with all_or_none(1):
        pass
    with pytest.raises(KeyError), all_or_none(1):
        raise KeyError


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "64")
    monkeypatch.setenv("LOCAL_RANK", "63")
    with pytest.raises(ValueError, match=r"more processes than GPUs \(\d+\) on this machine"), joined("cuda"):
        pass
