"""The same numbers on every device: each test runs on the CPU, and on a GPU where there is one."""

import json

import numpy as np
import pytest
import torch

from semask import PixelLoss, Predictor, SeMask
from semask.acceleration.accelerate import accelerate
from semask.acceleration.bfloat16 import use_bfloat16
from semask.acceleration.semantic import attend
from semask.builder import build
from semask.engines.runtime import load_exported
from semask.prediction.score_maps import confidence, label_map

GPU = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")])
on_every_device = pytest.mark.parametrize("device", ["cpu", GPU])
on_a_gpu = pytest.mark.parametrize("device", [GPU])
SIZES = [(64, 96), (97, 131)]


def nano(decoder: str = "fpn") -> SeMask:
    layers = {"decoder_layers": 1} if decoder.startswith("mask") else {}
    model = build("swin_nano", decoder, num_classes=6, channels=32, queries=9, **layers).eval()
    for layer in model.encoder.semantic_layers:
        for attention in layer.attentions:
            torch.nn.init.ones_(attention.scale)
    return model


def scores(model: SeMask, image: torch.Tensor) -> list[torch.Tensor]:
    """Everything that is compared, in float32 on the CPU."""
    with torch.inference_mode():
        output = model(image)
    prediction = (output.prediction.logits,) if hasattr(output.prediction, "logits") else output.prediction[:2]
    return [x.float().cpu() for x in (*prediction, *output.priors)]


@on_every_device
@pytest.mark.parametrize("decoder", ["fpn", "maskformer", "mask2former", "mask2former_msfapn"])
def test_scores_are_those_of_the_plain_operations(device, decoder):
    for size in SIZES:
        model, image = nano(decoder), torch.randn(2, 3, *size)
        expected = scores(model, image)
        found = scores(accelerate(model.to(device)), image.to(device))
        for ours, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, wanted, atol=2e-4, rtol=2e-3)


@on_every_device
def test_bfloat16_is_close(device):
    model, image = nano(), torch.randn(1, 3, 97, 131)
    expected = scores(model, image)[0]
    found = scores(use_bfloat16(model.to(device)), image.to(device))[0]
    assert (found - expected).abs().mean() < 0.03 * expected.std()


@on_every_device
@pytest.mark.parametrize("decoder", ["fpn", "mask2former"])
def test_label_maps_and_confidence_of_a_photo(device, decoder):
    model, photo = nano(decoder), torch.rand(3, 150, 210)
    views = Predictor(model).views(photo)[0]
    expected = confidence(views, (150, 210)), label_map(views, (150, 210))
    there = Predictor(model, device=device).views(photo)[0]
    torch.testing.assert_close(confidence(there, (150, 210)).cpu(), expected[0], atol=1e-4, rtol=1e-3)
    assert (label_map(there, (150, 210)).cpu() != expected[1]).float().mean() < 1e-3


@on_a_gpu
def test_gradients(device):
    gradients = {}
    for name in ("cpu", device):
        torch.manual_seed(0)
        model = build("swin_nano", num_classes=6, channels=32, drop_path=0.0, dropout=0.0)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        image, label = torch.randn(2, 3, 64, 64), torch.randint(6, (2, 64, 64))
        output = model.to(name)(image.to(name))
        PixelLoss()(output, label.to(name)).total.backward()
        gradients[name] = torch.cat([p.grad.flatten().cpu() for p in model.parameters()])
    difference = (gradients[device] - gradients["cpu"]).norm() / gradients["cpu"].norm()
    assert difference < 1e-3


@on_every_device
@pytest.mark.parametrize("training", [False, True])
def test_global_attention_over_many_cells(device, training):
    tensors = [torch.randn(1, 1500, width, device=device, requires_grad=training) for width in (30, 30, 50)]
    query, key, value = (x.detach().double().cpu() for x in tensors)
    with torch.set_grad_enabled(training):
        mixed = attend(*tensors)
    torch.testing.assert_close(
        mixed.double().cpu(), torch.softmax(query @ key.mT, dim=-1) @ value, atol=1e-3, rtol=1e-3, check_dtype=False
    )


@on_a_gpu
def test_global_attention_is_linear_in_memory(device):
    cells = 32_768
    tensors = [torch.randn(1, cells, width, device=device, requires_grad=True) for width in (150, 150, 384)]
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    attend(*tensors).sum().backward()
    assert torch.cuda.max_memory_allocated() - before < cells**2  # its weights would be 4 bytes a pair


@on_a_gpu
def test_compiled(device):
    model = nano().to(device)
    images = [torch.randn(1, 3, *size, device=device) for size in SIZES]
    expected = [scores(model, image)[0] for image in images]
    model.compile()
    for image, wanted in zip(images, expected, strict=True):
        torch.testing.assert_close(scores(model, image)[0], wanted, atol=2e-3, rtol=2e-2)


@on_every_device
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_evaluation_and_prediction(semask, recipe, scenes, tmp_path, device, precision):
    if device == "cpu" and precision == "fp16":
        pytest.skip("fp16 needs a GPU")
    on_cpu = "true" if device == "cpu" else "false"
    semask(*recipe(tmp_path / "run", steps=2, cpu=on_cpu, precision=precision))
    semask("evaluate", tmp_path / "run", "--data", scenes, "--device", device, "--workers", 0)
    photos = scenes / "images" / "val"
    semask("predict", tmp_path / "run", photos, "--device", device, "--out", tmp_path / "masks")
    semask(
        "predict",
        tmp_path / "run",
        photos,
        "--device",
        device,
        "--tile",
        64,
        "--overlap",
        16,
        "--out",
        tmp_path / "tiled",
    )
    assert len(list((tmp_path / "masks").glob("*[0-9].png"))) == len(list((tmp_path / "tiled").glob("*[0-9].png"))) == 3


@on_a_gpu
@pytest.mark.parametrize(
    ("format", "ending", "precision"),
    [("torch", ".pt2", "fp32"), ("torch", ".pt2", "bf16"), ("tensorrt", ".engine", "fp32")],
)
def test_exported_for_the_device(semask, trained, scenes, tmp_path, device, format, ending, precision):
    if format == "tensorrt":
        pytest.importorskip("tensorrt")
    out, photos = tmp_path / f"model{ending}", scenes / "images" / "val"
    semask("export", trained, "--format", format, "--precision", precision, "--device", device, "--images", photos,
           "--limit", 5, "--out", out)  # fmt: skip
    report = json.loads((tmp_path / f"model{ending}.report.json").read_text(encoding="utf-8"))
    assert report["passed"]
    runtime = load_exported(out, device=device, trust=True)
    assert Predictor(runtime)(np.zeros((65, 70, 3), dtype=np.uint8)).label.shape == (65, 70)
