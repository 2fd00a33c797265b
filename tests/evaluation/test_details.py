"""Details of an evaluation against loops over the predictions; calibrated checkpoints; worst images."""

import json
import math
import sys

import numpy as np
import pytest
from PIL import Image

import semask as package
from semask.checkpoints.tensors import read_header, read_tensors
from semask.evaluation.details import fitted, sample_size, see, worst_images
from semask.evaluation.image_counts import ImageCounts, read_counts
from semask.metrics.boundary import boundary_counts, boundary_width
from semask.metrics.calibration import calibration_error, reliability
from semask.metrics.sizes import size_counts
from semask.settings.details import Details, details_of

SIZES = [40, 300]


@pytest.fixture(scope="module")
def detailed(trained):
    return package.evaluate(trained, details={"sizes": SIZES, "worst_images": 2}, workers=0, device="cpu")


@pytest.fixture(scope="module")
def pairs(trained, scenes):
    """Prediction and label of each image."""
    predictor = package.Predictor(package.load(trained))
    dataset = package.Data(root=str(scenes)).dataset("val")
    found = [dataset[index] for index in range(len(dataset))]
    return [(predictor(image), label.numpy()) for image, label in found]


def test_details_are_those_of_the_predictions(detailed, pairs):
    details = detailed.counts.details
    K = len(detailed.counts.classes)
    for index, (prediction, label) in enumerate(pairs):
        predicted, valid = prediction.label, label != 255
        d = boundary_width(*label.shape, 0.02)
        assert (details["boundary"][index] == boundary_counts(predicted, label, K, d)).all()
        assert (details["sizes"][index] == size_counts(predicted, label, K, SIZES)).all()
        expected = reliability(prediction.confidence[valid], (predicted == label)[valid])
        np.testing.assert_allclose(details["calibration"][index], expected, rtol=1e-5)
        sums = [prediction.confidence[valid & (predicted == k)].sum() for k in range(K)]
        np.testing.assert_allclose(details["class_confidence"][index], sums, rtol=1e-4)
    hit, labeled, predicted = np.moveaxis(detailed.counts.areas(), 2, 0)
    assert (details["sizes"].sum(1) == np.stack([hit, labeled - hit, predicted - hit], axis=2)).all()
    assert set(details) == {"boundary", "sizes", "calibration", "class_confidence"}


def test_the_report(detailed, pairs):
    report, counts = detailed.report["details"], detailed.counts
    json.dumps(report, allow_nan=False)
    assert report["settings"] == {"boundary_width": 0.02, "sizes": (40, 300), "worst_images": 2}
    assert report["confusion"] == counts.matrix().tolist()
    boundary = counts.details["boundary"].sum(0)
    for row, (hit, union) in zip(report["boundary"]["classes"], boundary, strict=True):
        assert row["iou"] == (hit / union if union else None)
    known = [row["iou"] for row in report["boundary"]["classes"] if row["iou"] is not None]
    assert report["boundary"]["miou"] == pytest.approx(sum(known) / len(known))
    assert [(size["name"], size["from"], size["below"]) for size in report["sizes"]] == [
        ("small", 0, 40), ("medium", 40, 300), ("large", 300, None),
    ]  # fmt: skip
    for size, of_size in zip(report["sizes"], counts.details["sizes"].sum(0), strict=True):
        known = []
        for row, (hit, missed, wrong) in zip(size["classes"], of_size.tolist(), strict=True):
            assert row["iou"] == (hit / (hit + missed + wrong) if hit + missed else None)
            assert row["pixels"] == hit + missed
            known += [row["iou"]] if row["iou"] is not None else []
        assert size["miou"] == pytest.approx(sum(known) / len(known))
        assert size["pixels"] == of_size[:, :2].sum()
    calibration = report["calibration"]
    sure = np.concatenate([one.confidence[label != 255] for one, label in pairs])
    right = np.concatenate([(one.label == label)[label != 255] for one, label in pairs])
    assert calibration["temperature"] is None
    assert calibration["confidence"] == pytest.approx(float(sure.mean()), rel=1e-5)
    assert calibration["accuracy"] == pytest.approx(detailed.scores.overall_accuracy)
    assert calibration["ece"] == pytest.approx(calibration_error(reliability(sure, right)), rel=1e-4)
    assert sum(row["pixels"] for row in calibration["bins"]) == len(sure)
    hit, _, predicted = counts.areas().sum(0).T
    for k, row in enumerate(calibration["classes"]):
        assert row["precision"] == (pytest.approx(hit[k] / predicted[k]) if predicted[k] else None)


