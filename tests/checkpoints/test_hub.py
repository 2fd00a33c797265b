import copy
import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import EntryNotFoundError
from torch import nn

import semask
from semask import SeMask
from semask.builder import build
from semask.checkpoints import hub
from semask.checkpoints.hub import from_pretrained, push_to_hub, save_pretrained
from semask.checkpoints.tensors import read_tensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"
METADATA = {
    "classes": {"classes": ["Straße", "``` </details>"], "palette": [[0, 0, 0], [255, 0, 0]]},
    "step": 7,
    "calibration": {"temperature": 1.5, "data": "street"},
    "metrics": {"miou": 0.25104, "mean_accuracy": 0.5, "overall_accuracy": None},
    "recipe": {
        "data": {"root": "/home/me/photos", "format": "ade20k", "val_split": None},
        "training": {"batch_size": 4, "pretrained": "/home/me/swin.pth"},
        "evaluation": {"scale": (2048, 512), "mode": "whole", "ratios": (1.0,), "flip": False},
    },
}


def model(**settings) -> SeMask:
    module = build(**{"encoder": "swin_nano", "num_classes": 2, "channels": 8, **settings}).eval()
    module.metadata = copy.deepcopy(METADATA)
    return module


def equal(a: nn.Module, b: nn.Module) -> bool:
    states = a.state_dict(), b.state_dict()
    return list(states[0]) == list(states[1]) and all(x.equal(states[1][name]) for name, x in states[0].items())


def card_of(text: str) -> dict:
    return ModelCard(text).data.to_dict()


