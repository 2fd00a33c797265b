import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from disks import full_disk
from safetensors.torch import save_file
from states import MANIFEST, read_whole, shard_of

from semask.training.state_files import SHARDING, crc32, digest, read_manifest, write_state_files

TENSORS = {
    "model.a": torch.arange(12.0).reshape(3, 4),
    "model.count": torch.tensor(7),
    "model.half": torch.arange(5).bfloat16(),
    "model.empty": torch.zeros(0, 3),
    "model.flag": torch.tensor([True, False]),
    "optimizer.a.step": torch.tensor(3.0),
}
SAVED = {"step": 3, "text": "ü \ud800 \n", "best": 0.1 + 0.2}


def write(folder: Path) -> Path:
    write_state_files(folder / "state", TENSORS, SAVED)
    return folder / "state"


def seal(state: Path) -> None:
    """Make the digests right again, as an attacker would."""
    content = json.loads((state / MANIFEST).read_text(encoding="utf-8"))
    shards = sorted(state.glob("*.safetensors"))
    content["state"]["files"] = {path.name: [path.stat().st_size, crc32(path)] for path in shards}
    content["digest"] = digest(json.dumps(content["state"], ensure_ascii=False))
    (state / MANIFEST).write_text(json.dumps(content), encoding="utf-8")


def test_what_is_written_is_read_to_the_last_bit(tmp_path):
    tensors, saved = read_whole(write(tmp_path))
    assert saved == SAVED
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert torch.equal(tensor, TENSORS[name])


def test_no_file_of_a_state_is_a_pickle(tmp_path):
    names = sorted(path.name for path in write(tmp_path).iterdir())
    assert names == [shard_of(Path()).name, MANIFEST]
    assert not any(b"\x80\x02" in path.read_bytes()[:64] for path in (tmp_path / "state").iterdir())


def test_two_names_of_one_tensor(tmp_path):
    shared = torch.arange(4.0)
    write_state_files(tmp_path / "state", {"a": shared, "b": shared, "c": shared[:2]}, {})
    tensors, _ = read_whole(tmp_path / "state")
    assert [tensors[name].tolist() for name in "abc"] == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1]]


def test_every_flipped_bit_is_noticed(tmp_path):
    state = write(tmp_path)
    harmless = 0
    for path in state.iterdir():
        content = path.read_bytes()
        for bit in range(0, 8 * len(content), 7):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            try:
                assert read_whole(state)[1] == SAVED
                harmless += 1
            except ValueError as error:
                assert str(error).startswith(str(state)), bit  # noqa: PT017
                assert "\n" not in str(error), bit  # noqa: PT017
        path.write_bytes(content)
    assert harmless == 0


def test_a_full_disk_leaves_what_was_there(tmp_path):
    state = write(tmp_path)
    before = {path: path.read_bytes() for path in state.iterdir()}
    with full_disk(300), pytest.raises(ValueError, match=r"state: could not be written .*free some space") as stop:
        write_state_files(state, TENSORS, {"step": 4}, keep=tmp_path / "earlier")
    assert "untouched" in str(stop.value)
    assert {path: path.read_bytes() for path in state.iterdir()} == before
    assert os.listdir(tmp_path) == ["state"]


def test_the_one_before_is_kept(tmp_path):
    for step in range(4):
        write_state_files(tmp_path / "state", TENSORS, {"step": step}, keep=tmp_path / "earlier")
        assert read_whole(tmp_path / "state")[1] == {"step": step}
    assert read_whole(tmp_path / "earlier")[1] == {"step": 2}
    write_state_files(tmp_path / "state", TENSORS, {"step": 9})
    assert [read_whole(tmp_path / name)[1]["step"] for name in ("state", "earlier")] == [9, 2]
    assert sorted(os.listdir(tmp_path)) == ["earlier", "state"]


def of_shard(state: Path, places: object, tensors: dict[str, torch.Tensor] = TENSORS) -> None:
    said = places if isinstance(places, str) else json.dumps(places)
    save_file(tensors, shard_of(state), metadata={SHARDING: said})


def in_header(state: Path, length: int) -> None:
    shard_of(state).write_bytes(struct.pack("<Q", length) + b"{}")


def listing(state: Path, files: object) -> None:
    content = json.loads((state / MANIFEST).read_text(encoding="utf-8"))
    content["state"]["files"] = files
    content["digest"] = digest(json.dumps(content["state"], ensure_ascii=False))
    (state / MANIFEST).write_text(json.dumps(content), encoding="utf-8")


def pipe(state: Path) -> None:
    path = shard_of(state)
    path.unlink()
    os.mkfifo(path)


WHOLE = {name: {"saved_offsets": [0] * x.dim()} for name, x in TENSORS.items()}
ATTACKS: dict[str, Callable[[Path], None]] = {
    "deep": lambda state: of_shard(state, "[" * 10**5),
    "no places": lambda state: of_shard(state, {}),
    "places of nothing": lambda state: of_shard(state, [1]),
    "negative": lambda state: of_shard(state, {**WHOLE, "model.a": {"saved_offsets": [-1, 0]}}),
    "huge": lambda state: of_shard(state, {**WHOLE, "model.a": {"saved_offsets": [2**60, 0]}}),
    "far": lambda state: of_shard(state, {**WHOLE, "model.a": {"saved_offsets": [2**39, 0]}}),
    "texts": lambda state: of_shard(state, {**WHOLE, "model.a": {"saved_offsets": ["0", "0"]}}),
    "other sides": lambda state: of_shard(state, {**WHOLE, "model.a": {"saved_offsets": [0]}}),
    "a missing part": lambda state: of_shard(state, {**WHOLE, "model.a": {"saved_offsets": [3, 0]}}),
    "long header": lambda state: in_header(state, 2**62),
    "short header": lambda state: in_header(state, 1),
    "pickle": lambda state: torch.save(TENSORS, shard_of(state)),
}
LISTS: dict[str, Callable[[Path], None]] = {
    "outside": lambda state: listing(state, {"../secret.safetensors": [1, 1]}),
    "absolute": lambda state: listing(state, {"/etc/passwd": [1, 1]}),
    "no numbers": lambda state: listing(state, {"a.safetensors": ["1", None]}),
    "no list": lambda state: listing(state, [["a", 1, 1]]),
    "none": lambda state: listing(state, {}),
    "pipe": pipe,
    "deep": lambda state: (state / MANIFEST).write_text("[" * 10**6) and None,
    "other format": lambda state: (state / MANIFEST).write_text('{"format": "x"}') and None,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_files_of_an_attacker_are_refused_in_one_line(tmp_path, attack):
    state = write(tmp_path)
    ATTACKS[attack](state)
    seal(state)
    with pytest.raises(ValueError, match=str(state)) as stop:
        read_whole(state)
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize("attack", LISTS)
def test_lists_of_an_attacker_are_refused_in_one_line(tmp_path, attack):
    state = write(tmp_path)
    LISTS[attack](state)
    with pytest.raises(ValueError, match=str(state)) as stop:
        read_whole(state)
    assert "\n" not in str(stop.value)


def test_a_large_list_is_not_read(tmp_path, monkeypatch):
    state = write(tmp_path)
    monkeypatch.setattr("semask.training.state_files.MOST_JSON", 100)
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        read_manifest(state)
