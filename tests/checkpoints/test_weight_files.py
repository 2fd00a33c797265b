import os
import pickle
import resource
import signal
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from semask.checkpoints import unpickle
from semask.checkpoints.weight_files import environment, read_file

TENSORS = {"module.weight": torch.randn(3, 4), "module.index": torch.arange(4)}


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        read_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_training_checkpoint(tmp_path):
    path = tmp_path / "a file.pth"
    meta = {"CLASSES": ("wall",), "PALETTE": [[1, 2, 3]]}
    torch.save({"meta": meta, "state_dict": TENSORS, "optimizer": {"state": {0: torch.ones(2)}}}, path)
    tensors, about = read_file(path)
    assert tensors.keys() == {"weight", "index"}
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[f"module.{name}"].dtype
        assert tensor.equal(TENSORS[f"module.{name}"])
        tensor.zero_()  # ours to change, although the file that it was read from is gone
    assert about == {"meta": {"CLASSES": ["wall"], "PALETTE": [[1, 2, 3]]}}


def test_pickle_of_arrays_in_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torch.py").write_text("raise SystemExit")  # where one works, no module is looked for
    weight = np.arange(6, dtype="f4")
    (tmp_path / "r50.pkl").write_bytes(pickle.dumps({"model": {"weight": weight}, "__author__": "a"}))
    tensors, about = read_file(Path("r50.pkl"))
    assert tensors["weight"].equal(torch.from_numpy(weight))
    assert about == {"__author__": "a"}


def test_safetensors(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(TENSORS, path, metadata={"format": "pt"})
    tensors, about = read_file(path)
    assert tensors["index"].equal(TENSORS["module.index"])
    assert about == {"format": "pt"}
    save_file({**TENSORS, "weight": torch.ones(1)}, path)
    assert read_file(path).tensors.keys() == {*TENSORS, "weight"}  # not all names begin with module.
    save_file({}, path)
    assert refused(path) == "no tensors in it: give a file with a state dict"
    for data in (b"", b"x" * 99, (1 << 60).to_bytes(8, "little") + b"{}"):
        path.write_bytes(data)
        assert refused(path).startswith("not a readable weight file (")


def test_not_a_file(tmp_path):
    for path in (tmp_path / "nowhere.pth", tmp_path, tmp_path / "nowhere.safetensors"):
        assert refused(path).startswith("no such file: give a .safetensors, .pth,")


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_code_is_refused(tmp_path, suffix):
    path, marker = tmp_path / f"evil{suffix}", tmp_path / "ran"
    content = {"model": TENSORS, "optimizer": [Evil(marker)]}
    path.write_bytes(pickle.dumps(content)) if suffix == ".pkl" else torch.save(content, path)
    assert refused(path).startswith("refused, it holds posix.system, which is no tensor")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"})" + b"\x85" * 5_000_000 + b"Ns.", "not a readable weight file (its reader died of SIGSEGV)"),
        (b"\x80\x02]r\xff\xff\xff\xff.", "not a readable weight file (it needs too much memory)"),
    ],
)
def test_the_caller_survives(tmp_path, data, message):
    path = tmp_path / "weights.pkl"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refused(path).startswith(message)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10  # KiB
    assert not list(tmp_path.glob("[!w]*"))


def test_too_slow(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    torch.save(TENSORS, path)
    monkeypatch.setattr(unpickle, "time_limit", lambda size: 0.01)
    assert refused(path).startswith("not a readable weight file (it takes too long): convert it to .safetensors where")


def test_too_slow_by_the_limit_of_the_system(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    path.touch()
    killed = subprocess.CompletedProcess([], -signal.SIGXCPU)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: killed)
    assert "(it takes too long)" in refused(path)


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = tmp_path / "weights.bin"
    with tarfile.open(path, "w") as file:
        file.addfile(tarfile.TarInfo("storages"))
    assert refused(path).startswith("not a readable weight file (")
    assert list(tmp_path.iterdir()) == [path]


def test_environment(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "here", "/there"]))
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    variables = environment()
    assert variables["PYTHONPATH"] == os.pathsep.join([os.path.abspath("here"), "/there"])
    assert not any(name.startswith("TORCH") for name in variables)
