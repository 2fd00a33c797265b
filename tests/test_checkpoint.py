import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from disks import full_disk
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import semask
from semask import SeMask, load, save
from semask.checkpoint import FORMAT, read_tensors, write_tensors
from semask.files import written_whole

METADATA = {
    "classes": {"classes": ["Straße", "空"]},
    "step": 7,
    "metrics": {"miou": 0.25},
    "recipe": {"data": {"root": "x"}},
}


def model(**settings) -> SeMask:
    module = SeMask(**{"encoder": "swin_nano", "num_classes": 2, "channels": 8, **settings})
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
        ({"encoder": "swin_nano", "colour": "red"}, "its recipe does not describe a model"),
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
