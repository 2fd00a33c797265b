"""The arms of the studies are what they say, and a run that was stopped goes on to the same results."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from semask.checkpoints.pretrained import load_pretrained
from semask.evaluation.image_counts import read_counts

STUDIES = Path(__file__).parent.parent / "studies"


@pytest.fixture(scope="module")
def scripts():
    """The files of the studies, as a script has them."""
    names = ("arm", "arm_figure", "arm_table", "train_arms")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STUDIES))
        import arm
        import arm_table
        import train_arms

        yield argparse.Namespace(arm=arm, table=arm_table, run=train_arms)
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def study(scripts):
    return scripts.arm.study("semask")


def options(**values: object) -> argparse.Namespace:
    return argparse.Namespace(**{"data": Path("data"), "out": Path("out"), "steps": None, **values})


@pytest.fixture
def model_of(scripts, study):
    return lambda name: scripts.table.plain_model(study, study.arms[name])


@pytest.mark.parametrize("name", ["semask", "half", "street"])
def test_every_arm_has_a_base_and_settings_that_there_are(scripts, name):
    study = scripts.arm.study(name)
    for arm in study.arms.values():
        other, _, base = arm.base.rpartition("/")
        assert base in (scripts.arm.study(other) if other else study).arms, arm.title
        assert scripts.run.settings_of(study.recipe, arm, 3, options())["training"].seed == 3


def test_a_study_or_an_arm_that_there_is_not(scripts, monkeypatch):
    with pytest.raises(SystemExit, match="no study x: choose one of half, semask, street"):
        scripts.arm.study("x")
    monkeypatch.setattr(sys, "argv", ["train_arms.py", "semask", "--data=x", "--out=y", "--arms", "plan"])
    with pytest.raises(SystemExit, match="no arm plan: choose from plain"):
        scripts.run.main()


def test_attention_and_self_attention_have_the_same_parameters(model_of):
    shapes = [
        {name: tuple(x.shape) for name, x in model_of(arm).named_parameters()}
        for arm in ("semask", "self-attention", "attention-only", "prior-only")
    ]
    assert all(other == shapes[0] for other in shapes)


def test_priors_alone_change_nothing(scripts, model_of):
    plain, priors = model_of("plain"), model_of("prior-only")
    image = torch.randn(2, 3, 64, 64)
    priors.train()
    loss = priors(image).prior_logits.square().mean()
    loss.backward()
    assert all(
        block.semantic_query.weight.grad is not None
        for layer in scripts.arm.layers(priors)
        for block in layer.attentions
    )
    missing, unexpected = plain.load_state_dict(priors.state_dict(), strict=False)
    assert not missing
    assert all("semantic_layers" in name for name in unexpected)
    for model in (plain, priors):
        model.eval()
    assert torch.equal(plain(image).logits, priors(image).logits)


def test_a_norm_gives_no_priors(model_of):
    model = model_of("layer-norm").train()
    output = model(torch.randn(2, 3, 64, 64))
    assert output.prior_logits is None
    assert sum(p.numel() for p in model.encoder.semantic_layers.parameters()) == 2 * sum(model.encoder.channels)


def test_self_attention_is_scaled(model_of):
    attention = model_of("self-attention").encoder.semantic_layers[0].attentions[0].eval()
    query, key, value = torch.randn(3, 1, 5, 9)
    weights = torch.softmax(query @ key.mT / 3, dim=-1)
    torch.testing.assert_close(attention.attend(query, key, value), weights @ value)


SMALL = {
    "model.num_classes": 11, "augmentation.crop": (32, 32), "augmentation.scale": (64, 48),
    "evaluation.scale": (64, 48), "training.batch_size": 2, "training.save_every": 1, "training.evaluate_every": 2,
    "training.log_every": 1, "training.precision": "fp32",
}  # fmt: skip


def small(scripts, arm):
    return scripts.arm.Arm(arm.title, {**arm.settings, **SMALL}, base=arm.base)


def draw(scripts, monkeypatch, results):
    """Draw a study with one arm against another."""
    pytest.importorskip("matplotlib", reason="needs the extra: pip install 'semask[report]'")
    import arm_figure

    monkeypatch.setattr(arm_figure, "study", scripts.table.study)
    picture = results / "figure.png"
    words = ["arm_figure.py", "semask", f"--results={results}", "--groups=(.*)", "--priors=semask-nano"]
    monkeypatch.setattr(sys, "argv", [*words, f"--out={picture}"])
    arm_figure.main()
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_runs_are_resumed_and_compared(scripts, study, scenes, tmp_path, monkeypatch):
    for name in ("plain-nano", "semask-nano"):
        monkeypatch.setitem(study.arms, name, small(scripts, study.arms[name]))
    monkeypatch.setattr(scripts.table, "study", lambda _: study)
    given = options(data=scenes, out=tmp_path / "runs", results=tmp_path / "semask", steps=2)
    for name in ("plain-nano", "semask-nano"):
        scripts.run.run(study, name, 0, given)
    assert scripts.run.finished(given.results, "semask-nano", 0)
    counts = read_counts(given.results / "semask-nano-0.npz")
    said = json.loads((given.results / "semask-nano-0.json").read_text(encoding="utf-8"))
    assert np.array(said["scales"]).shape == (4, 1)
    out = tmp_path / "table.md"
    words = ["arm_table.py", "semask", f"--results={tmp_path}", "--groups=(.*)", f"--out={out}"]
    monkeypatch.setattr(sys, "argv", words)
    scripts.table.main()
    lines = out.read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == [
        "| Swin-nano from scratch, plain",
        "| Swin-nano from scratch, SeMask",
    ]
    exits = [line.split(" | ") for line in lines if "prior of stage" in line or "| masks |" in line]
    cost = [float(row[2]) for row in exits if "SeMask" in row[0]]
    assert len(cost) == 5
    assert cost == sorted(cost)  # a later exit costs more
    draw(scripts, monkeypatch, tmp_path)
    scripts.run.run(study, "semask-nano", 0, given)  # all steps are done: only evaluated again
    assert (read_counts(given.results / "semask-nano-0.npz").confusion == counts.confusion).all()


def test_pretrained_on_synthetic_scenes(scripts, study, scenes, tmp_path, monkeypatch):
    """Plain and SeMask begin with one encoder, trained once; what is written says so and names no place."""
    monkeypatch.setattr(scripts.run, "SCENES", 2)
    given = options(data=scenes, out=tmp_path / "runs", results=tmp_path / "results", steps=2)
    for name in ("plain-mit", "semask-mit"):
        monkeypatch.setitem(study.arms, name, small(scripts, study.arms[name]))
        scripts.run.run(study, name, 0, given)
        said = (given.results / f"{name}-0.json").read_text(encoding="utf-8")
        assert json.loads(said)["settings"]["training"]["pretrained"] == scripts.arm.SYNTHETIC
        assert str(tmp_path) not in said
    weights = given.out / "on-scenes.safetensors"
    sections = scripts.run.settings_of(study.recipe, study.arms["semask-mit"], 0, given)
    assert scripts.run.pretrained_on_scenes(sections, given.out) == weights
    model = scripts.run.model_of(study.arms["semask-mit"], sections, 1)
    start = {name: x.clone() for name, x in model.encoder.backbone.state_dict().items()}
    loaded = load_pretrained(model, str(weights))
    assert all("semantic_layers" in name for name in loaded.fresh)
    assert any(not torch.equal(x, start[name]) for name, x in model.encoder.backbone.state_dict().items())


def test_masks_are_trained_and_compared(scripts, study, scenes, tmp_path, monkeypatch):
    given = options(data=scenes, out=tmp_path / "runs", results=tmp_path / "results", steps=1)
    monkeypatch.setitem(study.arms, "semask-masks", small(scripts, study.arms["semask-masks"]))
    scripts.run.run(study, "semask-masks", 0, given)
    assert read_counts(given.results / "semask-masks-0.npz").maps == 5  # masks, and the prior of each stage


def test_a_tenth_of_the_images(scripts, study, scenes, tmp_path):
    arm = study.arms["plain-tenth"]
    whole = scripts.run.settings_of(study.recipe, arm, 0, options(data=scenes))["data"]
    data = scripts.run.part_of(whole, arm.share, tmp_path)
    assert scripts.run.part_of(whole, arm.share, tmp_path) == data  # it is there
    assert len(data.dataset("train")) == 1
    assert len(data.dataset("val")) == 3


def test_the_smaller_study_differs_in_its_sizes(scripts, study):
    small = scripts.arm.study("half")
    for name, arm in small.arms.items():
        one, other = (
            scripts.run.settings_of(x.recipe, x.arms[name], 0, options())["augmentation"] for x in (study, small)
        )
        assert dataclasses.replace(other, scale=one.scale, crop=one.crop) == one
        assert arm.change is not None or study.arms[name].change is None
    assert scripts.table.size_of(small, small.arms["plain"]) == (180, 240)
    assert scripts.table.size_of(study, study.arms["plain"]) == (360, 480)


def test_recipes_of_both_studies_are_one(scripts):
    """The street study compares with an arm of the other one."""
    recipes = []
    for name, arm in (("semask", "plain"), ("street", None)):
        study = scripts.arm.study(name)
        chosen = study.arms[arm] if arm else scripts.arm.Arm("nothing changed")
        sections = scripts.run.settings_of(study.recipe, chosen, 0, options())
        sections["data"] = sections["data"].root  # processes that load change nothing
        sections["model"] = {
            k: v for k, v in sections["model"].as_dict().items() if not k.startswith(("semantic", "residual"))
        }
        sections["loss"] = dataclasses.replace(sections["loss"], prior_weight=0)
        sections["training"] = dataclasses.replace(sections["training"], save_every=1, samples=0)
        recipes.append(sections)
    assert recipes[0] == recipes[1]
