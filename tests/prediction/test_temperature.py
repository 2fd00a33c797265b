"""A temperature changes confidence and probabilities, in the same way everywhere, and never the classes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_files import K, described, write_onnx
from PIL import Image
from small_models import small

from semask import Inference, Predictor, predict, save
from semask.builder import build
from semask.engines.description import metadata, read
from semask.engines.runtime import load_exported
from semask.prediction.array_predictor import open_array_predictor
from semask.prediction.predictor import look
from semask.prediction.score_maps import all_probabilities, confidence, label_map, probabilities, tempered

T = 2.5
FACTS = {"temperature": T, "ece": [0.2, 0.1], "nll": [1.0, 0.9], "data": "x", "split": None, "images": 3, "pixels": 9}


@pytest.fixture(scope="module")
def models():
    """A model of each kind, without and with a temperature."""
    found = {}
    for decoder in ("fpn", "maskformer"):
        torch.manual_seed(0)
        found[decoder] = small(decoder).eval()
    return found


@pytest.mark.parametrize("settings", [{}, {"flip": True, "ratios": (0.75, 1.0)}, {"mode": "slide", "crop": (40, 40)}])
@pytest.mark.parametrize("decoder", ["fpn", "maskformer"])
def test_powers_that_sum_up_to_1(models, decoder, settings):
    predictor = Predictor(models[decoder], Inference(**{"stride": (30, 30), **settings}))
    image = torch.rand(3, 50, 60)
    views = predictor.views(image)[0]
    p = probabilities(views, (50, 60)) ** (1 / T)
    p /= p.sum(1, keepdim=True)
    torch.testing.assert_close(confidence(views, (50, 60), T), p.amax(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(all_probabilities(views, (50, 60), T).float(), p.cpu(), atol=1e-3, rtol=0)
    assert (p.argmax(1) == probabilities(views, (50, 60)).argmax(1)).all()


def test_of_logits_it_is_the_softmax_of_divided_logits(models):
    with torch.inference_mode():
        (view,) = look(models["fpn"], torch.randn(1, 3, 64, 64), Inference())
        divided = view._replace(scores=view.scores / T)
        torch.testing.assert_close(tempered(probabilities([view], (64, 64)), T), probabilities([divided], (64, 64)))


def test_scores_of_0_and_none():
    p = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None]
    assert tempered(p, None) is p
    assert tempered(p, 3.0)[0, :, 0, 0].argmax() == 0
    assert tempered(torch.zeros(1, 4, 1, 1), 3.0).flatten().tolist() == [0.25] * 4


@pytest.fixture
def photo(tmp_path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_files_of_predict_whole_and_in_tiles(photo, tmp_path):
    pytest.importorskip("rasterio")
    model = build("swin_nano", num_classes=5, channels=32)
    torch.nn.init.normal_(model.decoder.classifier.weight, std=3)
    found = {}
    for name, facts in (("plain", {}), ("calibrated", {"calibration": FACTS})):
        path = save(tmp_path / f"{name}.safetensors", model, facts)
        for tile in (None, 48):
            out = tmp_path / name / str(tile)
            predict(path, photo, out=out, confidence=True, overlays=False, device="cpu", tile=tile, overlap=16)
            found[name, tile] = [np.array(Image.open(out / f"photo{end}.png")) for end in ("", "_confidence")]
    for tile in (None, 48):
        (label, sure), (same, now) = found["plain", tile], found["calibrated", tile]
        assert (label == same).all()
        assert (sure != now).mean() > 0.5
    p = Predictor(model, Inference())(photo, probabilities=True).probabilities.astype(np.float32) ** (1 / T)
    expected = (p / p.sum(0)).max(0) * 255
    assert np.abs(found["calibrated", None][1] - expected).max() <= 1
    first = Predictor(model, Inference())(np.array(Image.open(photo))[:48, :48], probabilities=True)  # the first tile
    p = first.probabilities.astype(np.float32) ** (1 / T)
    alone = (p / p.sum(0)).max(0)[:27, :32] * 255  # no other tile reaches there
    assert np.abs(found["calibrated", 48][1][:27, :32] - alone).max() <= 1


@pytest.mark.parametrize("masks", [False, True])
def test_exported_files_with_and_without_torch(tmp_path, masks):
    pytest.importorskip("onnxruntime")
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    plain = write_onnx(tmp_path / "plain.onnx", described(masks=masks), masks=masks)
    file = write_onnx(tmp_path / "calibrated.onnx", described(masks=masks, calibration=FACTS), masks=masks)
    before = open_array_predictor(plain)(image, probabilities=True)
    after = open_array_predictor(file)(image, probabilities=True)
    same = Predictor(load_exported(file, threads=1))(image, probabilities=True)
    assert (before.label == after.label).all()
    p = before.probabilities.astype(np.float32) ** (1 / T)
    np.testing.assert_allclose(after.probabilities, p / p.sum(0), atol=2e-3)
    np.testing.assert_allclose(after.confidence, same.confidence, atol=1e-5)
    np.testing.assert_allclose(after.probabilities, same.probabilities, atol=1e-3)
    assert np.abs(after.confidence - before.confidence).max() > 0.01
    assert len(after.probabilities) == K


def test_the_exporter_takes_it_along(models):
    model = models["fpn"]
    before = metadata(model, precision="fp32")
    assert "calibration" not in before
    model.metadata["calibration"] = FACTS
    try:
        written = metadata(model, precision="fp32")
        assert read(json.dumps(written), "a.onnx")["calibration"] == FACTS
        assert metadata(model, precision="fp32", labels=True) == {**before, "outputs": ["labels"]}
        written["calibration"] = {"temperature": 10**9}
        with pytest.raises(ValueError, match=r"calibration\.temperature is 1000000000"):
            read(json.dumps(written), "a.onnx")
    finally:
        del model.metadata["calibration"]


def test_a_class_map_is_that_of_before(models):
    predictor = Predictor(models["fpn"])
    image = torch.rand(3, 50, 60)
    label = label_map(predictor.views(image)[0], (50, 60))[0].numpy()
    predictor.temperature = T
    assert (predictor(image).label == label).all()
