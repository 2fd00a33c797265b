"""Every file here is read as `read_file` reads it, with the lock-down, in a process forked for it alone."""

import argparse
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch._utils import _rebuild_tensor_v2

from semask.checkpoints import unpickle

GIB = 1 << 30
STATE = {"weight": torch.randn(3, 4), "index": torch.arange(4), "half": torch.ones(2).bfloat16()}
ARRAYS = {
    "weight": np.arange(6, dtype="f4").reshape(2, 3),
    "big_endian": np.arange(3, dtype=">i4"),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "none": np.zeros((0, 2)),
    "number": np.array(3),
}

FORKS = """
import importlib.util, json, os, sys
spec = importlib.util.spec_from_file_location("unpickle", sys.argv[1])
unpickle = importlib.util.module_from_spec(spec)
spec.loader.exec_module(unpickle)
unpickle.time_limit = lambda size: 3

def attempt():
    unpickle.lock_down(0)
    try:
        eval(sys.stdin.read())
    except (unpickle.Unreadable, MemoryError):
        return unpickle.REFUSED
    return 0

run = attempt if sys.argv[2] == "attempt" else unpickle.main
for path in sys.stdin.read().split():
    if not (pid := os.fork()):
        for number, (name, flags) in enumerate([("", os.O_RDONLY), (".out", 577), (".log", 577)]):
            os.dup2(os.open(path + name, flags), number)
        sys.stdin = open(0)
        os._exit(run())
    _, status, usage = os.wait4(pid, 0)
    print(json.dumps([path, os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024]), flush=True)
"""


class Reading(NamedTuple):
    """How reading one file ended."""

    path: Path
    code: int
    memory: int

    @property
    def said(self) -> str:
        """The last line: the interpreter may have complained of what a failing unpickler left behind."""
        lines = self.path.with_name(self.path.name + ".log").read_text().splitlines()
        return lines[-1] if lines else ""

    def result(self) -> tuple[dict[str, torch.Tensor], Any]:
        assert self.code == 0, self.said
        with safe_open(self.path.with_name(self.path.name + ".out"), framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118


def readings(folder: Path, files: dict[str, bytes], run: str = "main") -> dict[str, Reading]:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, unpickle.__file__, run],
        input="\n".join(str(folder / name) for name in files),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {Path(path).name: Reading(Path(path), code, memory) for path, code, memory in lines}


def saved(content: object, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **settings)
    return buffer.getvalue()


def legacy(content: object) -> bytes:
    return saved(content, _use_new_zipfile_serialization=False)


class Storage:
    """A storage of float32 that claims to have `count` numbers."""

    def __init__(self, count: int) -> None:
        self.count = count