def test_worst_images_against_loops(detailed, pairs):
    expected = []
    for index, (prediction, label) in enumerate(pairs):
        a, b = prediction.label[label != 255].astype(int), label[label != 255].astype(int)
        ious = [((a == k) & (b == k)).sum() / ((a == k) | (b == k)).sum() for k in {*a.tolist(), *b.tolist()}]
        cells = np.bincount((b * 100 + a)[a != b])
        most = divmod(int(cells.argmax()), 100) if len(cells) else (None, None)
        expected.append((sum(ious) / len(ious), (a == b).mean(), *most, index))
    expected.sort()
    listed = detailed.report["details"]["worst"]
    assert len(listed) == 2
    for row, (miou, accuracy, label, prediction, index) in zip(listed, expected, strict=False):
        assert row["image"] == detailed.counts.names[index]
        assert (row["miou"], row["accuracy"]) == (pytest.approx(miou), pytest.approx(accuracy))
        names = detailed.counts.classes
        assert (row["label"], row["prediction"]) == (names[label], names[prediction])


def test_worst_images_leaves_out_those_without_labels():
    confusion = np.array([[0, 0, 0, 5], [0, 0, 1, 5], [2, 0, 3, 9], [3, 0, 0, 4], [3, 1, 1, 4], [3, 0, 2, 1]])
    counts = ImageCounts(("a", "none", "right", "b"), ("x", "y"), confusion, 2)
    found = worst_images(counts, 10)
    assert [one.place for one in found] == [0, 3, 2]
    assert found[0] == (0, 0.25, 0.5, 0, 1, 5)
    assert found[1] == (3, 0.4, 0.8, 1, 0, 1)
    assert found[2] == (2, 1, 1, None, None, 0)
    assert worst_images(counts, 0) == []


@pytest.fixture(scope="module")
def calibrated(trained, tmp_path_factory):
    """A calibrated copy of a checkpoint, and the report that it came with."""
    path = tmp_path_factory.mktemp("calibrated") / "copy.safetensors"
    return path, package.evaluate(trained, details=True, calibrate=path, workers=0, device="cpu")


def test_a_calibrated_copy(trained, calibrated, pairs, scenes):
    path, result = calibrated
    before, after = (read_tensors(file) for file in (trained / "best.safetensors", path))
    assert all((before[0][name] == after[0][name]).all() for name in before[0])
    found = after[1].pop("calibration")
    assert after[1] == before[1]
    assert found == result.report["calibrated"]
    assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["calibration"] == found
    assert (found["images"], found["split"]) == (3, result.report["data"]["val_split"])
    assert "sample" not in result.counts.details
    predictor = package.Predictor(package.load(path))
    assert predictor.temperature == found["temperature"]
    image = package.Data(root=str(scenes)).dataset("val")[0][0]
    plain = package.Predictor(package.load(trained))(image, probabilities=True)
    now = predictor(image, probabilities=True)
    assert (now.label == pairs[0][0].label).all()
    p = plain.probabilities.astype(np.float32) ** (1 / found["temperature"])
    p /= p.sum(0)
    np.testing.assert_allclose(now.probabilities, p, atol=2e-3)
    np.testing.assert_allclose(now.confidence, p.max(0), atol=2e-3)
    assert np.abs(now.confidence - plain.confidence).max() > 0.01  # or the test sees nothing
    again = package.evaluate(path, details=True, workers=0, device="cpu").report
    assert again["details"]["calibration"]["temperature"] == found["temperature"]
    assert again["details"]["confusion"] == result.report["details"]["confusion"]
    assert again["details"]["calibration"]["ece"] < result.report["details"]["calibration"]["ece"]


def test_the_same_temperature_is_found_again(calibrated, tmp_path):
    path, _ = calibrated
    model = package.load(path)  # one that is loaded already, and has a temperature
    package.evaluate(model, calibrate=tmp_path / "again.safetensors", workers=0)
    assert read_header(tmp_path / "again.safetensors")["calibration"] == read_header(path)["calibration"]


