"""Every encoder with every decoder: nothing that a model can do needs to know which pair it is."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import semask as package
from semask import Predictor, SeMask, load, save
from semask.cost import flops, info
from semask.decoders.catalog import names
from semask.training.start import default_loss

ENCODERS = {
    "swin_nano": None,
    "timm/convnext_atto": None,
    "timm/pvt_v2_b0": None,
    "timm/resnet18": None,
    "timm/vit_tiny_patch16_224": {"depth": 4},
    "transformers/mit_b0": None,
}
DECODERS = names()
SMALL = {"num_classes": 3, "channels": 32, "queries": 5, "decoder_layers": 1}


def build(encoder: str, decoder: str, **settings) -> SeMask:
    return package.build(encoder, decoder, encoder_options=ENCODERS[encoder], **SMALL, **settings)


@pytest.fixture(autouse=True)
def one_thread(semask) -> None:
    """Small models gain nothing from threads; the command line's fixture takes them away."""


def check_gradients(model: SeMask) -> None:
    """One pass of training gives a finite loss, and a gradient to all that has a part in it."""
    output = model.train()(torch.randn(2, 3, 64, 80))
    for features in output.features:
        features.retain_grad()
    loss = default_loss(model)(output, torch.randint(0, 3, (2, 64, 80)))
    loss.total.backward()
    assert torch.isfinite(loss.total)
    read = [i for i, features in enumerate(output.features) if features.grad is not None]
    unread = set(range(len(output.features))) - set(read)
    assert bool(unread) == getattr(model.decoder, "skips_maps", False)
    # A map that is not read leaves its norm without a gradient, and the coarsest one all that is not for its prior.
    idle = [f"encoder.{part}.{i}." for part in ("norms", "pyramid.levels") for i in unread]
    idle += [f"encoder.semantic_layers.{i}.attentions." for i in unread if i > max(read)]
    if not output.priors:
        idle += [f"encoder.backbone.stages.{i}." for i in unread if i > max(read)]
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert [name for name in without if not name.startswith(tuple(idle))] == []


def check_round_trip(model: SeMask, folder: Path) -> None:
    """What was saved answers as before, to an image whose sides nothing divides."""
    loaded = load(save(folder / "model.safetensors", model, {"classes": {"classes": ["a", "b", "c"]}}))
    assert loaded.config == model.config
    image = torch.rand(3, 45, 70)
    before, after = (Predictor(x.eval())(image, priors=True) for x in (model, loaded))
    assert before.label.shape == before.confidence.shape == (45, 70)
    assert len(before.priors) == len(model.encoder.semantic_strides)
    assert (before.confidence == after.confidence).all()
    assert (before.label == after.label).all()


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_pair_learns_and_keeps(encoder, decoder, tmp_path):
    model = build(encoder, decoder)
    check_gradients(model)
    check_round_trip(model, tmp_path)


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_without_semantic_layers(decoder):
    check_gradients(build("swin_nano", decoder, semantic_depths=0))


@pytest.mark.parametrize("decoder", DECODERS)
def test_flops_of_every_decoder(decoder):
    assert flops(build("swin_nano", decoder), (32, 64)) > 0


@pytest.mark.parametrize("encoder", ENCODERS)
def test_info_of_every_encoder(encoder):
    model = build(encoder, "fpn")
    report = info(model, size=(64, 96))
    whole, stages = report["parts"]["encoder"], report["stages"]
    assert [row["channels"] for row in stages] == list(model.encoder.channels)
    strides = model.encoder.backbone.strides
    assert [row["locations"] for row in stages] == [f"{64 // stride} x {96 // stride}" for stride in strides]
    # What may be left are the stem, norms, and a ViT's embedding of places and pyramid.
    assert 0.5 * whole < sum(row["parameters"] + row["semantic parameters"] for row in stages) <= whole


@pytest.mark.parametrize("encoder", ENCODERS)
def test_gradient_checkpointing_of_every_encoder(encoder):
    model = build(encoder, "fpn", drop_path=0.0).train()
    image, gradients = torch.randn(2, 3, 64, 64), []
    for enabled in (False, True):
        model.encoder.backbone.set_gradient_checkpointing(enabled)
        torch.manual_seed(0)
        model.zero_grad()
        default_loss(model)(model(image), torch.zeros(2, 64, 64, dtype=torch.long)).total.backward()
        gradients.append([p.grad for p in model.encoder.parameters()])
    for without, with_it in zip(*gradients, strict=True):
        torch.testing.assert_close(with_it, without, rtol=1e-3, atol=1e-5)


