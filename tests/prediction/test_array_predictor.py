import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_files import described, write_onnx, write_openvino
from PIL import Image
from small_models import small
from torchvision.transforms.v2 import functional as TF

from semask import Inference, Predictor
from semask.builder import build
from semask.data.normalization import Normalization
from semask.engines.catalog import formats
from semask.engines.description import metadata
from semask.engines.format import Request
from semask.engines.formats import onnx as exporter
from semask.engines.runtime import load_exported
from semask.prediction.array_images import normalize, resize_image
from semask.prediction.array_maps import ArrayView, label_map, probabilities
from semask.prediction.array_predictor import ArrayPredictor, open_array_predictor
from semask.prediction.score_maps import View
from semask.prediction.score_maps import probabilities as in_torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SETTINGS = {
    "own size": {},
    "larger": {"scale": (160, 120)},
    "smaller": {"scale": (60, 50)},
    "smaller and smooth": {"scale": (60, 50), "antialias": True},
    "slide": {"scale": (131, 97), "mode": "slide", "crop": (48, 64), "stride": (30, 41), "window_batch": 3},
    "ratios and flip": {"scale": (90, 70), "ratios": (0.75, 1.0, 1.25), "flip": True},
    "slide, ratios and flip": {
        "mode": "slide", "crop": (40, 40), "stride": (27, 27), "ratios": (0.5, 1.3), "flip": True, "antialias": True
    },
}  # fmt: skip


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    """An image that changes slowly, so that few pixels lie where classes meet."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 5, channels), dtype=np.uint8)
    layers = [Image.fromarray(noise[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(channels)]
    return np.stack([np.array(layer) for layer in layers], axis=-1)


@pytest.fixture(scope="module", params=["pixels", "masks", "fpn", "maskformer"])
def file(request, tmp_path_factory) -> Path:
    """A file of one convolution, or of a real model."""
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    if request.param in ("pixels", "masks"):
        masks = request.param == "masks"
        return write_onnx(path, described(masks=masks), masks=masks)
    model = small(request.param)
    exporter.save(Request(model, path, torch.zeros(1, 3, 64, 64), metadata=metadata(model, precision="fp32")))
    return path


def require_same(file: Path, images: object, settings: dict) -> None:
    """At most 0.1 % of the labels differ, and probabilities by 0.001."""
    inference = Inference(**settings)
    right = Predictor(load_exported(file, threads=1), inference)(images)
    found = open_array_predictor(file, inference=inference)(images)
    for before, after in zip(*(x if isinstance(x, list) else [x] for x in (right, found)), strict=True):
        assert after.label.shape == before.label.shape
        assert (after.label.dtype, after.confidence.dtype) == (np.uint8, np.float32)
        assert (after.label != before.label).mean() <= 0.001
        np.testing.assert_allclose(after.confidence, before.confidence, atol=1e-3)
        assert np.array_equal(after.image, before.image)
        assert (after.classes, after.priors) == (before.classes, ())


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("size", [(76, 100), (97, 65)])
def test_predicts_what_torch_predicts(file, settings, size):
    if "masks" in file.parent.name:
        settings = {**settings, "window_batch": 1}  # the classes of the smallest file are constants of one image
    require_same(file, picture(*size), settings)


def test_images_of_every_kind(tmp_path):
    file = write_onnx(tmp_path / "model.onnx", described())
    color = picture(50, 70)
    for mode, name in {"RGB": "a.png", "L": "b.png", "RGBA": "c.png", "P": "d.png", "CMYK": "e.tif"}.items():
        Image.fromarray(color).convert(mode).save(tmp_path / name)
    paths = sorted(tmp_path.glob("[a-e].*"))
    kinds = [color, color[..., 0], color / np.float32(255), color.astype(np.float64) / 255, Image.fromarray(color)]
    require_same(file, [*paths, *(str(x) for x in paths), *kinds], {"scale": (64, 64)})
    require_same(file, np.stack([color, color[::-1]]), {})


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_rgba(tmp_path, channels):
    path = tmp_path / "model.onnx"
    model = build("swin_nano", num_classes=3, channels=8, in_channels=channels, mean=[0.4] * channels,
                  std=[0.3] * channels).eval()  # fmt: skip
    sample = torch.zeros(1, channels, 64, 64)
    exporter.save(Request(model, path, sample, metadata=metadata(model, precision="fp32")))
    Image.fromarray(picture(60, 90)).convert("LA" if channels == 1 else "RGBA").save(tmp_path / "photo.png")
    require_same(path, [tmp_path / "photo.png", picture(60, 90, channels)], {"scale": (80, 50), "antialias": True})


MISTAKES = {
    "channels": np.zeros((20, 20, 4), np.uint8),
    "turned": np.zeros((3, 20, 20), np.uint8),
    "integers": np.zeros((20, 20, 3), np.int32),
    "above 1": np.full((20, 20, 3), 1.5, np.float32),
    "not finite": np.full((20, 20, 3), np.nan, np.float32),
    "no pixels": np.zeros((0, 20, 3), np.uint8),
    "five dimensions": np.zeros((1, 1, 20, 20, 3), np.uint8),
    "bytes": b"image",
    "nothing": None,
    "folder": Path("."),
    "32 bits": Image.new("I", (20, 20)),
    "no file": Path("nowhere.png"),
    "one of several": [np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20, 4), np.uint8)],
    "batch": np.zeros((2, 20, 20, 4), np.uint8),
}


@pytest.mark.parametrize("image", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_get_the_message_that_torch_gets(tmp_path, image):
    file = write_onnx(tmp_path / "model.onnx", described())
    said = []
    for predictor in (Predictor(load_exported(file)), open_array_predictor(file)):
        with pytest.raises(ValueError, match=r"\S") as caught:
            predictor(image)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]


@pytest.mark.parametrize(
    "settings",
    [{"scale": (60_000, 60_000)}, {"mode": "slide", "crop": (1, 1), "stride": (1, 1), "scale": (512, 512)}],
    ids=["too large", "too many windows"],
)
def test_settings_without_end_are_refused(tmp_path, settings):
    file = write_onnx(tmp_path / "model.onnx", described())
    with pytest.raises(ValueError, match=r"set them lower|more than 32,768"):
        open_array_predictor(file, inference=Inference(**settings))(picture(40, 40))


def test_the_recipe_in_the_file_says_how(tmp_path):
    evaluation = {"scale": [60, 50], "flip": True, "ratios": [1.0, 1.5]}
    file = write_onnx(tmp_path / "model.onnx", described(recipe={"data": {}, "evaluation": evaluation}))
    predictor = open_array_predictor(file)
    assert predictor.inference == Inference(scale=(60, 50), flip=True, ratios=(1.0, 1.5))
    assert predictor(picture(40, 60), confidence=False).confidence is None
    with pytest.raises(ValueError, match="gives no priors"):
        predictor(picture(40, 60), priors=True)


def test_scores_that_are_nan_are_refused(tmp_path):
    predictor = open_array_predictor(write_onnx(tmp_path / "model.onnx", described()))
    broken = ArrayPredictor(predictor.model)
    broken.model.run = lambda image: [np.full((1, 3, 4, 4), np.nan, np.float32)]
    with pytest.raises(ValueError, match="NaN or infinite"):
        broken(picture(16, 16))


def test_formats_that_need_torch_are_refused(tmp_path):
    for row in formats().values():
        if not row.arrays:
            with pytest.raises(ValueError, match=r"needs torch: .* one of \.onnx, \.xml"):
                open_array_predictor(tmp_path / f"model{row.ending}", trust=True)


def test_openvino_files_too(tmp_path):
    require_same(write_openvino(tmp_path / "model.xml", described()), picture(50, 70), {"scale": (64, 64)})


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [(33, 40), (50, 100), (120, 200), (97, 131), (64, 131), (1, 1), (300, 7)])
def test_images_are_resized_as_torch_does(size, antialias, dtype):
    image = picture(97, 131)
    image = image if dtype == np.uint8 else image.astype(np.float32) / 255
    right = TF.resize(torch.from_numpy(image).permute(2, 0, 1), list(size), antialias=antialias)
    found = resize_image(image, size, antialias=antialias)
    assert found.dtype == dtype
    largest = np.abs(found.astype(np.float64) - right.permute(1, 2, 0).numpy()).max()
    assert largest <= (1 if dtype == np.uint8 else 2e-5)  # bytes: the same where torch has vector instructions
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    normalized = Normalization(mean, std)(torch.from_numpy(found).permute(2, 0, 1))
    np.testing.assert_allclose(normalize(found, mean, std), normalized, rtol=0, atol=1e-6)


def test_probabilities_are_those_of_score_maps():
    generator = torch.Generator().manual_seed(0)
    scores, masks = torch.randn(1, 5, 9, 13, generator=generator), torch.randn(1, 7, 16, 16, generator=generator)
    classes = torch.randn(1, 7, 6, generator=generator).softmax(-1)[..., :-1]
    views = [
        View(scores, (33, 50), (36, 52)),
        View(scores, (33, 50), (36, 52), mirrored=True),
        View(masks, (33, 50), (64, 64), "masks", classes),
    ]
    arrays = [
        ArrayView(x.scores[0].numpy(), x.size, x.padded, x.kind, None if x.classes is None else x.classes[0].numpy(),
                  x.mirrored)
        for x in views
    ]  # fmt: skip
    for size in ((33, 50), (71, 40), (20, 111)):
        right = in_torch(views, size)[0].numpy()
        np.testing.assert_allclose(probabilities(arrays, size, range(size[0])), right, atol=1e-5)
        part = range(size[0] // 3, size[0] // 2)
        np.testing.assert_allclose(probabilities(arrays, size, part), right[:, part.start : part.stop], atol=1e-5)
        assert (label_map(arrays, size) != right.argmax(0)).mean() < 1e-3
        for view, array in zip(views, arrays, strict=True):  # one alone takes other ways
            right = in_torch([view], size)[0].numpy().argmax(0)
            assert (label_map([array], size) != right).mean() < 1e-3


def test_the_memory_is_that_of_a_strip(monkeypatch):
    """As many values at once as `STRIP_VALUES` says, whatever the size of the image."""
    seen = []
    monkeypatch.setattr("semask.prediction.array_maps.STRIP_VALUES", 4000)
    resized = ArrayView.rows

    def rows(self, rows):
        seen.append(len(rows) * self.size[1] * len(self.scores))
        return resized(self, rows)

    monkeypatch.setattr(ArrayView, "rows", rows)
    scores = np.random.default_rng(0).random((4, 8, 8), np.float32)
    label_map([ArrayView(scores, (32, 32), (32, 32), "probabilities")], (500, 300))
    assert len(seen) > 100
    assert max(seen) <= 4000


WITHOUT_TORCH = """
import json, sys
names = ("torch", "torchvision", "timm", "transformers")
sys.modules |= dict.fromkeys(names)  # importing one fails
from semask.prediction.array_predictor import open_array_predictor

