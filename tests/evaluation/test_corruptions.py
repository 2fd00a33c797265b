import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import semask as package
from semask.data.dataset import SegmentationDataset
from semask.evaluation import corruptions as module
from semask.evaluation.corruptions import (
    CORRUPTIONS,
    KINDS,
    PACKAGE,
    STRENGTHS,
    Corrupted,
    Robustness,
    apply,
    grid_of,
    require_images,
    seed_of,
)
from semask.evaluation.evaluate import evaluate_model
from semask.files.reporter import Reporter
from semask.synthetic.dataset import write_synthetic

pytest.importorskip("imagecorruptions")

CHANCE = {*KINDS["noise"], "glass_blur", "motion_blur", "snow", "frost", "fog", "elastic_transform"}
"""Corruptions that draw random numbers."""


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> torch.Tensor:
    """A scene whose sides differ and are no powers of two: [3, 75, 99]."""
    folder = write_synthetic(tmp_path_factory.mktemp("scene"), train=1, val=1, size=(75, 99))
    return package.Data(root=str(folder)).dataset("val").image(0).as_subclass(torch.Tensor)


@pytest.fixture
def dataset(scenes) -> SegmentationDataset:
    return package.Data(root=str(scenes)).dataset("val")


class Said(Reporter):
    """Notes which loops ran."""

    def __init__(self):
        self.tracked = []

    def track(self, items, what, count):
        self.tracked.append((what, count))
        return items


def difference(image: torch.Tensor, other: torch.Tensor) -> float:
    return (image.float() - other.float()).abs().mean().item()


def test_the_usual_15():
    from imagecorruptions import get_corruption_names

    assert list(CORRUPTIONS) == get_corruption_names("common")
    for kind, names in KINDS.items():
        assert list(names) == get_corruption_names(kind)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_corruption(photo, corruption):
    before = photo.clone()
    corrupted = {strength: apply(photo, corruption, strength, name="a/1") for strength in (1, 3, 5)}
    for image in corrupted.values():
        assert (image.shape, image.dtype) == (photo.shape, torch.uint8)
        assert image.is_contiguous()
    assert torch.equal(photo, before)
    changes = [difference(photo, image) for image in corrupted.values()]
    # Fog is weaker at 5 than at 3 where the image is as bright as the fog: see the paper's parameters.
    assert 0 < changes[0] < changes[1]
    assert changes[0] < changes[2]
    assert corruption == "fog" or changes[1] < changes[2]
    np.random.seed(1)  # noqa: NPY002
    assert torch.equal(apply(photo, corruption, 3, name="a/1"), corrupted[3])
    assert np.random.randint(1000) == 37  # noqa: NPY002
    assert torch.equal(apply(photo, corruption, 3, name="a/2"), corrupted[3]) == (corruption not in CHANCE)


def test_a_seed_for_each_image_corruption_and_strength():
    seeds = {seed_of(name, c, s) for name in ("a", "b", "\udce4") for c in CORRUPTIONS for s in STRENGTHS}
    assert len(seeds) == 3 * 15 * 5
    assert seed_of("val/1", "snow", 3) == 2954031910  # published scores can be had again
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_labels_stay_and_places_do_not_matter(dataset):
    names = ["a", "b", "c"]
    corrupted = Corrupted(dataset, names, "elastic_transform", 5)
    assert len(corrupted) == 3
    image, label = corrupted[2]
    assert torch.equal(label, dataset[2][1])
    assert torch.equal(image, apply(dataset[2][0], "elastic_transform", 5, name="c"))
    alone = Corrupted(dataset.subset([2]), ["c"], "elastic_transform", 5)
    assert torch.equal(alone[0][0], image)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (torch.zeros(4, 40, 40, dtype=torch.uint8), "it has 4 channels"),
        (torch.zeros(3, 40, 40), "its samples are float32, not 8 bits"),
        (torch.zeros(3, 40, 31, dtype=torch.uint8), "it has 31 x 40 pixels"),
    ],
)
def test_other_images_are_refused(image, problem):
    with pytest.raises(ValueError, match=f"^x: {problem}, but corruptions are for red, green and blue of 8 bits"):
        apply(image, "fog", 1, name="x")


def test_other_images_are_refused_before_anything_is_evaluated(trained, scenes, tmp_path):
    shutil.copytree(scenes, tmp_path / "data")
    for path in (tmp_path / "data").glob("*/val/*.*"):
        Image.open(path).crop((0, 0, 40, 30)).save(path)
    with pytest.raises(ValueError, match=r"the first image of synthetic: it has 40 x 30 pixels"):
        require_images(package.Data(root=str(tmp_path / "data")).dataset("val"))
    reporter = Said()
    with pytest.raises(ValueError, match="it has 40 x 30 pixels"):
        package.evaluate(trained, tmp_path / "data", workers=0, corruptions="fog", reporter=reporter)
    assert reporter.tracked == []


