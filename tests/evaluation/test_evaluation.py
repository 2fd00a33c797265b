import json
from types import SimpleNamespace

import pytest

import semask as package
from semask import Data, Inference
from semask.evaluation.evaluate import source_of
from semask.files.reporter import Reporter


class Said(Reporter):
    """Notes what a long job says."""

    def __init__(self):
        self.notes, self.tracked = [], []

    def note(self, text):
        self.notes.append(text)

    def track(self, items, what, count):
        self.tracked.append((what, count))
        return items


def test_python_and_the_command_line_give_one_report(semask, trained, scenes, tmp_path, capsys):
    semask("evaluate", trained, "--workers=0", "--device=cpu", "--flip", f"--out={tmp_path / 'report.json'}")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    said = Said()
    result = package.evaluate(trained, inference={"flip": True}, workers=0, device="cpu", reporter=said)
    assert capsys.readouterr() == ("", "")  # no console
    assert json.loads(json.dumps(result.report)) == report
    assert result.scores.miou == report["miou"]
    assert [prior.miou for prior in result.priors] == report["prior_miou"]
    assert said.tracked == [("evaluating", 3)]
    assert said.notes[0].startswith("precision fp32")


def test_a_model_that_is_loaded(trained, scenes):
    model = package.load(trained)
    result = package.evaluate(model, Data(root=str(scenes)), split="train", inference=Inference(flip=True), workers=0)
    assert result.images == 6
    assert result.report["weights"] == {"file": None, "sha256": None, "beside": {}, "step": model.metadata["step"]}
    assert result.report["data"]["val_split"] == "train"
    assert result.report["settings"]["flip"] is True
    with pytest.raises(ValueError, match="device and precision are for a checkpoint"):
        package.evaluate(model, scenes, precision="bf16")


def test_no_data(trained):
    model = package.load(trained)
    model.metadata["recipe"].pop("data")
    with pytest.raises(ValueError, match="which data\\? the checkpoint names none"):
        package.evaluate(model)


@pytest.mark.parametrize("samples", [{"channels": 4, "bands": (4, 3, 2, 1)}, {"nodata": 7.0, "ignore_nodata": False}])
def test_another_layout_of_the_same_kind_of_images(samples):
    """What a model sees of an image does not depend on how its folder is laid out."""
    recipe = {"data": {"root": "a", "image_dir": "left", "tolerance": 0, **samples}}
    model = SimpleNamespace(metadata={"recipe": recipe})
    found = source_of(model, "b", format="folders", split=None, object_255=None)
    assert found == Data(root="b", format="folders", **samples)
    recipe["data"] |= {"channels": 4, "bands": None}
    with pytest.raises(ValueError, match=r"data.channels is for the format .*, not for ade20k: leave it out"):
        source_of(model, "b", format="ade20k", split=None, object_255=None)
