"""What users get wrong: one line, exit code 2, before the first step where it can be known, and nothing is lost."""

import json
import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from states import shard_of

from semask.checkpoints.sources import load
from semask.checkpoints.tensors import read_tensors, write_tensors
from semask.training.run import Run


def first(root: Path, kind: str) -> Path:
    return sorted((root / kind / "train").iterdir())[0]


def pixels(root: Path) -> np.ndarray:
    return np.array(Image.open(first(root, "annotations")))


def edit_classes(root: Path, **changes: object) -> None:
    path = root / "classes.json"
    values = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}), encoding="utf-8")


def no_root(root: Path) -> None:
    shutil.rmtree(root)


def empty_folder(root: Path) -> None:
    for path in (root / "images" / "train").iterdir():
        path.unlink()


def no_val(root: Path) -> None:
    shutil.rmtree(root / "annotations" / "val")


def unpaired(root: Path) -> None:
    first(root, "annotations").unlink()


def truncated(root: Path) -> None:
    path = first(root, "images")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero_bytes(root: Path) -> None:
    first(root, "images").write_bytes(b"")


def bomb(root: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path = first(root, "images")
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def other_size(root: Path) -> None:
    Image.fromarray(pixels(root)[:, :-1]).save(first(root, "annotations"))


def out_of_range(root: Path) -> None:
    mask = pixels(root)
    mask[3, 4] = 77
    Image.fromarray(mask).save(first(root, "annotations"))


def sixteen_bit_ids(root: Path) -> None:
    mask = pixels(root).astype(np.uint16)
    mask[3, 4] = 3000
    Image.fromarray(mask).save(first(root, "annotations"))


def colors_without_palette(root: Path) -> None:
    edit_classes(root, palette=None)
    Image.open(first(root, "annotations")).convert("RGB").save(first(root, "annotations"))


def unknown_color(root: Path) -> None:
    mask = np.array(Image.open(first(root, "annotations")).convert("RGB"))
    mask[0, 0] = (1, 2, 3)
    Image.fromarray(mask).save(first(root, "annotations"))


def lossy_mask(root: Path) -> None:
    Image.fromarray(pixels(root)).save(first(root, "annotations"), format="JPEG")


def nothing_labelled(root: Path) -> None:
    Image.fromarray(np.full_like(pixels(root), 255)).save(first(root, "annotations"))


def more_classes(root: Path) -> None:
    names = json.loads((root / "classes.json").read_text(encoding="utf-8"))["classes"]
    edit_classes(root, classes=[*names, "sheep"], palette=None, ignore_index=255)


def classes_are_no_json(root: Path) -> None:
    (root / "classes.json").write_text("{")


def same_class_twice(root: Path) -> None:
    edit_classes(root, classes=["a"] * 11)


DATA = {
    no_root: (None, "no such folder"),
    empty_folder: ("images/train", "no images there"),
    no_val: ("annotations/val", "no such folder"),
    unpaired: ("annotations/train", "no mask for 1 of 6 files"),
    truncated: ("image", "the image is damaged"),
    zero_bytes: ("image", "the file is empty"),
    bomb: ("image", "too large: "),
    other_size: ("mask", "the mask has 63 x 48 pixels, its image"),
    out_of_range: ("mask", '77 is not a class of "synthetic": expected 0..'),
    sixteen_bit_ids: ("mask", "3000 is not a class of"),
    colors_without_palette: ("mask", "the mask is RGB, but"),
    unknown_color: ("mask", "(1, 2, 3) is not a color of the palette"),
    lossy_mask: ("mask", "JPEG does not keep label values"),
    nothing_labelled: ("mask", "every pixel is ignored"),
    more_classes: (None, "the model has 11 classes, but synthetic has 12: set model.num_classes to 12"),
    classes_are_no_json: ("classes.json", "not a readable JSON file"),
    same_class_twice: ("classes.json", "class name 'a' is given twice"),
}


@pytest.mark.parametrize("spoil", DATA, ids=lambda x: x.__name__)
def test_data_are_refused_before_the_first_step(semask, recipe, scenes, tmp_path, monkeypatch, spoil):
    root = tmp_path / "data"
    shutil.copytree(scenes, root)
    place, reason = DATA[spoil]
    files = {"image": first(root, "images"), "mask": first(root, "annotations"), None: root}
    spoil(root)
    monkeypatch.setattr(Run, "finish_step", lambda *_: pytest.fail("a step was done"))
    message = semask.refused(*recipe(tmp_path / "run", **{"data.root": root}))
    assert reason in message
    if spoil is not more_classes:
        assert message.startswith(str(files.get(place, root / str(place))))
    assert not (tmp_path / "run").exists()


def test_every_bad_file_is_counted(semask, recipe, scenes, tmp_path):
    shutil.copytree(scenes, tmp_path / "data")
    truncated(tmp_path / "data")
    for path in sorted((tmp_path / "data" / "images" / "train").iterdir())[2:4]:
        path.write_bytes(b"")
    message = semask.refused(*recipe(tmp_path / "run", **{"data.root": tmp_path / "data"}))
    assert message.endswith("(and 2 more of 6 pairs have a problem)")


@pytest.mark.parametrize("workers", [0, 1])
def test_unchecked_data_stop_the_run_and_the_last_save_stays(semask, recipe, scenes, tmp_path, workers):
    root, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(scenes, root)
    settings = {"data.root": root, "data.check": "none", "data.workers": workers, "steps": 9, "save_every": 1}
    settings |= {"batch_size": 1, "augmentation.crop": [64, 64]}
    truncated(root)
    message = semask.refused(*recipe(out, **settings))
    assert message.startswith(f"{first(root, 'images')}: the image is damaged")
    shutil.copy(first(scenes, "images"), first(root, "images"))
    if (out / "last.safetensors").exists():
        assert load(out / "last.safetensors").metadata["step"] < 9
        semask(*recipe(out, **settings), "--resume")


def test_masks_without_a_label_are_accepted_when_asked_for(semask, recipe, scenes, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(scenes, root)
    nothing_labelled(root)
    settings = {"data.root": root, "data.allow_empty_masks": "true", "augmentation.crop": [64, 64]}
    semask(*recipe(tmp_path / "run", **settings, batch_size=1, steps=6))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("training: {stepps: 3}", "training has no setting 'stepps'"),
        ("trainings: {steps: 3}", "trainings"),
        ("training: {steps: many}", "training.steps"),
        ("training: {precision: fp8}", "fp8"),
        ("model: {num_classes: '11 or 12'}", "model.num_classes"),
        ("data: {workers: 1.5}", "data.workers"),
        ("training: [", "flow node"),
        ("- a\n- b", "not a recipe"),
    ],
)
def test_recipes_with_mistakes(semask, recipe, tmp_path, text, reason):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    message = semask.refused("train", "--config", path, *recipe(tmp_path / "run")[1:])
    assert reason in message
    assert message.startswith(f"{path}: ")
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_is_not_there(semask, recipe, tmp_path):
    message = semask.refused("train", "--config", tmp_path / "none.yaml", *recipe(tmp_path / "run")[1:])
    assert message.startswith(f"{tmp_path / 'none.yaml'}: no such file")


