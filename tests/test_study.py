"""The arms of the study are what they say, and a run that was stopped goes on to the same results."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from semask.evaluation.images import read_counts

STUDY = Path(__file__).parent.parent / "studies/semask"


@pytest.fixture(scope="module", autouse=True)
def study():
    """The study's files, as a script has them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STUDY))
        import arm_table
        import arms
        import train_arms

        yield argparse.Namespace(arms=arms, run=train_arms, table=arm_table)
        for name in ("arms", "arm_table", "train_arms"):
            sys.modules.pop(name, None)


def options(**values: object) -> argparse.Namespace:
    return argparse.Namespace(**{"data": Path("data"), "out": Path("out"), "steps": None, **values})


def model_of(study, name: str):
    arm = study.arms.ARMS[name]
    return study.run.model_of(arm, study.run.settings_of(arm, 0, options()), 0)


def test_every_arm_has_a_base(study):
    for name, arm in study.arms.ARMS.items():
        assert arm.base in study.arms.ARMS, name


def test_attention_and_self_attention_have_the_same_parameters(study):
    shapes = [
        {name: tuple(x.shape) for name, x in model_of(study, arm).named_parameters()}
        for arm in ("semask", "self-attention", "attention-only", "prior-only")
    ]
    assert all(other == shapes[0] for other in shapes)


def test_priors_alone_change_nothing(study):
    plain, priors = model_of(study, "plain"), model_of(study, "prior-only")
    image = torch.randn(2, 3, 64, 64)
    priors.train()
    loss = priors(image).prior_logits.square().mean()
    loss.backward()
    assert all(
        block.semantic_query.weight.grad is not None
        for layer in study.arms.layers(priors)
        for block in layer.attentions
    )
    missing, unexpected = plain.load_state_dict(priors.state_dict(), strict=False)
    assert not missing
    assert all("semantic_layers" in name for name in unexpected)
    for model in (plain, priors):
        model.eval()
    assert torch.equal(plain(image).logits, priors(image).logits)


def test_a_norm_gives_no_priors(study):
    model = model_of(study, "layer-norm").train()
    output = model(torch.randn(2, 3, 64, 64))
    assert output.prior_logits is None
    assert sum(p.numel() for p in model.encoder.semantic_layers.parameters()) == 2 * sum(model.encoder.channels)


def test_self_attention_is_scaled(study):
    attention = study.arms.PlainAttention(8, 4).eval()
    query, key, value = torch.randn(3, 1, 5, 4)
    weights = torch.softmax(query @ key.mT / 2, dim=-1)
    torch.testing.assert_close(attention.attend(query, key, value), weights @ value)


def test_runs_are_resumed_and_compared(study, scenes, tmp_path, monkeypatch):
    small = {
        "model.num_classes": 11, "augmentation.crop": (32, 32), "augmentation.scale": (64, 48),
        "evaluation.scale": (64, 48), "training.batch_size": 2, "training.save_every": 1, "training.evaluate_every": 2,
        "training.log_every": 1, "training.precision": "fp32",
    }  # fmt: skip
    for name in ("plain-nano", "semask-nano"):
        arm = study.arms.ARMS[name]
        monkeypatch.setitem(study.arms.ARMS, name, study.arms.Arm(arm.title, {**arm.settings, **small}, base=arm.base))
    given = options(data=scenes, out=tmp_path / "runs", results=tmp_path / "results", steps=2)
    for name in ("plain-nano", "semask-nano"):
        study.run.run(name, study.arms.ARMS[name], 0, given)
    assert study.run.finished(given.results, "semask-nano", 0)
    counts = read_counts(given.results / "semask-nano-0.npz")
    said = json.loads((given.results / "semask-nano-0.json").read_text(encoding="utf-8"))
    assert np.array(said["scales"]).shape == (4, 1)
    monkeypatch.setattr(
        sys, "argv", ["arm_table.py", str(given.results), "--groups", "(.*)", "--out", str(tmp_path / "table.md")]
    )
    study.table.main()
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == [
        "| Swin-nano from scratch, plain",
        "| Swin-nano from scratch, SeMask",
    ]
    exits = [line.split(" | ") for line in lines if "prior of stage" in line or "| masks |" in line]
    cost = [float(row[2]) for row in exits if "SeMask" in row[0]]
    assert len(cost) == 5
    assert cost == sorted(cost)  # a later exit costs more
    study.run.run("semask-nano", study.arms.ARMS["semask-nano"], 0, given)  # all steps are done: only evaluated again
    assert (read_counts(given.results / "semask-nano-0.npz").confusion == counts.confusion).all()


def test_a_tenth_of_the_images(study, scenes, tmp_path):
    arm = study.arms.ARMS["plain-tenth"]
    whole = study.run.settings_of(arm, 0, options(data=scenes))["data"]
    data = study.run.part_of(whole, arm.share, tmp_path)
    assert study.run.part_of(whole, arm.share, tmp_path) == data  # it is there
    assert len(data.dataset("train")) == 1
    assert len(data.dataset("val")) == 3
