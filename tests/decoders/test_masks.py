import dataclasses
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml

from semask import Inference, MaskLoss, Predictor, SeMask
from semask.builder import build
from semask.checkpoints.names import official_names
from semask.cost import flops, parameters
from semask.decoders.catalog import names
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.swin import Swin, SwinSize
from semask.prediction.predictor import look
from semask.prediction.score_maps import probabilities
from semask.settings.training import Training
from semask.training.parameters import parameter_groups
from semask.training.start import default_loss

ROOT = Path(__file__).parents[2]
GOLDENS = ROOT / "tests" / "goldens"
MANIFESTS = json.loads((GOLDENS / "mask_manifests.json").read_text(encoding="utf-8"))
OPTIMIZERS = json.loads((GOLDENS / "mask_zero_decay.json").read_text(encoding="utf-8"))
MASK_DECODERS = [name for name in names() if name.startswith("mask")]


def small(decoder: str, **settings) -> SeMask:
    return build("swin_nano", decoder, num_classes=4, channels=32, queries=6, decoder_layers=2, **settings)


def one_block_a_stage(settings: dict) -> SeMask:
    """Build the model of a recipe over the smaller encoder that the goldens of the optimisers were made with."""
    scope = {name: settings[name] for name in ("num_classes", "semantic_window", "semantic_depths")}
    swin = Swin(SwinSize(channels=24, depths=(1, 1, 1, 1), heads=(3, 6, 12, 24), window=7, drop_path=0.0))
    return build(**{**settings, "encoder": SemanticEncoder(swin, **scope)})


