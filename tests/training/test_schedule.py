import json
from pathlib import Path

import pytest
import torch
import yaml
from published_recipes import MANIFESTS

from semask.builder import build
from semask.checkpoints.names import official_names
from semask.settings.training import Training
from semask.training.parameters import parameter_groups

ROOT = Path(__file__).parents[2]
GOLDENS = ROOT / "tests" / "goldens"
SCHEDULES = json.loads((GOLDENS / "lr_schedules.json").read_text(encoding="utf-8"))
ZERO_DECAY = json.loads((GOLDENS / "zero_decay.json").read_text(encoding="utf-8"))


def recipe(name: str) -> dict:
    return yaml.safe_load((ROOT / "semask" / "recipes" / MANIFESTS[name]["config"]).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SCHEDULES)
def test_learning_rate_is_the_published_one(name):
    training = Training(**recipe(name)["training"])
    for step, lr in SCHEDULES[name]["lr_at"]:
        assert training.lr_at(step) == pytest.approx(lr, rel=1e-6)


def test_learning_rate_rises_then_falls_to_the_least():
    training = Training(steps=100, warmup_steps=10, lr=1.0, min_lr=0.1, warmup_ratio=0.01, power=0.9)
    rates = [training.lr_at(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.1)
    assert Training(steps=10, warmup_steps=0).lr_at(0) == Training.lr


@pytest.mark.parametrize("name", ZERO_DECAY)
def test_weight_decay_is_the_published_one(name):
    golden, settings = ZERO_DECAY[name], recipe(name)
    with torch.device("meta"):
        model = build(**settings["model"])
    training = Training(**settings["training"])
    decayed, exempt = parameter_groups(model, training)
    assert decayed["weight_decay"] == training.weight_decay == golden["weight_decay"]
    assert exempt["weight_decay"] == 0
    names = official_names(model)
    official = {id(parameter): names[ours].name for ours, parameter in model.named_parameters()}
    assert sorted(official[id(parameter)] for parameter in exempt["params"]) == golden["zero_decay"]
    ids = {id(parameter) for group in (decayed, exempt) for parameter in group["params"]}
    assert ids == official.keys()
    assert len(decayed["params"]) + len(exempt["params"]) == golden["parameters"]
