import copy

import pytest
import torch
from torch import nn

import semask
from semask.builder import build
from semask.checkpoints.other_classes import class_tensors
from semask.settings.model import ModelSettings

METADATA = {
    "classes": {"classes": ["a", "b"]},
    "step": 7,
    "metrics": {"miou": 0.25},
    "published": {"name": "x", "miou": 1.0, "miou_multiscale": 2.0, "licence": "MIT"},
    "recipe": {"data": {"root": "x"}, "evaluation": {"mode": "slide", "crop": [64, 64], "stride": [32, 32]}},
}


@pytest.fixture
def saved(tmp_path):
    """A trained model of two classes, and its file."""

    def write(decoder: str = "fpn", **settings):
        module = build("swin_nano", decoder, **{"num_classes": 2, "channels": 32, **settings}).eval()
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.1)
        return module, semask.save(tmp_path / "model.safetensors", module, copy.deepcopy(METADATA))

    return write


@pytest.mark.parametrize(
    ("decoder", "settings"),
    [("fpn", {}), ("fpn", {"prior_classes": 7}), ("segmenter", {}), ("encnet", {}), ("maskformer", {"queries": 5})],
)
def test_all_but_the_classes_is_taken_over(saved, decoder, settings):
    old, path = saved(decoder, **settings)
    new = semask.load(path, num_classes=4)
    assert {**new.config, "num_classes": 2, "prior_classes": old.config["prior_classes"]} == old.config
    assert (new.config["num_classes"], new.config["prior_classes"]) == (4, None)
    report, before, after = new.load_report, old.state_dict(), new.state_dict()
    assert sorted([*report.loaded, *report.fresh]) == sorted(after)
    assert report.resized == report.unused == []
    assert all(after[name].equal(before[name]) for name in report.loaded)
    assert set(report.fresh) == class_tensors(ModelSettings(**{**old.config, "mean": None, "std": None}))
    assert any(".semantic_query." in name for name in report.fresh)
    assert not [name for name in report.fresh if name.startswith("encoder.backbone.")]
    assert not new.training
    assert new(torch.zeros(1, 3, 64, 64)).logits.shape[1] == 4 if decoder != "maskformer" else True


def test_what_is_not_true_any_more_is_not_said(saved):
    _, path = saved()
    new = semask.load(path, classes=["car", "bus", "sky"])
    assert new.config["num_classes"] == 3
    assert new.metadata["classes"]["classes"] == ["car", "bus", "sky"]
    assert new.metadata["licence"] == "MIT"
    assert new.metadata["recipe"] == {"evaluation": METADATA["recipe"]["evaluation"], "model": new.config}
    assert not {"step", "metrics", "published"} & new.metadata.keys()
    assert "classes" not in semask.load(path, num_classes=3).metadata


def test_saved_again(saved, tmp_path):
    new = semask.load(saved()[1], classes=["car", "bus", "sky"])
    again = semask.load(semask.save(tmp_path / "new.safetensors", new, new.metadata))
    image = torch.randn(1, 3, 64, 64)
    assert again(image).logits.equal(new(image).logits)
    assert again.load_report is None


def test_the_same_number(saved):
    old, path = saved()
    for same in ({"num_classes": 2}, {"classes": ["a", "b"]}):
        new = semask.load(path, **same)
        assert new.load_report.fresh == []
        assert new.metadata["step"] == 7
        assert all(x.equal(new.state_dict()[name]) for name, x in old.state_dict().items())
    renamed = semask.load(path, classes=["b", "a"])  # the same number, but others: what was learned of a is not b
    assert "decoder.classifier.weight" in renamed.load_report.fresh
    assert not renamed.state_dict()["decoder.classifier.weight"].equal(old.state_dict()["decoder.classifier.weight"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 1}, "num_classes is 1: give a whole number from 2 to 255"),
        ({"num_classes": True}, "num_classes is True: give"),
        ({"classes": []}, "0 classes given"),
        ({"classes": ["a"]}, "num_classes is 1: give a whole number from 2"),
        ({"classes": ["a", "a"]}, "class name 'a' is given twice"),
        ({"classes": "road"}, "classes is one text: give a list of names"),
        ({"classes": ["a", "b", "c"], "num_classes": 4}, "num_classes is 4, but classes has 3 names"),
    ],
)
def test_faults(saved, settings, message):
    _, path = saved()
    with pytest.raises(ValueError, match=message) as caught:
        semask.load(path, **settings)
    assert "\n" not in str(caught.value)


def test_not_into_a_model_of_ones_own(saved):
    old, path = saved()
    with pytest.raises(ValueError, match="leave out into"):
        semask.load(path, into=old, num_classes=4)
