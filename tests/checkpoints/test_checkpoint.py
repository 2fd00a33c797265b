import json
import os
import pickle
import random
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from disks import full_disk
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import semask
from semask import SeMask, load, save
from semask.builder import build
from semask.checkpoints.tensors import FORMAT, digest, read_header, read_tensors, write_tensors
from semask.files.atomic import written_whole

METADATA = {
    "classes": {"classes": ["Straße", "空"]},
    "step": 7,
    "metrics": {"miou": 0.25},
    "recipe": {"data": {"root": "x"}},
}


def model(**settings) -> SeMask:
    module = build(**{"encoder": "swin_nano", "num_classes": 2, "channels": 8, **settings})
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def refused(path) -> str:
    """The message of the one-line error that loading gives."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("settings", [{}, {"semantic_depths": (0, 0, 1, 2), "window": 5}, {"semantic_depths": 0}])
def test_round_trip(tmp_path, settings):
    saved = model(**settings).train()
    saved(torch.randn(2, 3, 64, 64))  # moves BatchNorm's statistics
    path = save(tmp_path / "new" / "model.safetensors", saved, METADATA)
    loaded = load(path)
    assert not loaded.training
    assert loaded.config == saved.config
    state = loaded.state_dict()
    assert list(state) == list(saved.state_dict())
    assert all(x.equal(state[name]) and x.dtype == state[name].dtype for name, x in saved.state_dict().items())
    image = torch.randn(1, 3, 50, 60)
    assert loaded(image).logits.equal(saved.eval()(image).logits)


def test_metadata(tmp_path):
    saved = model()
    path = save(tmp_path / "model.safetensors", saved, METADATA)
    metadata = load(path).metadata
    assert {name: metadata[name] for name in ("classes", "step", "metrics")} == {
        name: METADATA[name] for name in ("classes", "step", "metrics")
    }
    assert metadata["recipe"] == {"data": {"root": "x"}, "model": saved.config}
    assert metadata["versions"]["torch"] == torch.__version__
    assert metadata["versions"]["semask"] == semask.__version__
    assert json.loads((tmp_path / "model.json").read_text(encoding="utf-8")) == metadata
    assert "Straße" in (tmp_path / "model.json").read_text(encoding="utf-8")


def test_a_checkpoint_is_one_file(tmp_path):
    path = save(tmp_path / "model.safetensors", model(), METADATA)
    (tmp_path / "model.json").unlink()
    moved = path.rename(tmp_path / "moved.safetensors")
    assert load(moved).metadata["step"] == 7


def test_replaces_a_checkpoint(tmp_path):
    path = save(tmp_path / "model.safetensors", model(), METADATA)
    before = path.read_bytes()
    with open(path, "rb") as reader:
        save(path, newer := model(), {**METADATA, "step": 8})
        assert reader.read() == before  # whoever reads the old file is not disturbed
    loaded = load(path)
    assert loaded.metadata["step"] == 8
    assert all(x.equal(loaded.state_dict()[name]) for name, x in newer.state_dict().items())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_folders(tmp_path):
    assert "no best.safetensors, model.safetensors or last.safetensors in this folder" in refused(tmp_path)
    for step, name in enumerate(("last", "model", "best")):
        save(tmp_path / f"{name}.safetensors", model(), {"step": step})
        assert load(str(tmp_path)).metadata["step"] == step


@pytest.mark.parametrize("kept", [0, 4, 8, 200, 0.5, 0.999])
def test_truncated(tmp_path, kept):
    path = save(tmp_path / "model.safetensors", model(), METADATA)
    os.truncate(path, int(kept * path.stat().st_size) if kept < 1 else kept)
    assert "not a safetensors checkpoint, or damaged" in refused(path)


@pytest.mark.parametrize("name", ["model.onnx", "some/model.xml", "model.pt2", "MODEL.ENGINE"])
def test_an_exported_file_is_no_checkpoint(name):
    assert "an exported file, not a checkpoint" in refused(Path(name))


def test_other_files(tmp_path):
    assert "no such checkpoint" in refused(tmp_path / "nowhere.safetensors")
    text = tmp_path / "text.safetensors"
    text.write_text("a text of more than eight bytes")
    assert "not a safetensors checkpoint" in refused(text)
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.ones(2)}, other, metadata={"format": "pt"})
    assert "not a semask checkpoint" in refused(other)
    save_file({"weight": torch.ones(2)}, other)
    assert "not a semask checkpoint" in refused(other)
    for header in ({}, {"semask": "{"}):
        save_file({"weight": torch.ones(2)}, other, metadata={"format": FORMAT, **header})
        assert "damaged" in refused(other)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            {"encoder": "swin_nano", "num_classes": 3, "channels": 8},
            "the weights belong to another model than its recipe",
        ),
        (
            {"encoder": "swin_nano", "num_classes": 2, "channels": 8, "semantic_depths": 2},
            "tensors are missing, unknown",
        ),
        (
            {"encoder": "swin_nano", "num_classes": 2, "channels": 8, "semantic_depths": 0},
            "tensors are missing, unknown",
        ),
        ({"encoder": "swin_nano", "color": "red"}, "its recipe does not describe a model"),
        (None, "it has no recipe with a model"),
    ],
)
def test_recipe_of_another_model(tmp_path, recipe, message):
    path = tmp_path / "model.safetensors"
    write_tensors(path, model().state_dict(), {"recipe": {"model": recipe}})
    assert message in refused(path)


def test_no_such_hub_repository(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "neither a local checkpoint nor one on the Hugging Face Hub" in refused("nobody/nothing")


def test_a_failing_write_leaves_the_old_files(tmp_path):
    path = save(tmp_path / "model.safetensors", model(), METADATA)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with full_disk(100_000), pytest.raises(ValueError, match="could not be written") as caught:
        save(path, model(), {**METADATA, "step": 8})
    assert "\n" not in str(caught.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_half_a_file_is_removed(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("old")
    with full_disk(1000), pytest.raises(ValueError, match="could not be written"), written_whole(path) as temporary:
        temporary.write_text(10_000 * "new")

    def interrupted() -> None:
        with written_whole(path) as temporary:
            temporary.write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="could not be written"):
        save(tmp_path / "file" / "model.safetensors", model(), METADATA)


def test_weights_that_are_no_numbers_are_not_written(tmp_path):
    path = save(tmp_path / "model.safetensors", broken := model(), METADATA)
    before = path.read_bytes()
    nn.init.constant_(broken.encoder.norms[0].bias, torch.nan)
    with pytest.raises(ValueError, match=r"encoder\.norms\.0\.bias is not finite"):
        save(path, broken, METADATA)
    assert path.read_bytes() == before


class Evil:
    def __init__(self, marker) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "evil.safetensors"
    for content in (pickle.dumps(Evil(tmp_path / "ran")), None):
        if content is None:
            torch.save({"weight": Evil(tmp_path / "ran")}, path)
        else:
            path.write_bytes(content)
        refused(path)
    assert not (tmp_path / "ran").exists()


def test_any_tensors(tmp_path):
    tensors = {"a": torch.arange(3), "b": torch.randn(2, 2).bfloat16(), "empty": torch.zeros(0, 3)}
    path = tmp_path / "state.safetensors"
    write_tensors(path, tensors, {"step": 3, "best": None})
    read, metadata = read_tensors(path)
    assert metadata == {"step": 3, "best": None}
    assert read.keys() == tensors.keys() == load_file(path).keys()
    assert all(x.equal(read[name]) and x.dtype == read[name].dtype for name, x in tensors.items())
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["format"] == FORMAT


SMALL = {
    "a.weight": torch.linspace(-1, 1, 6).reshape(2, 3),
    "a.steps": torch.tensor(7),
    "b": torch.tensor([True, False, True]),
    "c": torch.tensor([0.5, -2.0]).bfloat16(),
    "empty": torch.zeros(0, 3),
}


def require_noticed(path: Path, bits: Iterable[int]) -> int:
    """Flip bits of a file, one at a time; gives how many of them changed nothing that is read."""
    tensors, metadata = read_tensors(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    harmless = 0
    with open(path, "rb+", buffering=0) as file:
        for bit in bits:
            byte = os.pread(file.fileno(), 1, bit // 8)[0]
            os.pwrite(file.fileno(), bytes([byte ^ 1 << bit % 8]), bit // 8)
            try:
                found, about = read_tensors(path)
                assert about == metadata, bit
                assert found.keys() == tensors.keys(), bit
                assert all(found[x].dtype == tensors[x].dtype and found[x].equal(tensors[x]) for x in found), bit
                harmless += 1
            except ValueError as error:
                assert str(error).startswith(f"{path}: "), bit  # noqa: PT017
                assert "\n" not in str(error), bit  # noqa: PT017
                assert "damaged" in str(error) or "not a semask checkpoint" in str(error), bit  # noqa: PT017
            finally:
                os.pwrite(file.fileno(), bytes([byte]), bit // 8)
    return harmless


def test_every_flipped_bit_of_a_small_file_is_noticed(tmp_path):
    path = tmp_path / "state.safetensors"
    write_tensors(path, SMALL, METADATA)
    bits = 8 * path.stat().st_size
    # What changes nothing: the name of the digest, which the file then is read without.
    assert require_noticed(path, range(bits)) <= 8 * len("digest")


@pytest.mark.parametrize("name", ["best", "last"])
def test_flipped_bits_of_what_a_run_writes_are_noticed(trained, tmp_path, name):
    path = tmp_path / f"{name}.safetensors"
    path.write_bytes((trained / path.name).read_bytes())
    chance, size = random.Random(name), 8 * path.stat().st_size
    header = 64 + 8 * int.from_bytes(path.read_bytes()[:8], "little")
    bits = [chance.randrange(header) for _ in range(20)] + [chance.randrange(header, size) for _ in range(20)]
    assert require_noticed(path, bits) <= 1


def test_damaged_weights_are_refused_by_load(tmp_path):
    path = save(tmp_path / "model.safetensors", model(), METADATA)
    content = bytearray(path.read_bytes())
    content[-5] ^= 64
    path.write_bytes(content)
    assert "damaged, it is not what was written (another digest): copy or train it again" in refused(path)


def test_the_digest_is_of_names_types_shapes_bytes_and_text():
    tensors = {"a": torch.arange(6.0), "b": torch.zeros(2, 3)}
    others = [
        {"a": torch.arange(6.0)},
        {"a": torch.arange(6.0), "c": torch.zeros(2, 3)},
        {"a": torch.arange(6.0), "b": torch.zeros(3, 2)},
        {"a": torch.arange(6.0), "b": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": torch.arange(6.0), "b": -torch.zeros(2, 3)},
        {"b": torch.arange(6.0), "a": torch.zeros(2, 3)},
        {"a": torch.arange(6.0), "b": torch.zeros(2, 3), 'c",': torch.zeros(0)},
    ]
    found = [digest(x, "text") for x in (tensors, *others)] + [digest(tensors, "Text"), digest({}, "text")]
    assert len(set(found)) == len(found)
    turned = {"b": torch.zeros(3, 2).T, "a": torch.arange(12.0)[::2] / 2}  # neither order nor layout in memory matters
    assert digest(turned, "text") == found[0]


def test_files_of_version_0_1_have_no_digest_and_load(tmp_path):
    saved = model()
    path = tmp_path / "model.safetensors"
    metadata = {**METADATA, "recipe": {"model": saved.config}}
    save_file(saved.state_dict(), path, metadata={"format": FORMAT, "semask": json.dumps(metadata)})
    assert load(path).metadata == metadata == read_header(path)


@pytest.mark.parametrize("text", ["[]", "3", "null", "[" * 40 + "]" * 40, "[" * 10**5, ""])
def test_metadata_that_are_no_object(tmp_path, text):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata={"format": FORMAT, "semask": text})
    for read in (read_tensors, read_header):
        with pytest.raises(ValueError, match="damaged") as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600


def test_metadata_that_can_not_be_read_again_are_not_written(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match=r"model\.safetensors: not written, its metadata can't be JSON"):
        write_tensors(path, SMALL, {"miou": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    for name, message in (("pipe", "is a pipe"), ("folder", "is a folder"), ("none", "no such file")):
        for read in (read_tensors, read_header):
            with pytest.raises(ValueError, match=message):
                read(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99999])
def test_a_file_that_does_not_fit_takes_no_name(tmp_path, share):
    path = tmp_path / "state.safetensors"
    tensors = {f"w{i}": torch.ones(100, 1000) for i in range(3)}
    write_tensors(path, tensors, METADATA)
    before = path.read_bytes()
    for target in (path, tmp_path / "new.safetensors"):
        with full_disk(int(share * len(before))), pytest.raises(ValueError, match="could not be written"):
            write_tensors(target, {**tensors, "w0": torch.zeros(100, 1000)}, METADATA, keep=tmp_path / "kept")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_says_nothing_of_a_short_file_is_noticed(tmp_path, monkeypatch):
    def cut(tensors: dict[str, torch.Tensor], target: Path, **settings: object) -> None:
        save_file(tensors, target, **settings)
        os.truncate(target, target.stat().st_size - 1)

    monkeypatch.setattr("semask.checkpoints.tensors.save_file", cut)
    with pytest.raises(ValueError, match=r"state\.safetensors: could not be written"):
        write_tensors(tmp_path / "state.safetensors", SMALL, METADATA)
    assert list(tmp_path.iterdir()) == []