class Executed:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def pickled(path: Path, good: Path) -> None:
    path.write_bytes(pickle.dumps(Executed(path.with_name("executed"))))


def torch_file(path: Path, good: Path) -> None:
    torch.save({"state_dict": Executed(path.with_name("executed"))}, path)


def half(path: Path, good: Path) -> None:
    path.write_bytes(good.read_bytes()[: good.stat().st_size // 2])


def half_a_header(path: Path, good: Path) -> None:
    path.write_bytes(good.read_bytes()[:200])


def empty(path: Path, good: Path) -> None:
    path.touch()


def folder_without_weights(path: Path, good: Path) -> None:
    path.mkdir()


def foreign(path: Path, good: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path)


def of_another_model(path: Path, good: Path) -> None:
    tensors, metadata = read_tensors(good)
    metadata["recipe"]["model"]["channels"] = 24
    write_tensors(path, tensors, metadata)


def of_another_version(path: Path, good: Path) -> None:
    tensors, metadata = read_tensors(good)
    metadata["recipe"]["model"]["novelty"] = 1
    write_tensors(path, tensors, metadata)


def of_an_unknown_encoder(path: Path, good: Path) -> None:
    tensors, metadata = read_tensors(good)
    metadata["recipe"]["model"]["encoder"] = "swin_huge"
    write_tensors(path, tensors, metadata)


def state_of_a_run(path: Path, good: Path) -> None:
    shutil.copy(shard_of(good.with_name("resume")), path)


CHECKPOINTS = {
    pickled: "not a safetensors checkpoint, or damaged",
    torch_file: "not a safetensors checkpoint, or damaged",
    half: "not a safetensors checkpoint, or damaged",
    half_a_header: "not a safetensors checkpoint, or damaged",
    empty: "not a safetensors checkpoint, or damaged",
    folder_without_weights: "no best.safetensors, model.safetensors or last.safetensors in this folder",
    foreign: "not a semask checkpoint",
    of_another_model: "the weights belong to another model than its recipe",
    of_another_version: "its recipe does not describe a model",
    of_an_unknown_encoder: "swin_huge",
    state_of_a_run: "not a semask checkpoint",
    None: "no such checkpoint",
}


@pytest.mark.parametrize("make", CHECKPOINTS, ids=lambda x: x.__name__ if x else "missing")
def test_checkpoints_that_are_none(semask, trained, scenes, tmp_path, make):
    path = tmp_path / "weights.safetensors"
    if make is not None:
        make(path, trained / "best.safetensors")
    for arguments in (
        ("evaluate", path),
        ("predict", path, scenes / "images" / "val", "--out", tmp_path / "out"),
        ("info", path),
    ):
        message = semask.refused(*arguments)
        assert message.startswith(f"{path}: ")
        assert CHECKPOINTS[make] in message
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "executed").exists()


def test_nothing_unpickles(semask, recipe, scenes, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("something was unpickled")

    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    semask(*recipe(tmp_path / "run", ema=0.9))
    semask(*recipe(tmp_path / "run", ema=0.9), "--resume")
    semask("evaluate", tmp_path / "run", "--workers", 0)
    semask("predict", tmp_path / "run", scenes / "images" / "val", "--out", tmp_path / "out")
    semask("info", tmp_path / "run", "--size", "[32,32]")