def test_what_can_not_be_calibrated(semask, trained, tmp_path, scenes):
    own = trained / "best.safetensors"
    with pytest.raises(ValueError, match="would replace the checkpoint itself"):
        package.evaluate(trained, calibrate=own)
    with pytest.raises(ValueError, match=r"checkpoints are \.safetensors files"):
        package.evaluate(trained, calibrate=tmp_path / "a.pt")
    metadata = {**read_header(own), "calibration": {"temperature": 0}}
    with pytest.raises(ValueError, match=r"calibration\.temperature is 0"):
        package.save(tmp_path / "a.safetensors", package.load(own), metadata)
    with pytest.raises(ValueError, match="calibration lacks temperature"):
        package.save(tmp_path / "a.safetensors", package.load(own), {**metadata, "calibration": {}})


def test_the_sample(trained, scenes):
    model = package.load(trained)
    predictor, dataset = package.Predictor(model), package.Data(root=str(scenes)).dataset("val")
    image, label = dataset[0][0], dataset[0][1].numpy()
    views = predictor.views(image)[0]
    sample = see(views, label, temperature=None, sampled=400).sample
    assert (sample == see(views, label, temperature=3.0, sampled=400).sample).all()
    p = predictor(image, probabilities=True).probabilities.reshape(11, -1)
    pixels = {(*np.round(p[:, i].astype(float), 2), label.flat[i]) for i in range(label.size) if label.flat[i] != 255}
    found = [(*np.round(np.exp(sample[:-1, i]).astype(float), 2), sample[-1, i]) for i in range(400)]
    near = [one for one in found if any(np.abs(np.subtract(one, other)).max() <= 0.011 for other in pixels)]
    assert len(near) == 400
    flipped = see(views, np.flipud(label).copy(), temperature=None, sampled=400).sample
    assert (flipped[:-1] != sample[:-1]).any()  # other places
    empty = see(views, np.full_like(label, 255), temperature=None, sampled=400).sample
    assert (empty[-1] == 255).all()
    with pytest.raises(ValueError, match="no labeled pixel"):
        fitted(empty[None])
    assert fitted(np.stack([sample, empty])) == fitted(sample[None])


def test_the_sample_is_bounded():
    assert sample_size(3, 11) * 3 >= 2**16
    assert sample_size(5000, 171) * 5000 * 172 <= 2**24
    assert sample_size(10**8, 255) == 1


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ValueError, match=r"scipy is not installed: .* pip install 'semask\[train\]'"):
        package.evaluate("nowhere", details=True)
    with pytest.raises(ValueError, match="no such checkpoint"):
        package.evaluate("nowhere")


def test_settings():
    assert details_of(True) == Details(0.02, (1024, 9216), 10)
    assert details_of({}) == Details()
    assert details_of(Details(sizes=(5,))).sizes == (5,)
    for wrong in ({"sizes": [5, 5]}, {"sizes": []}, {"boundary_width": 0}, {"worst": 3}, {"worst_images": -1}):
        with pytest.raises(ValueError, match=r"^(details|sizes is)"):
            details_of(wrong)


def test_the_command(semask, trained, detailed, tmp_path):
    out = semask(
        "evaluate", trained, "--workers=0", "--device=cpu", "--sizes=[40,300]", "--worst_images=2",
        f"--out={tmp_path / 'a.json'}", f"--images={tmp_path / 'a.npz'}", f"--worst={tmp_path / 'worst'}",
        f"--calibrate={tmp_path / 'copy.safetensors'}",
    ).out  # fmt: skip
    report = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert report["details"] == json.loads(json.dumps(detailed.report["details"]))
    assert "by object size" in out
    assert "Expected calibration error" in out
    assert f"Temperature {report['calibrated']['temperature']:.3f}" in out
    assert (read_counts(tmp_path / "a.npz").details["sizes"] == detailed.counts.details["sizes"]).all()
    pictures = sorted((tmp_path / "worst").iterdir())
    names = [row["image"].rpartition("/")[2] for row in report["details"]["worst"]]
    assert [path.name for path in pictures] == [f"{i:02}_{name}.jpg" for i, name in enumerate(names, start=1)]
    with Image.open(pictures[0]) as picture:
        assert picture.size == (4 * 64 + 3 * 4, 48)
    assert math.isclose(report["details"]["calibration"]["accuracy"], report["overall_accuracy"])


def test_nothing_more_without_the_option(semask, trained, tmp_path):
    out = semask("evaluate", trained, "--workers=0", "--device=cpu", f"--out={tmp_path / 'a.json'}").out
    report = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert not {"details", "calibrated"} & set(report)
    assert "calibration" not in out
