"""`semask train FOLDER`: one line from files to a model."""

import json
import shutil

import pytest

FAST = (
    "--model.encoder", "swin_nano", "--training.pretrained", "null", "--model.channels", "16", "--training.cpu",
    "--training.steps", "2", "--training.batch_size", "2", "--augmentation.crop", "[32,32]", "--data.workers", "0",
)  # fmt: skip


@pytest.fixture
def yard(scenes, tmp_path, monkeypatch):
    """Images next to their masks; the folder that it is in is the current one."""
    (tmp_path / "yard").mkdir()
    for image in sorted((scenes / "images").rglob("*.*")):
        shutil.copy(image, tmp_path / "yard" / f"{image.parent.name}{image.name}")
        mask = scenes / "annotations" / image.parent.name / f"{image.stem}.png"
        shutil.copy(mask, tmp_path / "yard" / f"{image.parent.name}{image.stem}_mask.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "yard"


def test_one_line(semask, yard, tmp_path):
    output = semask("train", "yard", *FAST)
    run = tmp_path / "runs" / "yard"
    assert {"recipe.yaml", "split.csv", "best.safetensors", "last.safetensors"} <= {x.name for x in run.iterdir()}
    assert "data.format: flat (found 9 masks NAME_mask next to their images)" in " ".join(output.err.split())
    assert "What comes next:" in output.out
    recipe = json.loads((run / "last.json").read_text(encoding="utf-8"))["recipe"]
    assert recipe["data"]["format"] == "flat"
    assert recipe["training"]["steps"] == 2

    said = semask.refused("train", "yard", *FAST)
    assert "already holds a run: give --resume" in said
    again = semask("train", "yard", "--resume")
    assert again.out == output.out
    semask("predict", "runs/yard", next(yard.glob("*.jpg")), "--out", tmp_path / "masks")
    semask("evaluate", "runs/yard", "--workers", "0")


def test_the_written_recipe_trains_the_same_model(semask, yard, tmp_path):
    semask("train", "yard", *FAST)
    semask("train", "--config", "runs/yard/recipe.yaml", "--out", "again")
    first, second = (
        json.loads((tmp_path / run / "last.json").read_text(encoding="utf-8"))["metrics"]
        for run in ("runs/yard", "again")
    )
    assert first == second


def test_a_dry_run_writes_nothing_but_what_is_asked_for(semask, yard, tmp_path):
    output = semask("train", "yard", *FAST, "--dry_run")
    assert "model:\n  encoder: swin_nano" in output.out
    assert not (tmp_path / "runs").exists()
    semask("train", "yard", *FAST, "--dry_run", "--out", "plan")
    assert {x.name for x in (tmp_path / "plan").iterdir()} == {"recipe.yaml", "split.csv"}
    assert "--dry_run prints what is chosen for a folder" in semask.refused("train", "--data.root", "yard", "--dry_run")


def test_a_recipe_decides_on_all_but_the_data(semask, yard, tmp_path):
    output = semask("train", "yard", "--config", "camvid/semask_nano_fpn", *FAST, "--dry_run")
    assert "lr: 0.001 " in output.out  # the recipe's
    assert "num_classes: 11 " not in output.out.replace("num_classes: 11    ", "")  # the data's own number
    assert "scale: [480, 360]" in output.out
    assert "format: flat" in output.out


def test_what_contradicts_itself_is_told(semask, yard, tmp_path):
    assert "two folders are given, yard and --data.root other" in semask.refused(
        "train", "yard", "--data.root", "other"
    )
    assert "--dry_run prints what is chosen for a folder, for a new run" in semask.refused(
        "train", "yard", "--dry_run", "--resume"
    )
    assert "model.num_classes is 5, but the data has" in semask.refused(
        "train", "yard", *FAST, "--model.num_classes", 5
    )
    semask("train", "yard", *FAST)
    assert "minutes" in semask.refused("train", "yard", "--resume", "--minutes", 9)
    recipe = tmp_path / "runs" / "yard" / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8").replace("encoder: swin_nano", "encoder: transformers/../x")
    recipe.write_text(text, encoding="utf-8")
    assert "a file can name no path" in semask.refused("train", "yard", "--resume")


def test_a_mask_decoder_has_its_own_loss_in_the_recipe(semask, yard):
    mask = (
        "--model.decoder",
        "maskformer",
        "--model.queries",
        "4",
        "--model.channels",
        "32",
        "--mask_loss.dice_weight",
        "3",
    )
    printed = semask("train", "yard", *FAST, *mask, "--dry_run").out
    assert "\nmask_loss:\n" in printed
    assert "\nloss:\n" not in printed
    assert "  dice_weight: 3" in printed


def test_minutes_reach_the_training(semask, yard):
    output = semask("train", "yard", *FAST, "--minutes", "3", "--dry_run").out
    assert "minutes: 3" in output


def test_what_cannot_be_done_is_one_line(semask, yard, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    assert "the folder is empty" in semask.refused("train", "empty")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").write_text("no images", encoding="utf-8")
    assert "no known layout of labeled images: it has 1 files (1 x .txt)" in semask.refused("train", "texts")
    assert "nowhere: no such folder" in semask.refused("train", "nowhere")
    assert "which data? give a folder" in semask.refused("train")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "2 processes can't choose settings together" in semask.refused("train", "yard", *FAST)