def test_weights_of_a_library_that_can_not_be_had(semask, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    settings = {"model.encoder": "timm/resnet18", "pretrained": "library"}
    assert "could not get the weights" in semask.refused(*recipe(tmp_path / "run", **settings))


UNUSUAL = {
    "timm and smp": {"model.encoder": "timm/convnext_atto", "model.decoder": "smp/unet"},
    "transformers and segmenter": {"model.encoder": "transformers/mit_b0", "model.decoder": "segmenter"},
    "ViT and mask2former": {
        "model.encoder": "timm/vit_tiny_patch16_224",
        "model.encoder_options": json.dumps({"depth": 4}),
        "model.decoder": "mask2former",
        "model.queries": 5,
        "model.decoder_layers": 1,
        "model.channels": 32,
    },
}


@pytest.mark.parametrize("pair", UNUSUAL)
def test_the_verbs(pair, semask, recipe, scenes, tmp_path):
    settings = UNUSUAL[pair] | {"steps": 2, "save_every": 1, "evaluate_every": 0}
    semask(*recipe(tmp_path / "run", **settings))
    semask("evaluate", tmp_path / "run", "--workers=0", "--device=cpu", "--out", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    with open(tmp_path / "run" / "evaluation.csv", encoding="utf-8", newline="") as file:
        assert float(next(csv.DictReader(file))["miou"]) == pytest.approx(report["miou"], rel=1e-4)
    photo = next((scenes / "images" / "val").iterdir())
    semask("predict", tmp_path / "run", photo, "--out", tmp_path / "masks")
    assert (tmp_path / "masks" / f"{photo.stem}.png").is_file()
    assert "GFLOPs at 512 x 512" in semask("info", tmp_path / "run").out


@pytest.mark.parametrize("pair", UNUSUAL)
def test_a_stopped_run_goes_on_to_the_same_weights(pair, semask, recipe, tmp_path, monkeypatch):
    settings = UNUSUAL[pair] | {"steps": 3, "save_every": 2, "evaluate_every": 0}
    semask(*recipe(tmp_path / "whole", **settings))
    with monkeypatch.context() as patch:
        patch.setattr("semask.training.run.Run.evaluate", stop)
        semask(*recipe(tmp_path / "stopped", **settings), code=130)
    semask(*recipe(tmp_path / "stopped", **settings), "--resume")
    whole, resumed = (load_file(tmp_path / run / "last.safetensors") for run in ("whole", "stopped"))
    assert whole.keys() == resumed.keys()
    assert all(x.equal(resumed[name]) for name, x in whole.items())


def stop(*_, **__) -> None:
    raise KeyboardInterrupt


def test_two_processes_with_a_decoder_that_reads_some_of_the_maps(recipe, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "semask.cli"]
    settings = {"model.decoder": "segmenter", "batch_size": 4, "steps": 3}
    subprocess.run(
        [*launcher, *recipe(tmp_path / "run", **settings)],
        check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, capture_output=True,
    )  # fmt: skip
    assert load(tmp_path / "run").metadata["step"] == 3


DROPPED_IN = """
from torch import nn

from semask.decoders.decoder import Decoder
from semask.outputs import PixelOutput


class Pointwise(Decoder):
    def __init__(self, in_channels, strides, *, num_classes):
        super().__init__(num_classes)
        self.classifier = nn.Conv2d(in_channels[0], num_classes, 1)

    def forward(self, maps):
        return PixelOutput(self.classifier(maps[0]))


DECODERS = {"pointwise": Pointwise}
"""


def test_a_decoder_is_one_new_file(tmp_path):
    copy = shutil.copytree(Path(package.__file__).parent, tmp_path / "semask")
    (copy / "decoders" / "pointwise.py").write_text(DROPPED_IN, encoding="utf-8")
    code = """
import semask, torch
model = semask.build("swin_nano", "pointwise", num_classes=3)
again = semask.load(semask.save("model.safetensors", model, {}))
print(semask.__file__, again.config["decoder"], *again(torch.zeros(1, 3, 32, 64)).logits.shape)
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path, env=environment
    ).stdout
    assert printed.split() == [str(copy / "__init__.py"), "pointwise", "1", "3", "8", "16"]
