"""A recipe for a folder: what is chosen, that it can be read back, and that what was given stays."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data.source import Data
from semask.settings.recipe import read_recipe
from semask.training import plan as planning
from semask.training import trial, weights
from semask.training.plan import make_plan, write_plan
from semask.training.trial import try_steps

NANO = {"model.encoder": "swin_nano", "training.pretrained": None, "training.cpu": True, "augmentation.crop": (32, 32)}


@pytest.fixture
def yard(scenes, tmp_path) -> Path:
    """The scenes as images and masks in two folders, without splits and names of classes."""
    for place, new in (("images", "images"), ("annotations", "masks")):
        (tmp_path / "yard" / new).mkdir(parents=True)
        for file in sorted((scenes / place).rglob("*.*")):
            shutil.copy(file, tmp_path / "yard" / new / f"{file.parent.name}_{file.name}")
    return tmp_path / "yard"


def test_a_folder_that_says_nothing(yard, tmp_path):
    plan = make_plan(yard, NANO, out=tmp_path / "run")
    data = plan.sections["data"]
    assert data["format"] == "folders"
    assert data["classes"]["background"] == [0]
    assert plan.sections["model"]["num_classes"] == len(data["classes"])
    path = write_plan(plan, tmp_path / "run")
    recipe = read_recipe(path)
    assert Data(**recipe["data"]).dataset("train").check().pixels.all()
    names = {side: {image.name for image, _ in Data(**recipe["data"]).dataset(side).pairs} for side in ("train", "val")}
    assert names["train"] | names["val"] == {file.name for file in (yard / "images").iterdir()}
    assert names["train"]
    assert names["val"]
    assert not names["train"] & names["val"]
    assert recipe["augmentation"]["scale"] == [64, 48]  # that of the files
    assert recipe["evaluation"]["scale"] == [64, 48]


def test_every_choice_has_its_reason_in_the_file(yard, tmp_path):
    plan = make_plan(yard, NANO, out=tmp_path / "run")
    text = plan.text()
    assert set(plan.reasons) >= {"data.format", "data.classes", "data.split_file", "model.encoder", "training.steps"}
    for setting, reason in plan.reasons.items():
        if setting != "data.classes" or plan.sections["data"]["classes"] is not None:
            assert f"# {reason}" in text, setting


def test_what_is_given_stays(yard, tmp_path):
    given = {"data.holdout": 0.5, "training.steps": 7, "training.lr": 0.5, "augmentation.scale": (40, 30)}
    plan = make_plan(yard, {**NANO, **given}, out=tmp_path / "run")
    for setting, value in {**NANO, **given}.items():
        section, name = setting.split(".")
        assert plan.sections[section][name] == value, setting
    assert plan.reasons["training.steps"] == "given"
    assert 2 <= plan.split[1].count("val") <= 7


def test_the_split_stays_when_images_are_added(yard, tmp_path):
    before = dict(zip(*make_plan(yard, NANO, out=tmp_path / "run").split, strict=True))
    rng = np.random.default_rng(0)
    for i in range(9):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(yard / "images" / f"z{i}.png")
        Image.fromarray(np.zeros((48, 64), dtype=np.uint8)).save(yard / "masks" / f"z{i}.png")
    after = dict(zip(*make_plan(yard, NANO, out=tmp_path / "run").split, strict=True))
    assert before.items() <= after.items()


def test_images_that_show_the_same_stay_together(yard, tmp_path):
    photo = sorted((yard / "images").iterdir())[0]
    mask = yard / "masks" / f"{photo.stem}.png"
    for i in range(12):
        with Image.open(photo) as image:
            image.save(yard / "images" / f"{photo.stem}_copy{i}.jpg", quality=60)
        shutil.copy(mask, yard / "masks" / f"{photo.stem}_copy{i}.png")
    sides = dict(zip(*make_plan(yard, NANO, out=tmp_path / "run").split, strict=True))
    assert len({side for name, side in sides.items() if photo.stem in name}) == 1


def test_own_splits_and_classes_are_taken(scenes, tmp_path):
    plan = make_plan(scenes, NANO, out=tmp_path / "run")
    assert plan.split is None
    assert plan.sections["data"]["format"] == "folder"
    assert plan.sections["data"]["classes"] is None
    assert plan.sections["model"]["num_classes"] == 11


def test_small_objects_make_images_larger(tmp_path):
    for place in ("images", "masks"):
        (tmp_path / "city" / place).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i, side in enumerate((40, 6)):
        label = np.zeros((900, 1200), dtype=np.uint8)
        for y, left in rng.integers(0, 850, (12, 2)):
            label[y : y + side, left : left + side] = 1
        for j in range(3):
            name = f"{'ab'[i]}{j}"
            Image.fromarray(rng.integers(0, 255, (900, 1200, 3), dtype=np.uint8)).save(
                tmp_path / "city/images" / f"{name}.jpg"
            )
            Image.fromarray(label).save(tmp_path / "city/masks" / f"{name}.png")

    def short(names: str) -> int:
        part = tmp_path / names
        for place in ("images", "masks"):
            (part / place).mkdir(parents=True)
            for file in (tmp_path / "city" / place).glob(f"{names}*"):
                shutil.copy(file, part / place)
        plan = make_plan(part, NANO, out=tmp_path / "run")
        return plan.sections["augmentation"]["scale"][1]

    assert short("a") == 360
    assert short("b") == 720
    assert planning.LEAST_SIDE * 900 / 6 > 720  # more is not done on a CPU


def test_images_of_sixteen_bits(tmp_path):
    pytest.importorskip("rasterio")
    for place in ("images", "masks"):
        (tmp_path / "depth" / place).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 3000, (40, 48), dtype=np.uint16)).save(tmp_path / "depth/images" / f"{i}.png")
        Image.fromarray(rng.integers(0, 2, (40, 48), dtype=np.uint8)).save(tmp_path / "depth/masks" / f"{i}.png")
    plan = make_plan(tmp_path / "depth", NANO, out=tmp_path / "run")
    assert (plan.sections["data"]["channels"], plan.sections["data"]["measure"]) == (1, "range")
    assert plan.sections["model"]["in_channels"] == 1
    assert plan.sections["data"]["classes"] == {"background": [0], "object": [1]}


def test_less_memory_is_accumulated(yard, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "free_memory", lambda device: 0)
    plan = make_plan(yard, NANO, out=tmp_path / "run")
    assert plan.sections["training"]["batch_size"] == 8
    assert plan.sections["training"]["accumulate"] == 8


def test_a_trial_forgets_its_model_and_measures():
    from semask.settings.model import ModelSettings

    found = try_steps(ModelSettings(encoder="swin_nano", num_classes=3, channels=16), (32, 32), most=4, cpu=True)
    assert found.batch == 4
    assert found.seconds > 0
    assert 0 < found.needed < found.free


def test_weights_on_this_machine_go_first(monkeypatch, reporter_lines):
    monkeypatch.setattr(weights, "local_weights", {"timm/tf_efficientnet_lite0": "package:x"}.get)
    chosen = weights.choose_encoder(None, cpu=True, reporter=reporter_lines)
    assert (chosen.encoder, chosen.pretrained) == ("timm/tf_efficientnet_lite0", "package:x")
    monkeypatch.setattr(weights, "local_weights", lambda encoder: None)
    monkeypatch.setattr(weights, "fetchable", lambda encoder: None)
    chosen = weights.choose_encoder(None, cpu=True, reporter=reporter_lines)
    assert (chosen.encoder, chosen.pretrained) == ("swin_nano", None)
    assert "pip install 'semask[pretrained]'" in chosen.reason
    assert weights.choose_encoder("swin_tiny", cpu=True, reporter=reporter_lines).encoder == "swin_tiny"
    assert any("Hub" in line for line in reporter_lines.lines)


@pytest.fixture
def reporter_lines():
    from semask.files.reporter import Reporter

    class Lines(Reporter):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def note(self, text: str) -> None:
            self.lines.append(text)

    return Lines()


def test_pictures_in_the_folder_of_the_masks(yard, tmp_path):
    rng = np.random.default_rng(0)
    for file in (yard / "masks").iterdir():
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(file)
    with pytest.raises(ValueError, match=r"the masks hold \d+ different colors: these are pictures"):
        make_plan(yard, NANO, out=tmp_path / "run")


def test_labels_in_the_alpha_channel(yard, tmp_path):
    for index, path in enumerate(sorted((yard / "masks").iterdir())):
        mask = np.array(Image.open(path))
        alpha = np.where(mask > mask.min(), 255, 0) * (index > 0)
        Image.fromarray(np.dstack([np.full((*mask.shape, 3), 255), alpha]).astype(np.uint8)).save(path)
    plan = make_plan(yard, NANO, out=tmp_path / "run")
    assert plan.sections["data"]["mask_channel"] == "alpha"
    assert "one color" in plan.reasons["data.mask_channel"]
    assert plan.sections["data"]["classes"] == {"background": [0], "object": [255]}
    recipe = read_recipe(write_plan(plan, tmp_path / "run"))
    assert Data(**recipe["data"]).dataset("train").check().pixels.all()