def refused(source, **settings) -> str:
    """The one line with which loading is refused."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        from_pretrained(source, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A download cache of the Hub that holds me/roads, with the branch main and the tag v1."""
    repository = tmp_path / "cache" / "models--me--roads"
    hub.save_pretrained(model(), repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    for name in ("main", "v1"):
        (repository / "refs" / name).write_text(COMMIT)
    return tmp_path / "cache"


class FolderHub:
    """The Hub's three calls that push_to_hub makes, on a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create_repo(self, repo_id, *, private, exist_ok):
        assert exist_ok
        name = repo_id if "/" in repo_id else f"me/{repo_id}"
        (self.root / name).mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(repo_id=name)

    def hf_hub_download(self, repo_id, filename, *, local_dir):
        if not (self.root / repo_id / filename).exists():
            raise EntryNotFoundError(filename)
        return shutil.copy(self.root / repo_id / filename, local_dir)

    def upload_folder(self, *, repo_id, folder_path, **_):
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


@pytest.fixture
def folder_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fake = FolderHub(tmp_path / "hub")
    for name in ("create_repo", "hf_hub_download", "upload_folder"):
        method = getattr(fake, name)
        monkeypatch.setattr(HfApi, name, lambda api, *args, method=method, **kwargs: method(*args, **kwargs))
    return fake.root


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"semantic_depths": 0},
        {"in_channels": 4, "mean": (0.5,) * 4, "std": (0.2,) * 4, "prior_classes": 3},
        {"decoder": "maskformer", "queries": 3, "decoder_layers": 1, "channels": 32},
        {"decoder": "mask2former_fapn", "queries": 3, "decoder_layers": 1, "channels": 32},
    ],
)
def test_round_trip(tmp_path, settings):
    saved = model(**settings).train()
    path = save_pretrained(saved, tmp_path / "new" / "folder")
    assert sorted(file.name for file in path.parent.iterdir()) == ["README.md", "model.json", "model.safetensors"]
    for loaded in (from_pretrained(path.parent), from_pretrained(path), semask.load(path.parent)):
        assert not loaded.training
        assert equal(loaded, saved)
        assert loaded.config == saved.config
        assert {name: loaded.metadata[name] for name in ("classes", "step", "metrics")} == {
            name: METADATA[name] for name in ("classes", "step", "metrics")
        }
        assert loaded.metadata["recipe"] == json.loads(json.dumps(METADATA["recipe"])) | {"model": saved.config}
    save_pretrained(loaded, tmp_path / "again")
    for name in ("model.json", "README.md"):
        assert (tmp_path / "again" / name).read_text() == (path.parent / name).read_text()


def test_copies_and_pickles_as_before():
    saved = model()
    assert equal(copy.deepcopy(saved), saved)
    assert equal(pickle.loads(pickle.dumps(saved)), saved)


def test_an_existing_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    first = model()
    path = hub.save_pretrained(first, tmp_path)
    card = tmp_path / "README.md"
    second = model()
    second.metadata["metrics"] = {"miou": 0.5}
    save_pretrained(second, tmp_path)
    assert "50.00 %" in card.read_text(encoding="utf-8")
    card.write_text("my own words", encoding="utf-8")
    save_pretrained(first, tmp_path)
    assert card.read_text(encoding="utf-8") == "my own words"
    assert (tmp_path / "notes.txt").read_text() == "mine"
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    broken = model()
    nn.init.constant_(broken.encoder.norms[0].bias, torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        save_pretrained(broken, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert equal(from_pretrained(path), first)


def test_places_that_are_no_place_for_a_model(tmp_path):
    (tmp_path / "best.safetensors").write_text("of a run")
    with pytest.raises(ValueError, match=r"holds best\.safetensors"):
        save_pretrained(model(), tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="could not be written"):
        save_pretrained(model(), tmp_path / "file")


def test_from_the_cache_of_the_hub(cache):
    settings = {"cache_dir": cache, "local_files_only": True}
    loaded = from_pretrained("me/roads", **settings)
    assert loaded.metadata["step"] == 7
    for revision in ("main", "v1", COMMIT):
        assert equal(from_pretrained("me/roads", revision=revision, device="cpu", **settings), loaded)
    assert "check name, revision and network" in refused("me/roads", **settings, revision="v2")


@pytest.mark.parametrize("name", ["me/nothing", "me/a b", "me/roads.v2", "-/-"])
def test_what_the_hub_does_not_have(cache, name):
    message = refused(name, cache_dir=cache, local_files_only=True)
    assert message.startswith(f"{name}: no model.safetensors to be had from the Hugging Face Hub (")


def test_a_damaged_download(cache):
    (cache / "models--me--roads" / "snapshots" / COMMIT / "model.safetensors").write_text("<html>not found</html>")
    assert "not a safetensors checkpoint, or damaged" in refused("me/roads", cache_dir=cache, local_files_only=True)


def test_what_was_meant_as_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name in ("runs/mine", "other/mine.safetensors", tmp_path / "nowhere"):
        assert "no such checkpoint" in refused(name)
    assert "in this folder" in refused("runs")


def test_settings_of_the_model_are_refused(tmp_path):
    save_pretrained(model(), tmp_path)
    assert "from_pretrained got queries, dropout" in refused(tmp_path, queries=5, dropout=0)
    assert "semask train --training.pretrained" in refused(tmp_path, dropout=0)


def test_other_classes(tmp_path, cache):
    save_pretrained(model(), tmp_path / "saved")
    for source, more in ((tmp_path / "saved", {}), ("me/roads", {"cache_dir": cache, "local_files_only": True})):
        loaded = from_pretrained(source, num_classes=5, **more)
        assert loaded.config.num_classes == 5
        assert "decoder.classifier.weight" in loaded.load_report.fresh
        assert from_pretrained(source, classes=["a", "b", "c"], **more).metadata["classes"]["classes"] == [
            "a",
            "b",
            "c",
        ]


@pytest.mark.parametrize(("name", "repository"), [("me/roads", "me/roads"), ("roads", "me/roads")])
def test_push_and_load_again(folder_hub, name, repository):
    pushed = model()
    assert push_to_hub(pushed, name) == f"https://hub/{repository}/commit/1"
    loaded = from_pretrained(folder_hub / repository)
    assert equal(loaded, pushed)
    assert f'semask.load("{repository}")' in (folder_hub / repository / "README.md").read_text(encoding="utf-8")
    assert loaded.metadata["recipe"]["training"] == {"batch_size": 4, "pretrained": "swin.pth"}
    assert pushed.metadata == METADATA  # only what is public was cut
    for file in (folder_hub / repository).iterdir():
        assert b"/home/me" not in file.read_bytes()


def test_push_keeps_a_card_of_yours(folder_hub):
    push_to_hub(model(), "me/roads")
    card = folder_hub / "me" / "roads" / "README.md"
    newer = model()
    newer.metadata["metrics"]["miou"] = 0.75
    push_to_hub(newer, "me/roads")
    assert "75.00 %" in card.read_text(encoding="utf-8")
    card.write_text("my own words", encoding="utf-8")
    newer.metadata["step"] = 8
    push_to_hub(newer, "me/roads")
    assert card.read_text(encoding="utf-8") == "my own words"
    assert from_pretrained(card.parent).metadata["step"] == 8


def test_push_that_fails(folder_hub, monkeypatch):
    broken = model()
    nn.init.constant_(broken.encoder.norms[0].bias, torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        push_to_hub(broken, "me/roads")
    assert not folder_hub.exists()
    monkeypatch.undo()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"me/roads: not pushed to the Hugging Face Hub \(.+\): check name") as caught:
        push_to_hub(model(), "me/roads", token="hf_none")
    assert "\n" not in str(caught.value)
    assert "hf_none" not in str(caught.value)


def test_card_of_a_trained_run(trained, scenes, folder_hub):
    run = semask.load(trained)
    card = hub.model_card(run)
    assert str(scenes) not in card
    assert f"| mIoU | {100 * run.metadata['metrics']['miou']:.2f} % |" in card
    assert "for 8 steps of 2 images" in card or "for 4 steps of 2 images" in card
    push_to_hub(run, "me/scenes")
    assert str(scenes) in json.dumps(run.metadata)
    _, metadata = read_tensors(folder_hub / "me" / "scenes" / "model.safetensors")
    assert str(scenes) not in json.dumps(metadata)
    assert semask.Predictor(from_pretrained(folder_hub / "me" / "scenes")).classes.names == tuple(
        run.metadata["classes"]["classes"]
    )


def test_front_matter():
    data = card_of(hub.model_card(model()))
    assert data["library_name"] == "semask"
    assert data["pipeline_tag"] == "image-segmentation"
    assert data["license"] == "other"
    assert data["datasets"] == ["ade20k"]
    (entry,) = data["model-index"]
    assert entry["name"] == "semask-swin-nano-fpn"
    assert entry["results"][0]["metrics"] == [{"type": "mean_iou", "value": 25.1, "name": "mIoU (%)"}]


def test_the_recipe_of_the_card_builds_the_model():
    saved = model(window=5, semantic_depths=(0, 0, 1, 2))
    recipe = yaml.safe_load(hub.model_card(saved).split("```yaml\n")[1].split("```")[0])
    assert build(**recipe["model"]).config == saved.config
    assert recipe["evaluation"] == {"scale": [2048, 512], "mode": "whole", "ratios": [1.0], "flip": False}
    assert recipe["data"] == {"format": "ade20k", "val_split": None}


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("Apache-2.0, parts CC-BY-NC-4.0", {"license": "other", "license_name": "apache-2.0-parts-cc-by-nc-4.0"}),
        (None, {"license": "other"}),
    ],
)
def test_licence(licence, expected):
    stated = model()
    stated.metadata["licence"] = licence
    card = hub.model_card(stated)
    assert {name: value for name, value in card_of(card).items() if name.startswith("license")} == expected
    assert (licence or "Not stated: ask whoever published this model") in card.split("## Licence")[1]


def test_published_numbers_are_not_called_measured():
    converted = model()
    converted.metadata = {
        "published": {
            "name": "semask-tiny-fpn-ade20k",
            "miou": 42.06,
            "miou_multiscale": 43.36,
            "licence": "MIT",
            "url": "https://example.org/weights",
        }
    }
    card = hub.model_card(converted)
    assert "# semask-tiny-fpn-ade20k\n" in card
    numbers = card.split("## Numbers")[1].split("##")[0]
    assert "Not measured with these weights." in numbers
    assert "42.06 % single-scale, 43.36 % multi-scale and flip" in numbers
    assert card_of(card)["license"] == "mit"
    assert "model-index" not in card_of(card)


def test_a_fresh_model_claims_nothing():
    card = hub.model_card(build("swin_nano", num_classes=2, channels=8, in_channels=1, mean=(0,), std=(1,)))
    assert "Nothing is known of a training" in card
    assert "2 classes whose names are not known" in card
    assert "images of 1 channels" in card
    assert "model-index" not in card_of(card)


def test_a_plain_backbone_is_not_called_semask():
    card = hub.model_card(model(semantic_depths=0))
    assert "# swin-nano-fpn\n" in card
    assert "The plain backbone without semantic layers" in card


@pytest.mark.parametrize(("count", "folded"), [(30, False), (31, True)])
def test_many_classes_are_folded(count, folded):
    many = model(num_classes=count)
    many.metadata["classes"] = {"classes": [f"thing\n{i}" for i in range(count)]}
    card = hub.model_card(many)
    assert f"{count - 1:3d} thing {count - 1}\n" in card
    assert (f"<summary>{count} classes</summary>" in card) == folded


def test_folders_of_this_machine_are_in_no_change_either():
    changes = {"training.pretrained": ["/home/me/x.pth", None], "data.root": ["a", "b"], "training.lr": [1, 2]}
    public = hub.without_paths({"recipe": {}, "changes": [{"step": 3, "changes": changes}]})
    assert public["changes"] == [
        {"step": 3, "changes": {"training.pretrained": ["x.pth", None], "training.lr": [1, 2]}}
    ]
