"""What `predict` writes for images of other bands and samples than photos."""

import json

import numpy as np
import pytest
from PIL import Image

import semask as package
from semask.builder import build
from semask.checkpoints.saving import save
from semask.checkpoints.sources import load
from semask.engines.runtime import load_exported
from semask.prediction.predictor import Predictor

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:rasterio")

KINDS = ["mask", "overlay", "json", "confidence", "probabilities", "cog"]
TILES = ("--tile=64", "--overlap=16")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of two channels with a range, as a checkpoint."""
    limits = {"value_range": ((0.0, 1.0), (-50.0, 950.0)), "mean": (0.5, 0.5), "std": (0.25, 0.25)}
    path = tmp_path_factory.mktemp("model") / "bands.safetensors"
    model = build("swin_nano", num_classes=3, channels=8, in_channels=2, **limits)
    save(path, model, metadata={"recipe": {"model": {"value_range": limits["value_range"]}, "data": {"nodata": -1}}})
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Two bands of floats: a border that is not declared, a pixel of which one band has its value, NaN,
    and a pixel with the value that the model's recipe calls no data."""
    pixels = np.random.default_rng(0).random((2, 80, 96), np.float32) * np.float32([[[1]], [[900]]])
    pixels[:, :10], pixels[0, 40, 40], pixels[:, 50, 50] = -9999, -9999, np.nan
    pixels[0, 60, 60], pixels[1, 60, 60] = -9999, np.nan
    pixels[:, 70, 70] = -1
    path = tmp_path_factory.mktemp("scenes") / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=2, height=80, width=96, crs="EPSG:32633",
        transform=rasterio.transform.from_origin(400_000, 5_000_000, 2, 2),
    ) as file:  # fmt: skip
        file.write(pixels)
    return path


@pytest.mark.parametrize("tiles", [(), TILES])
def test_every_output_and_nodata(semask, trained, scene, tmp_path, tiles):
    semask(
        *("predict", trained, scene, "--out", tmp_path, "--write", *KINDS, "--nodata=-9999", "--device=cpu"),
        *("--summary", tmp_path / "all.csv", *tiles),
    )
    with rasterio.open(tmp_path / "scene.tif") as file:
        label, crs = file.read(1), file.crs
    expected = np.zeros((80, 96), bool)
    expected[:10] = expected[50, 50] = expected[60, 60] = expected[70, 70] = True
    assert np.array_equal(label == 255, expected)
    assert crs.to_epsg() == 32633
    with rasterio.open(tmp_path / "scene_cog.tif") as file:
        assert np.array_equal(file.read(1), label)
    with rasterio.open(tmp_path / "scene_probabilities.tif") as file:
        shares = file.read()
    assert shares.shape == (3, 80, 96)
    assert np.allclose(shares.astype(np.float32).sum(0)[label != 255], 1, atol=0.01)
    assert not shares[:, label == 255].any()
    areas = json.loads((tmp_path / "scene.json").read_text(encoding="utf-8"))
    assert areas["classes"]
    with Image.open(tmp_path / "scene_overlay.jpg") as overlay:
        assert overlay.width >= 96
    assert "scene.tif" in (tmp_path / "all.csv").read_text(encoding="utf-8")


def test_nodata_without_files(trained, scene):
    (without,), (given,) = (package.predict(trained, scene, nodata=nodata) for nodata in (None, -9999))
    assert (without.prediction.label == 255).sum() == 2
    assert (given.prediction.label == 255).sum() == 10 * 96 + 3


@pytest.mark.parametrize(("name", "needed"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_exported_labels_of_a_model_with_a_range(semask, trained, scene, tmp_path, name, needed):
    pytest.importorskip(needed)
    path = tmp_path / {"onnx": "bands.onnx", "openvino": "bands.xml"}[name]
    semask("export", trained, f"--format={name}", "--outputs=labels", "--out", path, "--checks=1")
    runtime = load_exported(path)
    assert runtime.description["outputs"] == ["labels"]
    assert runtime.config["value_range"] == [[0.0, 1.0], [-50.0, 950.0]]
    expected = Predictor(load(trained))(scene, confidence=False).label
    assert (Predictor(runtime)(scene, confidence=False).label == expected).mean() > 0.99
    semask("predict", path, scene, "--out", tmp_path / "out", "--write", "mask", "--nodata=-9999")
    with rasterio.open(tmp_path / "out" / "scene.tif") as file:
        label = file.read(1)
    assert (label == 255).sum() == 10 * 96 + 3
    (given,) = package.predict(trained, scene, nodata=-9999)  # whose border shows the mean, as it does for the file
    assert (label == given.prediction.label).mean() > 0.99