@pytest.mark.parametrize("name", MANIFESTS)
def test_published_models(name):
    entry = MANIFESTS[name]
    recipe = yaml.safe_load((ROOT / "semask" / "recipes" / entry["config"]).read_text(encoding="utf-8"))
    with torch.device("meta"):
        model = build(**recipe["model"]).eval()
    assert parameters(model) == entry["parameters"]
    # The published models also project the cells that windows are filled up with, which are then cut off.
    assert 0.975 <= flops(model, tuple(entry["size"])) / entry["flops"] <= 1.001
    assert list(recipe["model"]["semantic_window"]) == entry["semantic_window"]
    shapes = {}
    for ours, source in official_names(model).items():
        shape = model.state_dict()[ours].shape
        shapes[source.name] = [source.parts * shape[0], *shape[1:]]
    assert len(shapes) == entry["tensors"]
    lines = sorted(f"{key} {'x'.join(map(str, shape))}" for key, shape in shapes.items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == entry["sha256"]


@pytest.mark.parametrize("name", json.loads((GOLDENS / "mask_lr_schedules.json").read_text(encoding="utf-8")))
def test_learning_rates_of_published_recipes(name):
    schedule = json.loads((GOLDENS / "mask_lr_schedules.json").read_text(encoding="utf-8"))[name]
    settings = yaml.safe_load((ROOT / "semask" / "recipes" / MANIFESTS[name]["config"]).read_text(encoding="utf-8"))[
        "training"
    ]
    for step, lr in schedule:
        assert Training(**settings).lr_at(step) == pytest.approx(lr, rel=1e-6)


@pytest.mark.parametrize("decoder", MASK_DECODERS)
def test_two_steps_move_every_part_of_every_semantic_attention(decoder):
    torch.manual_seed(0)
    model, loss = small(decoder).train(), MaskLoss(points=50)
    before = {name: x.clone() for name, x in model.named_parameters() if ".attentions." in name}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    image, label = torch.randn(2, 3, 64, 96), torch.randint(0, 4, (2, 64, 96))
    for _ in range(2):
        loss(model(image), label).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, x in model.named_parameters():
        if name in before and not name.endswith("semantic_key.bias"):  # softmax does not see it
            assert not torch.equal(x, before[name]), name


@pytest.mark.parametrize("decoder", MASK_DECODERS)
def test_losses_are_finite_in_half_precision_and_without_valid_pixels(decoder):
    model = small(decoder).train()
    loss = default_loss(model)
    label = torch.full((3, 64, 64), 255)
    label[1] = 2  # a single class
    label[2, :32] = 0
    with torch.autocast("cpu", torch.bfloat16):
        output = model(torch.randn(3, 3, 64, 64))
    losses = loss(output, label)
    losses.total.backward()
    assert all(x.isfinite() for x in losses)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    empty = loss(model(torch.randn(1, 3, 64, 64)), torch.full((1, 64, 64), 255))
    assert empty.prior == 0
    assert empty.total.isfinite()


@pytest.mark.parametrize("decoder", MASK_DECODERS)
def test_any_size_and_every_way_of_inference(decoder):
    model = small(decoder).eval()
    image = torch.randn(1, 3, 45, 71)
    with torch.inference_mode():
        whole = probabilities(look(model, image, Inference()), (45, 71))
        assert whole.shape == (1, 4, 45, 71)
        # without padding the class probabilities of all masks are a direct sum
        padded = torch.nn.functional.pad(image, (0, 25, 0, 19))
        output = model(padded).prediction
        masks = torch.nn.functional.interpolate(output.masks, size=(64, 96), mode="bilinear").sigmoid()
        direct = torch.einsum("bqk,bqhw->bkhw", output.classes.softmax(-1)[..., :-1], masks)[..., :45, :71]
        torch.testing.assert_close(whole, direct)
        mirrored = probabilities(look(model, image.flip(-1), Inference(), mirrored=True), (45, 71))
        assert not torch.equal(mirrored, whole)
        one_window = Inference(mode="slide", crop=(64, 96), stride=(32, 32))
        torch.testing.assert_close(probabilities(look(model, image, one_window), (45, 71)), whole)
        windows = Inference(mode="slide", crop=(32, 32), stride=(24, 24), ratios=(1.0, 1.5), flip=True)
    prediction = Predictor(model, windows)(torch.rand(3, 45, 71), priors=True)
    assert prediction.label.shape == (45, 71)
    assert len(prediction.priors) == 4


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rates_and_weight_decay_of_the_published_optimizers(name):
    golden = OPTIMIZERS[name]
    recipe = yaml.safe_load((ROOT / "semask" / "recipes" / MANIFESTS[name]["config"]).read_text(encoding="utf-8"))
    with torch.device("meta"):
        model = one_block_a_stage(recipe["model"])
    names = official_names(model)
    official = {id(parameter): names[ours].name for ours, parameter in model.named_parameters()}
    found = {}
    for group in parameter_groups(model, Training(**recipe["training"])):
        for parameter in group["params"]:
            rule = group["lr"], group["weight_decay"]
            assert found.setdefault(official[id(parameter)], rule) == rule  # parts of one published tensor agree
    assert set(found) == set(official.values())
    assert len(found) == golden["parameters"]
    rates = {True: golden["encoder_lr"], False: golden["decoder_lr"]}
    assert all(lr == pytest.approx(rates[key.startswith("backbone.")]) for key, (lr, _) in found.items())
    assert {decay for _, decay in found.values()} == {0, golden["weight_decay"]}
    exempt = Counter(re.sub(r"\.\d+(?=\.)", ".*", key) for key, (_, decay) in found.items() if decay == 0)
    assert exempt == golden["zero_decay"]


@pytest.mark.parametrize("decoder", ["mask2former_fapn", "maskformer"])
def test_training_evaluating_and_predicting_by_command(semask, scenes, tmp_path, decoder):
    options = [
        *("--model.encoder", "swin_nano", "--model.decoder", decoder, "--model.num_classes", "11"),
        *("--model.channels", "32", "--model.queries", "5", "--model.decoder_layers", "1", "--data.root", scenes),
        *("--data.workers", "0", "--augmentation.scale", "null", "--augmentation.crop", "[32,32]"),
        *("--training.steps", "2", "--training.batch_size", "2", "--training.encoder_lr", "0.1"),
        *(
            "--training.warmup_steps",
            "0",
            "--mask_loss.points",
            "20",
            "--training.cpu",
            "true",
            "--out",
            tmp_path / "run",
        ),
    ]
    semask("train", *options)
    model = __import__("semask").load(tmp_path / "run")
    assert model.config["decoder"] == decoder
    assert model.metadata["recipe"]["mask_loss"] == dataclasses.asdict(
        dataclasses.replace(default_loss(model), points=20)  # the decoder's own, as from Python
    )
    assert model.metadata["recipe"]["mask_loss"]["mask_weight"] == {"maskformer": 20.0}.get(decoder, 5.0)
    report = semask("evaluate", tmp_path / "run", "--data", scenes, "--workers", "0")
    assert "mean" in report.out
    semask("train", *options, "--resume", "true")


def test_the_loss_has_to_fit_the_decoder():
    output = small("maskformer").eval()(torch.randn(1, 3, 64, 64))
    with pytest.raises(ValueError, match="a mask decoder gives masks"):
        _ = output.logits
    pixel = build("swin_nano", num_classes=4, channels=8)(torch.randn(2, 3, 32, 32))
    with pytest.raises(ValueError, match="MaskLoss needs the output of a mask decoder"):
        MaskLoss()(pixel, torch.zeros(2, 32, 32, dtype=torch.long))


@pytest.mark.parametrize("decoder", MASK_DECODERS)
def test_a_pixel_decoder_of_its_own_width(decoder):
    options = {"pixel_channels": 64, "mask_channels": 12, "heads": 4, "feedforward": 40}
    model = small(decoder, decoder_options=options).train()
    output = model(torch.randn(2, 3, 64, 96))
    assert output.prediction.masks.shape == (2, 6, 16, 24)
    default_loss(model)(output, torch.randint(0, 4, (2, 64, 96))).total.backward()
    skipped = [name for name, p in model.decoder.named_parameters() if p.grad is None]
    third = [f"transformer.input_projections.2.{kind}" for kind in ("weight", "bias")]  # there are two layers
    assert skipped == ([] if decoder == "maskformer" else third)
    assert bool(skipped) == getattr(model.decoder, "skips_maps", False)
    assert not getattr(small(decoder).decoder, "skips_maps", False)


@pytest.mark.parametrize("decoder", MASK_DECODERS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixel_channels": 50}, "the pixel decoder is 50 channels wide: give a multiple of 32"),
        ({"heads": 5}, "5 heads can't share 32 channels and 32 of the pixel decoder"),
        ({"heads": 0}, "heads is 0: give a whole number from 1"),
    ],
)
def test_widths_that_cannot_be_built(decoder, options, message):
    with pytest.raises(ValueError, match=message):
        small(decoder, decoder_options=options)


def test_maskformer_projects_a_map_of_another_width():
    with pytest.raises(ValueError, match="the coarsest map has 256 channels, the transformer 32: project it"):
        small("maskformer", decoder_options={"input_projection": False})


@pytest.mark.parametrize("decoder", MASK_DECODERS)
def test_prediction_makes_no_masks_of_earlier_layers(decoder):
    model, image = small(decoder).eval(), torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        whole, alone = model(image).prediction, model(image, masks_only=True).prediction
    assert len(whole.auxiliary) > 0
    assert alone.auxiliary == ()
    assert torch.equal(whole.classes, alone.classes)
    assert torch.equal(whole.masks, alone.masks)