def archive(count: int, view: tuple[object, ...], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A file of torch with one tensor, of which everything can be chosen."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: object) -> object:
            return ("storage", torch.FloatStorage, "0", "cpu", thing.count) if isinstance(thing, Storage) else None

    records = io.BytesIO(), io.BytesIO()
    Pickler(records[0], protocol=2).dump({"weight": Call(_rebuild_tensor_v2, Storage(count), *view, False, None)})
    with zipfile.ZipFile(records[1], "w", compression) as file:
        file.writestr("archive/data.pkl", records[0].getvalue())
        file.writestr("archive/version", "3\n")
        file.writestr("archive/data/0", bytes(4000))
    return records[1].getvalue()


def legacy_claim(count: int) -> bytes:
    """A file of torch's legacy format that claims so many numbers and holds one."""
    data = legacy({"weight": torch.ones(100)})
    assert data.count(b"Kd") == 2  # numbers of the storage, size of the tensor
    claim = b"\x8a\x06" + count.to_bytes(6, "little")
    return data.replace(b"Kd", claim)


class Call:
    """Is pickled as the call of a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.how = function, arguments

    def __reduce__(self) -> Any:
        return self.how

    def __call__(self) -> None:
        """To pickle, what a function gave is a function, too."""


class Foreign:
    """Runs a command when its state is set."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __setstate__(self, state: dict[str, str]) -> None:
        os.system(state["command"])


class Built:
    """Is pickled as an object with that state."""

    def __init__(self, state: object) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return OrderedDict, (), self.state


def nested(levels: int, pair: bool) -> list[Any]:
    content: list[Any] = []
    for _ in range(levels):
        content = [content, content] if pair else [content]
    return content


def evil(marker: Path) -> dict[str, object]:
    """Contents that would make the marker if anything in them ran."""
    command = f"touch {marker}"
    run, python = Call(os.system, command), f"open({str(marker)!r}, 'w')"
    return {
        "top": run,
        "list": [1, [run]],
        "dict": {"model": STATE, "epoch": {"x": run}},
        "key": {"model": STATE, "x": {(1, run): 1}},
        "tuple": {"model": STATE, "x": (1, (run,))},
        "ordered": OrderedDict(STATE, more=run),
        "state_dict": {"state_dict": {**STATE, "more": run}},
        "optimizer": {"model": STATE, "optimizer": {"state": {0: run}, "param_groups": []}},
        "build": {"model": STATE, "x": Built({"y": run})},
        "shadowed_methods": {"model": STATE, "x": Built({"keys": run, "items": run})},
        "slots": {"model": STATE, "x": Built((None, {"y": run}))},
        "setstate": {"model": STATE, "x": Foreign(command)},
        "eval": Call(eval, python),
        "exec": Call(exec, python),
        "import": Call(__import__, "os"),
        "getattr": Call(Call(getattr, Call(__import__, "os"), "system"), command),
        "getattr_of_ours": Call(getattr, OrderedDict, "fromkeys"),
        "open": Call(open, str(marker), "w"),
        "popen": Call(subprocess.Popen, ["touch", str(marker)]),
        "torch_load": Call(torch.load, "x"),
        "object_array": np.array([run], dtype=object),
        "storage_bytes": Call(torch.storage._load_from_bytes, pickle.dumps(run, protocol=2)),
        "codec": Call(__import__("_codecs").encode, "x", "rot13"),
    }


def opcodes(marker: Path) -> dict[str, bytes]:
    """Pickles that Python would not write."""
    command = f"touch {marker}".encode()
    text = b"\x8c" + bytes([len(command)]) + command
    return {
        "global": b"cos\nsystem\n" + text + b"\x85R.",
        "posix": b"\x80\x02cposix\nsystem\n" + text + b"\x85R.",
        "instance": b"(" + text + b"ios\nsystem\n.",
        "object": b"(cos\nsystem\n" + text + b"o.",
        "stack_global": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text + b"\x85R.",
        "dotted": b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93" + text + b"\x85R.",
        "dotted_inert": b"\x80\x04\x8c\x08argparse\x8c\x12Namespace.__init__\x93.",
        "escapes": b"\x80\x04\x8c\x06a\x1b[31m\x8c\x03b\nc\x93.",
        "called_inert": b"\x80\x02cargparse\nNamespace\n)R" + text + b"\x85R.",
        "built_class": b"\x80\x02cargparse\nNamespace\n}b.",
        "built_function": b"\x80\x02c_codecs\nencode\nN}\x8c\x08__code__" + text + b"s\x86b.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"\x80\x02" + text + b"Q.",
        "huge_long": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "huge_bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".",
        "large_bytes": b"\x80\x04\x8e" + struct.pack("<Q", 3 << 30) + b".",
        "huge_text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b".",
        "huge_bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
        "huge_frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b".",
        "huge_memo": b"\x80\x02]r\xff\xff\xff\xff.",
        "deep_list": b"]" * 100_000 + b"a" * 99_999 + b".",
        "deep_hash": b"})" + b"\x85" * 5_000_000 + b"Ns.",
        "endless_hash": b"})" + b"2\x86" * 60 + b"Ns.",
        "array_larger_than_data": pickle.dumps(np.ones(7)).replace(b"K\x07", b"K\x09"),
        "cyclic": b"\x80\x02}q\x00\x8c\x05modelh\x00s.",
    }


def others() -> dict[str, bytes]:
    """Files that are damaged, something else, or claim to be larger than they are."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        file.addfile(tarfile.TarInfo("storages"))
    script = io.BytesIO()
    with zipfile.ZipFile(script, "w") as records:
        records.writestr("archive/constants.pkl", b"\x80\x02).")
    stranger = io.BytesIO()
    with zipfile.ZipFile(stranger, "w") as records:
        records.writestr("photo.jpg", b"x")
    whole = {"zip": saved(STATE), "legacy": legacy(STATE), "pickle": pickle.dumps({"model": ARRAYS})}
    return {
        **{f"cut_{kind}_{k}": data[: int(k * len(data))] for kind, data in whole.items() for k in (0.01, 0.5, 0.9)},
        "cut_last": whole["zip"][:-1],
        "empty": b"",
        "text": b"# weights\nof a model\n",
        "page": b"\n<!DOCTYPE html><html><title>Quota exceeded</title></html>",
        "noise": bytes(range(256)) * 9,
        "tar": tar.getvalue(),
        "torchscript": script.getvalue(),
        "no_torch_zip": stranger.getvalue(),
        "compressed": archive(1000, (0, (1000,), (1,)), compression=zipfile.ZIP_DEFLATED),
        "huge_storage": archive(1 << 40, (0, (4,), (1,))),
        "huge_tensor": archive(1000, (0, (1 << 40,), (1,))),
        "huge_view": archive(1000, (0, (1 << 40,), (0,))),
        "overflowing_view": archive(1000, (0, (1 << 40, 1 << 40), (0, 0))),
        "outside": archive(1000, (999, (2,), (1,))),
        "negative": archive(1000, (-1, (2,), (1,))),
        "huge_legacy": legacy_claim(1 << 40),
        "complex": saved({"weight": torch.ones(2, dtype=torch.complex64)}),
        "sparse": saved({"weight": torch.ones(2, 2).to_sparse()}),
        "nothing": saved({"epoch": 3, "model": {}}),
    }


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reading]:
    folder = tmp_path_factory.mktemp("hostile")
    files = {f"{name}.bin": data for name, data in {**opcodes(folder / "ran"), **others()}.items()}
    for name, content in evil(folder / "ran").items():
        files[f"{name}.pth"] = saved(content)
        files[f"{name}.old.pth"] = legacy(content)
        files[f"{name}.2.pkl"] = pickle.dumps(content, protocol=2)
        files[f"{name}.5.pkl"] = pickle.dumps(content, protocol=5)
    results = readings(folder, files)
    assert results.keys() == files.keys()
    return results


def test_nothing_runs(hostile):
    folder = next(iter(hostile.values())).path.parent
    assert not (folder / "ran").exists()
    assert all(Path(path).name.removesuffix(".out").removesuffix(".log") in hostile for path in folder.iterdir())
    read = [name for name, reading in hostile.items() if reading.code == 0]
    assert read == []


def test_one_clear_line(hostile):
    explained = {name: reading.said for name, reading in hostile.items() if reading.code == unpickle.REFUSED}
    for name, line in explained.items():
        assert line.isprintable(), name
        assert line.startswith(("refused, ", "not a readable weight file (", "no tensors in it: ")), (name, line)
        assert len(line) < 500, name
        assert "Traceback" not in line, name
    assert {name for name in hostile if name not in explained} <= {"deep_hash.bin", "endless_hash.bin"}
    assert all(hostile[name].code < 0 for name in hostile if name not in explained)  # killed, not refused


@pytest.mark.parametrize("form", ["pth", "old.pth", "2.pkl", "5.pkl"])
@pytest.mark.parametrize(
    ("case", "culprit"),
    [
        *((case, r"posix\.system") for case in ("top", "dict", "key", "state_dict", "optimizer", "build", "slots")),
        ("eval", r"(builtins\.)?eval"),
        ("getattr_of_ours", r"builtins\.getattr"),
        ("object_array", r"numpy\.dtype\('O8'\)"),
        ("setstate", r"\S*test_unpickle\.Foreign"),
        ("popen", r"(subprocess|commands)\.Popen"),
    ],
)
def test_culprit_is_named(hostile, case, culprit, form):
    said = hostile[f"{case}.{form}"].said
    assert re.match(rf"refused, it holds {culprit}, which is no tensor, array or plain container: convert", said), said


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("page", "it is a web page"),
        ("torchscript", "TorchScript archive"),
        ("compressed", "a compressed archive"),
        ("nothing", "no tensors in it"),
        ("huge_storage", "record size|PytorchStreamReader|too much memory"),
        ("huge_view", r"would take 4,096 GiB, the limit is 8"),
        ("huge_legacy", "too much memory"),
        ("huge_bytes", "too much memory|exceeds|truncated"),
        ("huge_memo", "too much memory"),
        ("complex", "weight is of torch.complex64"),
    ],
)
def test_reason(hostile, case, reason):
    assert re.search(reason, hostile[f"{case}.bin"].said), hostile[f"{case}.bin"].said


def test_little_memory(hostile):
    assert max(reading.memory for reading in hostile.values()) < 2 * GIB


def stand_ins(patch: pytest.MonkeyPatch) -> list[object]:
    """Objects that are pickled under the names of well-known configuration classes."""
    made: list[object] = []
    for name in unpickle.CONFIGURATIONS:
        module, _, short = name.rpartition(".")
        if name == "argparse.Namespace":
            made.append(argparse.Namespace(lr=0.1))
            continue
        kind = type(short, (dict,), {"__module__": module})
        fake = types.ModuleType(module)
        setattr(fake, short, kind)
        parents = [module.rsplit(".", levels)[0] for levels in range(1, module.count(".") + 1)]
        for parent in parents:
            patch.setitem(sys.modules, parent, types.ModuleType(parent))
        patch.setitem(sys.modules, module, fake)
        thing = kind(lr=0.1)
        thing.immutable = True
        made.append(thing)
    return made


def mmseg(configurations: list[object]) -> dict[str, object]:
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "meta": {
            "CLASSES": ("wall", "空"),
            "PALETTE": np.array([[1, 2, 3]], dtype=np.uint8),
            "config": "model = dict()\n" * 1000,
            "mIoU": np.float64(0.5),
            "name": np.str_("x"),
            "hooks": {1, 2},
            "time": None,
            "cfg": configurations,
        },
        "iter": 7,
        "state_dict": layer.state_dict(),  # with its _metadata
        "optimizer": optimizer.state_dict(),
    }


@pytest.fixture(scope="module")
def legitimate(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Reading], dict[str, Any]]:
    """What came of the files, and what they were made of."""
    files, contents = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        contents["mmseg"] = mmseg(stand_ins(patch))
        contents["detectron2"] = {"model": OrderedDict(STATE), "optimizer": {0: torch.ones(1)}, "iteration": 9}
        contents["swin"] = {"model": STATE}
        contents["bare"] = {**STATE, "epoch": 3}
        contents["arrays"] = {"model": ARRAYS, "__author__": "a", "matching_heuristics": True}
        weight = STATE["weight"]
        contents["views"] = {"state_dict": {"a": weight, "same": weight, "row": weight[1], "turned": weight.T}}
        contents["parameter"] = {"weight": nn.Parameter(torch.ones(3)), "empty": torch.ones(0, 3), "x": torch.ones(())}
        contents["expanded"] = {"module": {"weight": torch.zeros(1).expand(1 << 16, 32)}}
        contents["laughs"] = {"model": STATE, "meta": nested(60, pair=True), "iter": 1}
        contents["deep"] = {"model": STATE, "meta": nested(200, pair=False), "iter": 1}
        for name, content in contents.items():
            files[f"{name}.pth"] = saved(content)
            files[f"{name}.old.pth"] = legacy(content)
            for protocol in range(2, 6):
                files[f"{name}.{protocol}.pkl"] = pickle.dumps(content, protocol=protocol)
    return readings(tmp_path_factory.mktemp("legitimate"), files), contents


FORMS = ["pth", "old.pth", "2.pkl", "3.pkl", "4.pkl", "5.pkl"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("case", "key", "about"),
    [
        ("detectron2", "model", {"iteration": 9}),
        ("swin", "model", {}),
        ("bare", None, {"epoch": 3}),
        ("arrays", "model", {"__author__": "a", "matching_heuristics": True}),
        ("views", "state_dict", {}),
        ("parameter", None, {}),
        ("expanded", "module", {}),
        ("laughs", "model", {"iter": 1}),
        ("deep", "model", {"iter": 1}),
    ],
)
def test_round_trip(legitimate, case, key, about, form):
    done, contents = legitimate
    expected = {
        name: torch.from_numpy(x.astype(x.dtype.newbyteorder("="))) if isinstance(x, np.ndarray) else x
        for name, x in (contents[case][key] if key else contents[case]).items()
        if isinstance(x, torch.Tensor | np.ndarray)
    }
    tensors, found = done[f"{case}.{form}"].result()
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert tensors[name].dtype == tensor.dtype, name
        assert tensors[name].equal(tensor.data), name
    assert found == about


@pytest.mark.parametrize("form", FORMS)
def test_mmsegmentation(legitimate, form):
    done, contents = legitimate
    tensors, about = done[f"mmseg.{form}"].result()
    assert tensors.keys() == {"weight", "bias"}
    assert all(x.equal(contents["mmseg"]["state_dict"][name]) for name, x in tensors.items())
    assert about.keys() == {"meta", "iter"}  # no optimizer
    configurations = about["meta"].pop("cfg")
    assert about["meta"] == {
        "CLASSES": ["wall", "空"],
        "PALETTE": [[1, 2, 3]],
        "config": "model = dict()\n" * 1000,
        "mIoU": 0.5,
        "name": "x",
        "hooks": [1, 2],
        "time": None,
    }
    assert configurations.count({"lr": 0.1}) == len(unpickle.CONFIGURATIONS) - 1  # all but Namespace are dicts


ATTEMPTS = {
    "socket": "__import__('socket').socket()",
    "system": "os.system('true')",
    "process": "__import__('subprocess').run(['true'])",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "exec": "os.execv('/bin/true', ['true'])",
    "fork": "os.fork()",
    "write": "open(PATH + '.new', 'w')",
    "append": "open(PATH, 'r+b')",
    "create": "os.open(PATH + '.new', os.O_CREAT | os.O_WRONLY)",
    "delete": "os.remove(PATH)",
    "rename": "os.rename(PATH, PATH + '.new')",
    "library": "__import__('ctypes').CDLL(None).getpid()",
    "memory": "len(bytearray(6 << 30))",
}


def test_lock_down(tmp_path):
    victim = tmp_path / "victim"
    victim.touch()
    files = {name: text.replace("PATH", repr(str(victim))).encode() for name, text in ATTEMPTS.items()}
    done = readings(tmp_path, {**files, "reading": f"open({str(victim)!r}).read()".encode()}, "attempt")
    expected = {**dict.fromkeys(ATTEMPTS, unpickle.REFUSED), "reading": 0}
    assert {name: reading.code for name, reading in done.items()} == expected
    assert victim.read_bytes() == b""