prediction = open_array_predictor(sys.argv[1])(sys.argv[2])
prediction.save(sys.argv[3])
print(json.dumps({"loaded": [x for x in names if sys.modules[x]], "confidence": float(prediction.confidence.mean())}))
"""


@pytest.mark.parametrize("masks", [False, True])
def test_predicts_without_torch(tmp_path, masks):
    file = write_onnx(tmp_path / "model.onnx", described(masks=masks), masks=masks)
    Image.fromarray(picture(60, 80)).save(tmp_path / "photo.png")
    command = [sys.executable, "-c", WITHOUT_TORCH, file, tmp_path / "photo.png", tmp_path / "mask.png"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    right = Predictor(load_exported(file))(tmp_path / "photo.png")
    found = json.loads(run.stdout)
    assert found["loaded"] == []
    assert found["confidence"] == pytest.approx(right.confidence.mean(), abs=1e-3)
    with Image.open(tmp_path / "mask.png") as mask:
        assert (np.array(mask) != right.label).mean() <= 0.001
    assert len(np.unique(right.label)) > 1


def test_what_is_untrusted_is_checked_without_torch(tmp_path):
    """The file is damaged: the same line as with torch, in a process that has none."""
    file = write_onnx(tmp_path / "model.onnx", described(mean=[0.5, 0.5]))
    code = WITHOUT_TORCH.replace("prediction = open", "try:\n    open").replace("(sys.argv[2])\n", "\n", 1)
    code = code[: code.index("prediction.save")] + "except ValueError as error:\n    print(error)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, env=environment)
    assert "its description is wrong (mean has another length" in run.stdout, run.stderr
    with pytest.raises(ValueError, match="its description is wrong") as caught:
        load_exported(file)
    assert run.stdout.strip() == str(caught.value)
