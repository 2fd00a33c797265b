"""Every encoder with every decoder: nothing that a model can do needs to know which pair it is."""

from pathlib import Path

import pytest
import torch

from semask import Predictor, SeMask, decoders, load, save
from semask.info import info
from semask.train import default_loss

ENCODERS = {
    "swin_nano": None,
    "timm/convnext_atto": None,
    "timm/pvt_v2_b0": None,
    "timm/resnet18": None,
    "timm/vit_tiny_patch16_224": {"depth": 4},
    "transformers/mit_b0": None,
}
DECODERS = decoders.names()
SMALL = {"num_classes": 3, "channels": 32, "queries": 5, "decoder_layers": 1}


def build(encoder: str, decoder: str, **settings) -> SeMask:
    return SeMask(encoder, decoder, encoder_options=ENCODERS[encoder], **SMALL, **settings)


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
    # Decoders that read some of the maps only leave the norms of the others without a gradient, and of what lies
    # behind the deepest one that they read all that is not for its prior.
    read = [i for i, features in enumerate(output.features) if features.grad is not None]
    unread = set(range(len(output.features))) - set(read)
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
def test_every_decoder_without_semantic_layers(decoder, tmp_path):
    model = build("swin_nano", decoder, semantic_depths=0)
    check_gradients(model)
    check_round_trip(model, tmp_path)


@pytest.mark.parametrize("decoder", DECODERS)
def test_info_of_every_decoder(decoder):
    model = build("swin_nano", decoder)
    report = info(model, size=(64, 80))
    assert report["parts"]["decoder"] == sum(p.numel() for p in model.decoder.parameters())
    assert report["flops"] > info(model, size=(32, 40))["flops"] > 0
