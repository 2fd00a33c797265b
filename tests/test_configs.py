from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser, Namespace
from published_recipes import MANIFESTS

import semask
from semask import Augmentation, Data, Inference, PixelLoss, SeMask
from semask.cli import describe
from semask.cost import flops, parameters
from semask.settings.training import Training

CONFIGS = Path(__file__).parents[1] / "semask" / "recipes"
FILES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml"))
GROUPS = {"data": Data, "augmentation": Augmentation, "loss": PixelLoss, "training": Training, "evaluation": Inference}


@pytest.fixture(scope="module")
def parser() -> ArgumentParser:
    return describe("train").parser


@cache
def parse(parser: ArgumentParser, config: str) -> Namespace:
    return parser.parse_args(["--config", str(CONFIGS / config), "--out", "runs/x"])


def build(settings: dict[str, Any]) -> SeMask:
    with torch.device("meta"):
        return semask.build(**settings)


@pytest.mark.parametrize("config", FILES)
def test_recipe_is_complete_and_builds(parser, config):
    options = parse(parser, config)
    for name, group in GROUPS.items():
        group(**options[name].as_dict())
    model = build(options.model.as_dict())
    decoder = model.decoder
    if decoder.makes_masks:
        assert decoder.class_predictor.out_features == options.model.num_classes + 1
    else:
        assert decoder.classifier.out_channels == options.model.num_classes


def test_every_published_model_has_a_recipe_and_the_other_way_round():
    assert {entry["config"] for entry in MANIFESTS.values()} == {
        x for x in FILES if x.endswith("_fpn.yaml") and not x.startswith("camvid/")
    }


@pytest.mark.parametrize("name", MANIFESTS)
def test_recipe_is_the_published_one(parser, name):
    options, entry = parse(parser, MANIFESTS[name]["config"]), MANIFESTS[name]
    model, training, augmentation = options.model, options.training, options.augmentation
    ours = {
        "lr": training.lr,
        "weight_decay": training.weight_decay,
        "warmup_ratio": training.warmup_ratio,
        "steps": training.steps,
        "batch_size": training.batch_size,
        "crop": list(augmentation.crop),
        "scale": list(augmentation.scale),
        "ratios": list(augmentation.scale_ratios or augmentation.scale_range),
        "largest_class": augmentation.largest_class,
        "min_kept": options.loss.ohem_min_kept,
        "evaluation_scale": list(options.evaluation.scale),
    }
    assert ours == entry["recipe"]
    assert options.loss.average == "all"
    if name.startswith("semask"):
        assert list(model.semantic_window) == entry["semantic_window"]
        assert model.semantic_depths == 1
        assert model.num_classes == entry["classes"]
        assert (model.prior_classes or model.num_classes) == entry["prior_classes"]
    else:
        assert model.semantic_depths == 0


@pytest.mark.parametrize("name", MANIFESTS)
def test_parameters_and_flops_are_the_published_ones(parser, name):
    entry = MANIFESTS[name]
    settings = parse(parser, entry["config"]).model.as_dict()
    model = build({**settings, "num_classes": entry["classes"]})
    assert parameters(model) == entry["parameters"]
    # The published models also project the cells that windows are filled up with, which are then cut off.
    assert 0.975 <= flops(model, tuple(entry["size"])) / entry["flops"] <= 1.001
