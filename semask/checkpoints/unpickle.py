"""Reads what may be a pickle of strangers, in a process of its own: that comes in at stdin, safetensors go out.

    python -P unpickle.py < weights.pth > weights.safetensors 2> reason.txt

Three walls, each enough alone. Only names of a short table are looked up while unpickling, and they stand for what is
ours: makers of tensors, arrays and plain containers, stand-ins for configuration classes. The process has limits of
memory, time, disk and files, where the system can set them (macOS does not limit memory). And it cannot open a
connection, start a program or open a file for writing. Nothing but safetensors and JSON goes back. It imports nothing
of semask, so that nothing of it can be reached from a pickle.
"""

import contextlib
import io
import json
import math
import os
import pickle
import re
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

with contextlib.suppress(ImportError):  # Windows has no such limits: time is limited there, and what is looked up
    import resource

if __name__ == "__main__" and sys.version_info >= (3, 12) and sys.platform == "linux":
    # Before torch is imported: a process with threads can't leave its user namespace. Root needs no new one.
    for space in (os.CLONE_NEWNET, os.CLONE_NEWNET | os.CLONE_NEWUSER):
        with contextlib.suppress(OSError):
            os.unshare(space)
            break

import numpy as np
import torch
from torch import Tensor

REFUSED = 3
"""Exit code when stderr explains in one line why there is nothing."""
MAX_BYTES = 8 << 30
"""All tensors together. Checkpoints of SeMask have at most 3 GB with their optimizer, and views of one number, expanded
to gigabytes, take no room in a file."""
MEMORY = 4 << 30
"""What may be allocated in addition to four times the file: for one tensor at a time that is larger than the file."""
ABOUT_ITEMS, ABOUT_DEPTH = 1_000_000, 32
"""Values and characters in addition to the tensors, and how deep they are nested; the text of a recipe has 50,000."""
STATE_KEYS = ("state_dict", "model", "model_state", "module")
LEGACY = bytes.fromhex("6cfc9c46f9206aa85019")
"""The number that files of torch before 1.6 begin with, as a pickle writes it."""
FLOATS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
SIGNED = {torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8"}
UNSIGNED = {torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8", torch.bool: "BOOL"}
DTYPES = FLOATS | SIGNED | UNSIGNED
HARMLESS = {"os.listdir", "os.scandir", "os.walk"}
"""What imports do."""


class Unreadable(Exception):
    """The file can't be read; the message is the whole line that says why and what to do."""


class NotPlain(Exception):
    """A value next to the tensors is none that JSON could hold."""


def foreign(name: str) -> Unreadable:
    """The refusal of a global that is not in the table."""
    return Unreadable(
        f"refused, it holds {name}, which is no tensor, array or plain container: "
        "convert it to .safetensors where it was made"
    )


# What the globals of a pickle stand for. A pickle may call these with any arguments, and set their objects' state.


class Inert:
    """Stands in for a configuration class: makes a dict of what it is given, and runs nothing."""

    def __new__(cls, *arguments: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        """Torch's unpickler fills only dicts of Python's own."""
        return OrderedDict((key, x[key]) for x in arguments if isinstance(x, dict) for key in x)

    def __setstate__(self, state: object) -> None:
        """Keep a pickle from setting attributes of this class itself."""


class Dtype:
    """Stands in for numpy.dtype: numbers and text only; fields and Python objects are refused."""

    def __init__(self, name: object, *_: object) -> None:
        if not (isinstance(name, str) and re.fullmatch(r"[biufcSU]\d{1,4}", name)):
            raise foreign(f"numpy.dtype({name!r})")
        self.value: np.dtype[Any] = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.value = self.value.newbyteorder(state[1])


class Array:
    """Stands in for numpy.ndarray: keeps the array that its state describes in `value`, in the machine's byte order."""

    value: np.ndarray[Any, Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data  # as Python 2 wrote it
        array = np.frombuffer(data, dtype.value).reshape(shape, order="F" if fortran else "C")
        self.value = array.astype(dtype.value.newbyteorder("="), order="C")


def empty_array(*_: object) -> Array:
    """_reconstruct of numpy: the array comes with the state."""
    return Array()


def array_from_buffer(data: bytes | str, dtype: Dtype, shape: tuple[int, ...], order: str) -> Array:
    """_frombuffer of numpy, which pickles of protocol 5 call."""
    array = Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def scalar(dtype: Dtype, data: bytes | str) -> Any:
    """A scalar of numpy, as a number or text of Python."""
    return array_from_buffer(data, dtype, (), "C").value.item()


def latin1(text: str, encoding: str) -> bytes:
    """_codecs.encode, with which pickles of protocol 2 make bytes; any other use is refused."""
    if encoding not in ("latin1", "latin-1"):
        raise foreign(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


def no_bytes() -> bytes:
    """As pickles of protocol 2 make empty bytes."""
    return b""


def attribute(owner: object, name: str) -> type[Inert]:
    """builtins.getattr, with which checkpoints of mmengine refer to methods of HistoryBuffer.

    Raises:
        Unreadable: If the attribute is of anything but a stand-in.
    """
    if owner is not Inert:
        raise foreign("builtins.getattr")
    return Inert


def tensor_of_bytes(data: bytes) -> Any:
    """_load_from_bytes of torch: a plain pickle holds each tensor's storage as a file of torch's legacy format."""
    return load_torch(io.BytesIO(data))


def tensor_of_storage(
    storage: torch.TypedStorage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    """_rebuild_tensor_v2 of torch, within what the storage holds."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) and not 0 <= last < len(storage):
        raise ValueError("a tensor is larger than its storage")
    tensor = torch.empty(0, dtype=storage.dtype)
    return tensor.set_(storage._untyped_storage, offset, size, stride)


def parameter(data: Tensor, *_: object) -> Tensor:
    """_rebuild_parameter of torch."""
    return data


CONFIGURATIONS = (
    "addict.addict.Dict",
    "argparse.Namespace",
    "detectron2.config.config.CfgNode",
    "fvcore.common.config.CfgNode",
    "mmcv.utils.config.ConfigDict",
    "mmengine.config.config.ConfigDict",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "yacs.config.CfgNode",
)
ADMITTED: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(CONFIGURATIONS, Inert),
    "_codecs.encode": latin1,
    "builtins.bytes": no_bytes,
    "builtins.complex": complex,
    "builtins.frozenset": frozenset,
    "builtins.getattr": attribute,
    "builtins.set": set,
    "collections.OrderedDict": OrderedDict,
    "numpy.dtype": Dtype,
    "numpy.ndarray": Array,
    "torch._utils._rebuild_parameter": parameter,
    "torch._utils._rebuild_tensor_v2": tensor_of_storage,
    "torch.storage._load_from_bytes": tensor_of_bytes,
    # numpy before 2, and since
    **dict.fromkeys(("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"), empty_array),
    **dict.fromkeys(("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"), scalar),
    **dict.fromkeys(("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"), array_from_buffer),
}
"""The one table. torch.load prefers its own entries, e.g. for its tensors."""


class Unpickler(pickle.Unpickler):
    """Python's unpickler, with the table in place of imports."""

    def find_class(self, module: str, name: str) -> Any:
        name = f"{'builtins' if module == '__builtin__' else module}.{name}"  # as Python 2 calls it
        if name not in ADMITTED:
            raise foreign(name)
        return ADMITTED[name]


def load(file: BinaryIO) -> Any:
    """Read whatever the file holds, by what it begins with.

    Raises:
        Unreadable: If it holds anything but tensors, arrays and plain containers.
        Exception: Whatever a damaged file leads to.
    """
    head = file.read(512)
    file.seek(0)
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise Unreadable("not a readable weight file (it is a web page): download it again")
    if head.startswith(b"PK"):
        refuse_other_archives(file)
    if head.startswith(b"PK") or LEGACY in head[:32]:
        return load_torch(file)
    return Unpickler(file, encoding="latin1").load()


def load_torch(file: BinaryIO) -> Any:
    """Read a file of torch, of today's or the legacy format."""
    with torch.serialization.safe_globals([(function, name) for name, function in ADMITTED.items()]):
        return torch.load(file, map_location="cpu", weights_only=True)


def refuse_other_archives(file: BinaryIO) -> None:
    """Refuse what torch never saves: code, and records that grow when they are unpacked."""
    records = zipfile.ZipFile(file).infolist()
    file.seek(0)
    if any(record.filename.endswith("/constants.pkl") for record in records):
        raise Unreadable("refused, it is a TorchScript archive, which holds code: save its state_dict as .safetensors")
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise Unreadable("not a readable weight file (a compressed archive): unpack it and give the file in it")


def select(content: object) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Find the state dict in what a file holds: its tensors, and the plain values next to it.

    Raises:
        Unreadable: If there are no tensors.
    """
    if not isinstance(content, dict):
        content = {}
    key = next((key for key in STATE_KEYS if key in content and tensors_of(content[key])), None)
    tensors = tensors_of(content if key is None else content[key])
    if not tensors:
        raise Unreadable("no tensors in it: give a file with a state dict")
    room, about = [ABOUT_ITEMS], {}
    for name in content:
        if isinstance(name, str) and name != key and name not in tensors:
            with contextlib.suppress(NotPlain):  # an optimizer, mostly
                about[name] = plain(content[name], room)
    return tensors, about


def tensors_of(mapping: object) -> dict[str, Tensor]:
    """The tensors and arrays of a mapping by name; no method of it is called, a pickle can have shadowed it."""
    if not isinstance(mapping, dict):
        return {}
    values = {str(name): mapping[name] for name in mapping}
    return {
        name: torch.from_numpy(value.value) if isinstance(value, Array) else value
        for name, value in values.items()
        if isinstance(value, Tensor | Array)
    }


def plain(value: object, room: list[int], depth: int = 0) -> Any:
    """Make JSON of a value, None of what JSON has no word for; `room` is counted down by its values and characters.

    Raises:
        NotPlain: If a tensor is in it, or more than there is room for.
    """
    room[0] -= 1 + (len(value) if isinstance(value, str) else 0)
    if room[0] < 0 or depth > ABOUT_DEPTH or isinstance(value, Tensor):
        raise NotPlain
    if isinstance(value, Array):
        if value.value.size > room[0]:
            raise NotPlain
        value = value.value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(value[key], room, depth + 1) for key in value if isinstance(key, str | int)}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, room, depth + 1) for item in value]
    if isinstance(value, str | bool | float) or (isinstance(value, int) and abs(value) < 1 << 63):
        return value
    return None


def write(file: BinaryIO, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write safetensors, one tensor after another, so that only one is in memory twice.

    Raises:
        Unreadable: If they are too large, or of a type that safetensors does not know.
    """
    header: dict[str, Any] = {"__metadata__": {"about": json.dumps(about)}}
    end = 0
    # The widest numbers first: each tensor then begins where numbers of its width may begin.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    for name, tensor in ordered:
        if tensor.dtype not in DTYPES:
            raise Unreadable(f"not a readable weight file ({name} is of {tensor.dtype}): convert it where it was made")
        start, end = end, end + math.prod(tensor.shape) * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    if end > MAX_BYTES:
        raise Unreadable(
            f"refused, its tensors would take {end / 2**30:,.0f} GiB, the limit is {MAX_BYTES >> 30}: "
            "convert it to .safetensors where it was made"
        )
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for _, tensor in ordered:
        file.write(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    file.flush()


def time_limit(size: int) -> int:
    """Seconds that reading a file of `size` bytes may take: two minutes for imports on a busy machine, and 20 MB/s."""
    return 120 + size // 20_000_000


def lock_down(size: int) -> None:
    """Give up, for good, what reading a file of `size` bytes does not need; see the module's docstring."""
    sys.addaudithook(forbid)
    if "resource" not in globals():
        return
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_FSIZE: MAX_BYTES + (100 << 20),  # with the longest header that safetensors reads
        resource.RLIMIT_CPU: time_limit(size),
    }
    usage = Path("/proc/self/statm")
    if usage.exists():
        used = int(usage.read_text().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = used + MEMORY + 4 * size
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))


def forbid(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: nothing but reading.

    Raises:
        Unreadable: If the process is about to do anything else.
    """
    if event == "open":
        _, mode, flags = arguments
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        if not set(mode or "") & set("wax+") and not flags & writing:
            return
    elif not event.startswith(("ctypes.", "os.", "shutil.", "socket.", "subprocess.")) or event in HARMLESS:
        return
    raise Unreadable(f"refused, it tried {event}: do not use it")


def explain(error: Exception) -> str:
    """One line of printable characters that says why a file can't be read."""
    text = str(error)
    if unknown := re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", text):
        text = str(foreign(unknown[1]))
    elif not isinstance(error, Unreadable):
        reason = text.rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0] or type(error).__name__
        if isinstance(error, MemoryError) or "allocate" in reason:
            reason = "it needs too much memory"
        text = f"not a readable weight file ({reason[:200]}): download it again, or convert it where it was made"
    return "".join(c if c.isprintable() else "?" for c in text[:500])


def main() -> int:
    """Read stdin, write stdout; returns the exit code."""
    lock_down(os.fstat(sys.stdin.fileno()).st_size)
    try:
        write(sys.stdout.buffer, *select(load(sys.stdin.buffer)))
    except Exception as error:
        sys.stderr.write(f"{explain(error)}\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
