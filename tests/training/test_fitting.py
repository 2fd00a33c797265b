"""Images of any bands and samples, from the file over training to what is predicted by whatever runs the model."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.checkpoints.sources import load
from semask.checkpoints.tensors import read_header
from semask.data.classes import Classes
from semask.data.formats.folder import write_classes
from semask.data.source import Data
from semask.engines.runtime import load_exported
from semask.prediction.predictor import Predictor

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

CLASSES = Classes(("water", "field", "roof"))
SIZE = (48, 64)


def write(path: Path, samples: np.ndarray, **profile: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = samples.shape
    kind = {"driver": "GTiff", "dtype": samples.dtype, "count": count, "height": height, "width": width}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    with rasterio.open(path, "w", **kind, **place, **profile) as file:
        file.write(samples)
    return path


def scene(seed: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Values [C, H, W] in [0, 1], and labels [H, W]."""
    random = np.random.default_rng(seed)
    label = np.kron(random.integers(0, 3, (3, 4)), np.ones((16, 16), int))
    values = (label[None] / 3 + np.arange(channels)[:, None, None] / 20) % 1 * 0.8 + random.random(
        (channels, *SIZE)
    ) * 0.1
    return values, label


def data_set(root: Path, kind: str, **profile: object) -> Path:
    """Six scenes whose samples are of a kind, with the nodata value of the profile in a corner."""
    channels, scale, dtype = {
        "5 of uint16": (5, 3000, np.uint16),
        "4 of uint8": (4, 250, np.uint8),
        "elevation": (1, 900, np.float32),
        "dark RGB": (3, 3000, np.uint16),
    }[kind]
    for split, seeds in (("train", range(4)), ("val", range(4, 6))):
        for seed in seeds:
            values, label = scene(seed, channels)
            samples = (values * scale + 1).astype(dtype)
            if "nodata" in profile:
                samples[:, :8, :8] = profile["nodata"]
            write(root / f"images/{split}/{seed}.tif", samples, **profile)
            (root / f"annotations/{split}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(label.astype(np.uint8)).save(root / f"annotations/{split}/{seed}.png")
    write_classes(root / "classes.json", CLASSES, name="tiny")
    return root


def train(command, root: Path, out: Path, *more: str) -> dict:
    command(
        *("train", "--out", out, f"--data.root={root}", "--model.encoder=swin_nano", "--model.channels=8"),
        *("--model.num_classes=3", "--data.workers=0", "--augmentation.scale=null", "--augmentation.crop=[32,32]"),
        *("--training.steps=2", "--training.batch_size=2", "--training.evaluate_every=2", "--training.save_every=1"),
        *("--training.cpu=true", "--training.precision=fp32", *more),
    )
    return read_header(out / "best.safetensors")["recipe"]


KINDS = {
    "5 of uint16": (5, {"nodata": 0}, (1, 3000)),
    "4 of uint8": (4, {"photometric": "MINISBLACK"}, (0, 255)),
    "elevation": (1, {"nodata": float("nan")}, (1, 900)),
    "dark RGB": (3, {"photometric": "RGB"}, (1, 3000)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_range_of_the_training_images_goes_all_the_way(semask, tmp_path, kind):
    channels, profile, (least, most) = KINDS[kind]
    root = data_set(tmp_path / "data", kind, **profile)
    recipe = train(semask, root, tmp_path / "run", f"--data.channels={channels}", "--data.measure=range")
    limits = recipe["model"]["value_range"]
    assert len(limits) == len(recipe["model"]["mean"]) == recipe["model"]["in_channels"] == channels
    assert all(least <= low < high <= most for low, high in limits)
    # what the model sees has mean 0 and spread 1: nothing is dark
    model = load(tmp_path / "run")
    predictor = Predictor(model)
    dataset = open_data(recipe, predictor)
    seen = np.stack([predictor.normalization(dataset[i][0]).numpy() for i in range(2)])
    assert np.abs(seen.mean((0, 2, 3))).max() < 0.5
    assert 0.5 < seen.std((0, 2, 3)).min() < 1.5
    # one image, whole, in tiles and by an exported file
    image = root / "images/val/4.tif"
    predict = ("predict", tmp_path / "run", image, "--precision=fp32", "--device=cpu", "--out")
    semask(*predict, tmp_path / "whole")
    semask(*predict, tmp_path / "tiles", "--tile=64", "--overlap=16")
    whole, tiles = (rasterio.open(tmp_path / name / "4.tif").read(1) for name in ("whole", "tiles"))
    assert np.array_equal(whole, tiles)
    assert (whole[:8, :8] == 255).all() == ("nodata" in profile)
    assert np.array_equal(predictor(image).label[8:], whole[8:])
    samples = rasterio.open(image).read().transpose(1, 2, 0)
    if samples.dtype.kind == "u":  # arrays of whole numbers are samples as in files
        assert (predictor(samples).label[16:] == whole[16:]).mean() > 0.9
    semask("evaluate", tmp_path / "run", "--workers=0", "--device=cpu", "--out", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["data"]["images"] == 2


def open_data(recipe: dict, predictor: Predictor):
    dataset = Data(**recipe["data"]).dataset("val")
    dataset.reading = dataset.reading.for_model(predictor.model.config)
    return dataset


def test_pixels_without_data_are_ignored_and_show_the_mean(semask, tmp_path):
    root = data_set(tmp_path / "data", "5 of uint16", nodata=0)
    recipe = train(semask, root, tmp_path / "run", "--data.channels=5", "--data.measure=range")
    predictor = Predictor(load(tmp_path / "run"))
    dataset = open_data(recipe, predictor)
    image, label = dataset[0]
    assert (label[:8, :8] == 255).all()
    assert label[8:].max() < 3
    assert predictor.normalization(image)[:, :8, :8].abs().max() < 1e-6
    assert dataset.check().pixels.sum() == 2 * (SIZE[0] * SIZE[1] - 64)
    dataset.ignore_nodata = False
    assert dataset[0][1].max() < 3


WITHOUT_TORCH = """
import sys
from semask.prediction.array_predictor import open_array_predictor
label = open_array_predictor(sys.argv[1])(sys.argv[2]).label
assert "torch" not in sys.modules
import numpy
numpy.save(sys.argv[3], label)
"""


def test_an_exported_file_has_the_range_and_the_bands(semask, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    root = data_set(tmp_path / "data", "5 of uint16", nodata=0)
    settings = ("--data.channels=3", "--data.bands=[4,1,5]", "--data.measure=range")
    recipe = train(semask, root, tmp_path / "run", *settings)
    assert recipe["data"]["bands"] == [4, 1, 5]
    path, image = tmp_path / "model.onnx", root / "images/val/4.tif"
    semask("export", tmp_path / "run", "--out", path, "--checks=1")
    subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(path), str(image), str(tmp_path / "label.npy")], check=True
    )
    expected = Predictor(load(tmp_path / "run"))(image).label
    assert (np.load(tmp_path / "label.npy") == expected).mean() > 0.99
    runtime = load_exported(path)
    assert runtime.config["value_range"] == recipe["model"]["value_range"]


def test_a_run_that_goes_on_keeps_what_was_measured(semask, tmp_path):
    root = data_set(tmp_path / "data", "5 of uint16", nodata=0)
    more = ("--data.channels=5", "--data.measure=range")
    before = train(semask, root, tmp_path / "run", *more)["model"]
    write(root / "images/train/0.tif", np.full((5, *SIZE), 60_000, np.uint16), nodata=0)
    semask(
        *("train", "--out", tmp_path / "run", f"--data.root={root}", "--model.encoder=swin_nano", "--model.channels=8"),
        *("--model.num_classes=3", "--data.workers=0", "--augmentation.scale=null", "--augmentation.crop=[32,32]"),
        *("--training.steps=3", "--training.batch_size=2", "--training.evaluate_every=2", "--training.save_every=1"),
        *("--training.cpu=true", "--training.precision=fp32", "--resume_changed", *more),
    )
    assert read_header(tmp_path / "run/last.safetensors")["recipe"]["model"] == before


def test_normalization_alone_is_measured_of_8_bits(semask, tmp_path):
    root = data_set(tmp_path / "data", "4 of uint8", photometric="MINISBLACK")
    recipe = train(semask, root, tmp_path / "run", "--data.channels=4", "--data.measure=normalization")
    assert "value_range" not in recipe["model"]
    files = sorted((root / "images/train").iterdir())
    values = np.stack([rasterio.open(file).read() for file in files]) / 255
    assert np.allclose(recipe["model"]["mean"], values.mean((0, 2, 3)), atol=1e-3)
    assert np.allclose(recipe["model"]["std"], values.std((0, 2, 3)), atol=1e-3)


def test_floats_without_a_range_are_refused_with_what_to_do(semask, tmp_path):
    root = data_set(tmp_path / "data", "elevation")
    data = dataclasses.replace(Data(root=str(root), channels=1), nodata=-1.0)
    with pytest.raises(ValueError, match=r"samples of float32 have no known range: train with data\.measure range"):
        data.dataset("train")[0]