@pytest.mark.parametrize(
    ("corruptions", "strengths", "line"),
    [
        ("mist", None, "corruptions has 'mist': give all, noise, blur, weather, digital, gaussian_noise"),
        (["fog", "x"], None, "corruptions has 'x'"),
        ([], None, "an empty list"),
        (7, None, "corruptions is 7: give a text or a list of text"),
        ("fog", [], "an empty list"),
        ("fog", [6], r"strengths is \[6\]: give a list of whole numbers from 1 to 5"),
        ("fog", 2, "strengths is 2"),
        (None, [2], "add --corruptions all"),
    ],
)
def test_what_is_asked_for_is_checked(corruptions, strengths, line):
    with pytest.raises(ValueError, match=line):
        grid_of(corruptions, strengths)


def test_what_is_asked_for():
    assert grid_of(None, None) is None
    everything = grid_of("all", None)
    assert (everything.corruptions, everything.strengths) == (CORRUPTIONS, STRENGTHS)
    some = grid_of(["blur", "fog", "zoom_blur"], [3, 1, 3])
    assert (some.corruptions, some.strengths) == ((*KINDS["blur"], "fog"), (3, 1))


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(ValueError, match=f"{PACKAGE} can't be loaded"):
        grid_of("fog", None)
    monkeypatch.setattr(module, "PACKAGE", "no-such-package")
    monkeypatch.setitem(module.advice.__globals__["EXTRAS"], "no-such-package", "robustness")
    with pytest.raises(ValueError, match=re.escape("pip install 'semask[robustness]'")):
        grid_of("fog", None)


def test_means():
    robustness = Robustness(("fog", "snow"), (1, 5), 0.8, ((0.6, 0.4), (0.4, 0.2)))
    assert robustness.means == pytest.approx((0.5, 0.3))
    assert robustness.mean == pytest.approx(0.4)
    report = robustness.report()
    assert report["library"].startswith(f"{PACKAGE} ")
    assert report["relative_miou"] == pytest.approx(0.5)
    assert [row["relative_miou"] for row in report["results"]] == pytest.approx([0.625, 0.375])
    assert [(row["name"], row["kind"]) for row in report["results"]] == [("fog", "weather"), ("snow", "weather")]
    assert [row["miou"] for row in report["results"]] == [[0.6, 0.4], [0.4, 0.2]]
    nothing = Robustness(("fog",), (1,), 0.0, ((float("nan"),),)).report()
    assert (nothing["clean_miou"], nothing["mean_miou"], nothing["relative_miou"]) == (0.0, None, None)


def test_the_report(semask, trained, scenes, tmp_path):
    plain = package.evaluate(trained, workers=0, device="cpu")
    options = ["--workers=0", "--device=cpu", "--corruptions", "shot_noise", "brightness", "--strengths", "1", "5"]
    printed = semask("evaluate", trained, *options, "--out", tmp_path / "report.json").out
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    found = report.pop("corruptions")
    assert {**json.loads(json.dumps(plain.report)), "corruptions": None} == {**report, "corruptions": None}
    assert found["clean_miou"] == plain.scores.miou
    assert found["strengths"] == [1, 5]
    assert [row["name"] for row in found["results"]] == ["shot_noise", "brightness"]
    # Each cell is the evaluation of a data set whose files are the corrupted images.
    predictor = package.Predictor(package.load(trained))
    dataset = package.Data(root=str(scenes)).dataset("val")
    names = plain.counts.names
    for row in found["results"]:
        for strength, miou in zip((1, 5), row["miou"], strict=True):
            matrix = package.ConfusionMatrix(11)
            for index, name in enumerate(names):
                image, label = dataset[index]
                prediction = predictor(apply(image, row["name"], strength, name=name)).label
                matrix.update(torch.from_numpy(prediction)[None], label[None])
            assert miou == matrix.scores().miou
            corrupted = Corrupted(dataset, names, row["name"], strength)
            alone = evaluate_model(predictor, dataset, workers=0, samples=corrupted, priors=False)
            assert alone.scores.miou == miou
            assert alone.priors == ()
    lines = [line for line in printed.splitlines() if "brightness" in line or "none" in line]
    assert f"{100 * plain.scores.miou:.2f}" in lines[0]
    for number in (*found["results"][1]["miou"], found["results"][1]["mean_miou"]):
        assert f"{100 * number:.2f}" in lines[1]


def test_progress(trained):
    reporter = Said()
    package.evaluate(trained, workers=0, corruptions=["fog", "snow"], strengths=[1, 5], reporter=reporter)
    assert reporter.tracked == [("evaluating", 3), ("corruptions", 4), *[("evaluating", 3)] * 4]
