"""Evaluations compared from files, checkpoints and in memory; intervals in reports; pictures of where models differ."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import semask as package
from semask.evaluation.image_counts import ImageCounts, read_counts
from semask.evaluation.interval_report import describe_intervals
from semask.metrics.comparison import paired
from semask.metrics.intervals import intervals
from semask.synthetic.dataset import write_synthetic


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """12 scenes to evaluate on."""
    return write_synthetic(tmp_path_factory.mktemp("twelve"), train=1, val=12, size=(32, 40))


@pytest.fixture(scope="module")
def evaluations(data, trained, tmp_path_factory):
    """Two checkpoints of a run, evaluated."""
    folder = tmp_path_factory.mktemp("two")
    found = []
    for name, inference in (("a", None), ("b", {"flip": True})):
        (folder / name).mkdir()
        shutil.copy(trained / "best.safetensors", folder / name / "best.safetensors")
        found.append(package.evaluate(folder / name, data, inference=inference, workers=0, device="cpu"))
        found[-1].counts.save(folder / f"{name}.npz")
    return folder, found


def test_the_report_has_intervals(evaluations):
    result = evaluations[1][0]
    found = result.report["intervals"]
    expected = intervals(result.counts.areas())
    assert found["miou"] == dataclasses.asdict(expected.miou)
    assert found["miou"]["low"] < result.scores.miou < found["miou"]["high"]
    assert found["overall_accuracy"]["low"] < result.scores.overall_accuracy < found["overall_accuracy"]["high"]
    assert [x["name"] for x in found["classes"]] == list(result.counts.classes)
    for row, interval in zip(found["classes"], expected.iou, strict=True):
        assert row == {"name": row["name"], **dataclasses.asdict(interval)}
    assert len(found["prior_miou"]) == len(result.priors) == 4
    for stage, prior in enumerate(found["prior_miou"], start=1):
        assert prior == dataclasses.asdict(intervals(result.counts.areas(stage)).miou)
    assert (found["units"], found["groups"], found["level"]) == (12, None, 0.95)
    json.dumps(result.report, allow_nan=False)


def test_groups_of_an_evaluation(data, trained, evaluations):
    names = evaluations[1][0].counts.names
    result = package.evaluate(trained, data, groups="(.$)", workers=0, device="cpu")
    found = result.report["intervals"]
    assert (found["units"], found["groups"]) == (len({name[-1] for name in names}), "(.$)")
    with pytest.raises(ValueError, match="groups 'x': finds nothing in 12 of 12 names of images"):
        package.evaluate(trained, data, groups="x", workers=0, device="cpu")


def test_grouped_intervals_of_counts():
    random = np.random.default_rng(0)
    rows = [[n, 0, cell, int(random.integers(1, 50))] for n in range(40) for cell in range(4)]
    counts = ImageCounts(tuple(map(str, range(40))), ("a", "b"), np.array(rows))
    numbers = np.arange(40) // 2
    found = describe_intervals(counts, numbers, "x")
    assert found["miou"] == dataclasses.asdict(intervals(counts.areas(), numbers).miou)
    assert found["prior_miou"] == []


def test_compared_in_memory_and_from_files(evaluations):
    folder, results = evaluations
    found = package.compare(*results)
    files = package.compare(folder / "a.npz", str(folder / "b.npz"))
    assert (found.images, found.classes) == (12, results[0].counts.classes)
    assert (files.base, files.pairs[0].name) == (str(folder / "a.npz"), str(folder / "b.npz"))
    (pair,) = found.pairs
    areas = [x.counts.areas()[None] for x in results]
    assert pair.scores == files.pairs[0].scores == paired(*areas)
    assert pair.scores.miou.base == pytest.approx(results[0].scores.miou)
    assert pair.scores.miou.other == pytest.approx(results[1].scores.miou)
    assert [x.base for x in pair.scores.iou] == [pytest.approx(x) for x in results[0].scores.iou]
    assert pair.sizes == {}
    assert pair.pictures is None
    json.dumps(found.report, allow_nan=False)
    assert found.report["pairs"][0]["miou"] == dataclasses.asdict(pair.scores.miou)
    assert found.report["sides"][1]["weights"][0]["sha256"] == results[1].report["weights"]["sha256"]


def test_the_images_that_differ_most(evaluations):
    results = evaluations[1]
    images = package.compare(*results, top=5).pairs[0].images
    wrong = []
    for result in results:
        areas = result.counts.areas()
        wrong.append(1 - areas[..., 0].sum(1) / areas[..., 1].sum(1))
    apart = {name: abs(b - a) for name, a, b in zip(results[0].counts.names, *wrong, strict=True)}
    assert [x.name for x in images] == sorted(apart, key=apart.get, reverse=True)[:5]
    assert images[0].base == pytest.approx(wrong[0][results[0].counts.names.index(images[0].name)])
    assert package.compare(*results, top=0).pairs[0].images == ()


def test_a_checkpoint_is_evaluated_first(data, evaluations):
    folder, results = evaluations
    found = package.compare(folder / "a", folder / "b.npz", data=data, workers=0, device="cpu")
    assert found.pairs[0].scores == package.compare(*results).pairs[0].scores
    assert found.base == str(folder / "a")


@pytest.mark.parametrize(
    "settings", [{"data": "x"}, {"inference": {"flip": True}}, {"split": "val", "object_255": True}]
)
def test_settings_that_nothing_would_use_are_told(evaluations, settings):
    with pytest.raises(ValueError, match=f"{' and '.join(settings)}: for checkpoints"):
        package.compare(*evaluations[1], **settings)


def test_seeds_are_one_side(evaluations):
    folder, results = evaluations
    (found,) = package.compare([folder / "a.npz", results[1]], results[1]).pairs
    assert found.scores.seed_deviation[0] == pytest.approx(np.std([x.scores.miou for x in results], ddof=1), rel=1e-9)
    assert found.scores.miou.base == pytest.approx(np.mean([x.scores.miou for x in results]))


def test_object_sizes(evaluations):
    results = evaluations[1]
    sides = []
    for result in results:
        hit, labeled, predicted = np.moveaxis(result.counts.areas(), -1, 0)
        whole = np.stack([hit, labeled - hit, predicted - hit], axis=-1)
        report = {"details": {"sizes": [{"name": "any"}, {"name": "none"}]}}
        sizes = np.stack([whole, 0 * whole], axis=1)
        sides.append(dataclasses.replace(result.counts, details={"sizes": sizes}, report=report))
    (pair,) = package.compare(*sides).pairs
    labeled = results[0].counts.areas()[..., 1].sum(0) > 0
    expected = [np.nanmean(np.array(x.scores.iou)[labeled]) for x in results]
    assert pair.sizes["any"].difference == pytest.approx(expected[1] - expected[0])
    assert pair.sizes["none"].difference is None
    assert list(pair.sizes) == ["any", "none"]


def test_the_number_of_sides(evaluations):
    results = evaluations[1]
    found = package.compare(results[0], results[1], results[0])
    assert [pair.scores.miou.difference != 0 for pair in found.pairs] == [True, False]
    for count in (0, 1, 21):
        with pytest.raises(ValueError, match=f"{count} sides: give two to 20"):
            package.compare(*results[:1] * count)


def test_pictures(evaluations, tmp_path):
    results = evaluations[1]
    (pair,) = package.compare(*results, top=2, pictures=tmp_path, device="cpu").pairs
    assert pair.pictures.reason is None
    assert [x.name.partition("_")[0] for x in pair.pictures.files] == ["01", "02"]
    with Image.open(pair.pictures.files[0]) as picture:
        assert (picture.width, picture.height) == (6 * 40 + 5 * 4, 32)


def changed_report(counts, **changes):
    return dataclasses.replace(counts, report={**counts.report, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": None}, "no pictures: the report of side 1 has no weights"),
        ({"weights": {"file": None, "sha256": None}}, "no pictures: the report of side 1 names no file of weights"),
        (
            {"weights": {"file": "owner/name", "sha256": ""}},
            "owner/name, the checkpoint of side 1, is not there",
        ),
        ({"weights": {"file": "/dev/zero", "sha256": ""}}, "/dev/zero: is a pipe, socket or device"),
        ({"weights": {"file": "x.onnx", "sha256": ""}}, "no pictures: x.onnx, the checkpoint of side 1, is not there"),
        ({"weights": {"file": "https://a.b/c", "sha256": ""}}, "is not there"),
        ({"settings": {"scale": "large"}}, "settings.scale is"),
        ({"settings": 5}, "no pictures: the report of side 1 has no settings"),
        ({"data": {"root": "/nowhere"}}, "/nowhere"),
        ({"data": {"root": 5}}, "data.root is 5"),
        ({"data": {"format": "__import__"}}, "data.format is"),
    ],
)
def test_pictures_of_a_report_that_cannot_be_trusted(evaluations, tmp_path, monkeypatch, changes, message):
    results = evaluations[1]

    def download(*arguments, **options):
        raise AssertionError("a report made us download")

    monkeypatch.setattr("semask.checkpoints.sources.hf_hub_download", download)
    side = changed_report(results[0].counts, **changes)
    (pair,) = package.compare(side, results[1], pictures=tmp_path / "none", device="cpu").pairs
    assert message in pair.pictures.reason
    assert "\n" not in pair.pictures.reason
    assert not (tmp_path / "none").exists()


def test_pictures_of_what_has_changed(evaluations, data, tmp_path):
    results = evaluations[1]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "best.safetensors").write_bytes(b"other")
    weights = {**results[0].report["weights"], "file": str(tmp_path / "a")}
    side = changed_report(results[0].counts, weights=weights)
    (pair,) = package.compare(side, results[1], pictures=tmp_path / "none", device="cpu").pairs
    assert pair.pictures.reason.endswith("the checkpoint of side 1, has changed since")
    (tmp_path / "b.onnx").touch()
    side = changed_report(results[0].counts, weights={**weights, "file": str(tmp_path / "b.onnx")})
    (pair,) = package.compare(side, results[1], pictures=tmp_path / "none", device="cpu").pairs
    assert "is an exported file" in pair.pictures.reason
    shutil.copytree(data, tmp_path / "fewer")
    next((tmp_path / "fewer" / "images" / "val").iterdir()).unlink()
    for mask in (tmp_path / "fewer" / "annotations" / "val").iterdir():
        if not (tmp_path / "fewer" / "images" / "val" / f"{mask.stem}.jpg").exists():
            mask.unlink()
    side = changed_report(results[0].counts, data={**results[0].report["data"], "root": str(tmp_path / "fewer")})
    (pair,) = package.compare(side, results[1], top=12, pictures=tmp_path / "none", device="cpu").pairs
    assert "the data that the report names has no image" in pair.pictures.reason


def test_files_keep_what_a_comparison_needs(evaluations):
    folder, results = evaluations
    assert read_counts(folder / "a.npz").report["intervals"] == results[0].report["intervals"]
