import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from semask.builder import build
from semask.checkpoints.saving import save
from semask.checkpoints.sources import load
from semask.checkpoints.tensors import read_tensors, write_tensors
from semask.data.images import read_image
from semask.prediction.predictor import Predictor
from semask.settings.inference import Inference


def brute_force(predictions: list[np.ndarray], labels: list[np.ndarray], K: int) -> dict[str, object]:
    """Scores by counting sets of pixels, class by class."""
    prediction, label = (np.concatenate([x.ravel() for x in maps]) for maps in (predictions, labels))
    prediction, label = prediction[label != 255], label[label != 255]
    ious, accuracies = [], []
    for k in range(K):
        union = np.count_nonzero((prediction == k) | (label == k))
        hits, pixels = np.count_nonzero((prediction == k) & (label == k)), np.count_nonzero(label == k)
        ious.append(hits / union if union else None)
        accuracies.append(hits / pixels if pixels else None)
    return {
        "miou": np.mean([x for x in ious if x is not None]),
        "mean_accuracy": np.mean([x for x in accuracies if x is not None]),
        "overall_accuracy": np.mean(prediction == label),
        "iou": ious,
        "accuracy": accuracies,
        "pixels": [np.count_nonzero(label == k) for k in range(K)],
    }


def labels_of(scenes: Path) -> list[np.ndarray]:
    meaning = json.loads((scenes / "classes.json").read_text(encoding="utf-8"))
    masks = [np.array(Image.open(path)) for path in sorted((scenes / "annotations" / "val").iterdir())]
    return [np.where(mask == meaning["ignore_index"], 255, mask) for mask in masks]


def assert_scores(report: dict, expected: dict) -> None:
    for name in ("miou", "mean_accuracy", "overall_accuracy"):
        assert report[name] == pytest.approx(expected[name], rel=1e-12)
    for name in ("iou", "accuracy", "pixels"):
        assert [row[name] for row in report["classes"]] == pytest.approx(expected[name], rel=1e-12)


@pytest.fixture
def evaluate(semask, trained, tmp_path):
    def run(*options: object) -> dict:
        semask("evaluate", trained, "--workers=0", "--device=cpu", f"--out={tmp_path / 'report.json'}", *options)
        return json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))

    return run


def test_scores_are_those_of_the_written_masks(semask, evaluate, trained, scenes, tmp_path):
    report = evaluate()
    semask("predict", trained, scenes / "images" / "val", "--out", tmp_path / "masks", "--overlays", "false")
    masks = [np.array(Image.open(path)) for path in sorted((tmp_path / "masks").iterdir())]
    assert len(masks) == 3
    assert len(np.unique(masks)) > 1
    assert_scores(report, brute_force(masks, labels_of(scenes), 11))


def test_it_says_what_is_taken_for_what(semask, trained, evaluate):
    report = evaluate()
    first = report["confused"][0]
    by_name = {row["name"]: row for row in report["classes"]}
    assert [pair["share"] for pair in report["confused"]] == sorted(
        (p["share"] for p in report["confused"]), reverse=True
    )
    for pair in report["confused"]:
        assert pair["share"] == pytest.approx(pair["pixels"] / by_name[pair["label"]]["pixels"])
        assert pair["share"] <= 1 - by_name[pair["label"]]["accuracy"] + 1e-9
    printed = " ".join(semask("evaluate", trained).out.split())
    assert f"Most often wrong: {100 * first['share']:.2f} % of {first['label']} as {first['prediction']}" in printed


def test_every_prior_is_evaluated(evaluate, trained, scenes):
    predictor = Predictor(load(trained))
    images = sorted((scenes / "images" / "val").iterdir())
    priors = zip(*(predictor(image, priors=True).priors for image in images), strict=True)
    expected = [brute_force(list(maps), labels_of(scenes), 11)["miou"] for maps in priors]
    assert len(set(expected)) == 4
    assert evaluate()["prior_miou"] == pytest.approx(expected, rel=1e-12)


def test_the_report_names_weights_data_settings_and_machine(evaluate, trained, scenes):
    report = evaluate()
    step = json.loads((trained / "best.json").read_text(encoding="utf-8"))["step"]
    digest = hashlib.sha256((trained / "best.safetensors").read_bytes()).hexdigest()
    assert report["weights"] == {"file": str(trained), "sha256": digest, "beside": {}, "step": step}
    assert report["data"]["root"] == str(scenes)
    assert report["data"]["name"] == "synthetic"
    assert report["data"]["images"] == 3
    assert report["settings"] == json.loads(json.dumps(Inference().__dict__))
    assert report["versions"]["torch"] == torch.__version__
    assert "CPU" in report["machine"]
    assert [row["name"] for row in report["classes"]][:3] == ["sky", "building", "road"]


def test_the_table_has_every_class(semask, trained):
    table = semask("evaluate", trained, "--workers", 0).out
    metrics = json.loads((trained / "best.json").read_text(encoding="utf-8"))["metrics"]
    for row in metrics["classes"]:
        line = next(line for line in table.splitlines() if f" {row['name']} " in line)
        assert f"{row['pixels']:,}" in line
        assert f"{100 * row['iou']:.2f}" in line
    assert f"{100 * metrics['miou']:.2f}" in next(line for line in table.splitlines() if " mean " in line)
    assert f"{100 * metrics['overall_accuracy']:.2f}" in next(x for x in table.splitlines() if "all pixels" in x)
    assert table.count("prior of semantic layer") == 4


def test_the_evaluation_of_a_run_is_that_of_its_checkpoint(evaluate, trained):
    report = evaluate()
    metrics = json.loads((trained / "best.json").read_text(encoding="utf-8"))["metrics"]
    assert {name: report[name] for name in metrics} == metrics
    with open(trained / "evaluation.csv", encoding="utf-8", newline="") as file:
        row = next(row for row in csv.DictReader(file) if int(row["step"]) == report["weights"]["step"])
    assert row["miou"] == f"{report['miou']:.6g}"


@pytest.mark.parametrize(
    ("options", "inference"),
    [
        (["--flip"], Inference(flip=True)),
        (["--ratios=[0.5,1.0,1.5]", "--flip=true"], Inference(ratios=(0.5, 1.0, 1.5), flip=True)),
        (["--multiscale"], Inference(ratios=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75), flip=True)),
        (["--multiscale", "--flip=false", "--ratios=[0.5]"], Inference(ratios=(0.5,))),
        (["--scale=[96,64]"], Inference(scale=(96, 64))),
        (
            ["--mode=slide", "--crop=[32,40]", "--stride=[20,24]"],
            Inference(mode="slide", crop=(32, 40), stride=(20, 24)),
        ),
        (["--scale=[80,60]", "--native"], Inference()),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_ways_of_putting_images_through_the_model(evaluate, trained, scenes, options, inference):
    report = evaluate(*options)
    predictor = Predictor(load(trained), inference)
    masks = [predictor(read_image(path)).label for path in sorted((scenes / "images" / "val").iterdir())]
    assert_scores(report, brute_force(masks, labels_of(scenes), 11))
    assert report["settings"] == json.loads(json.dumps(inference.__dict__))


def test_labels_of_other_sizes_are_compared_at_their_own_size(semask, trained, scenes, tmp_path):
    root = tmp_path / "mixed"
    shutil.copytree(scenes, root)
    name = sorted(path.stem for path in (root / "images" / "val").iterdir())[0]
    image, mask = root / "images" / "val" / f"{name}.jpg", root / "annotations" / "val" / f"{name}.png"
    Image.open(image).resize((37, 101)).save(image)
    Image.open(mask).resize((37, 101), Image.Resampling.NEAREST).save(mask)
    semask("evaluate", trained, "--data", root, "--workers=0", "--out", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    predictor = Predictor(load(trained))
    masks = [predictor(path).label for path in sorted((root / "images" / "val").iterdir())]
    assert masks[0].shape == (101, 37)
    assert_scores(report, brute_force(masks, labels_of(root), 11))
    assert report["data"]["root"] == str(root)


def test_another_split(evaluate):
    assert evaluate("--split", "train")["data"]["images"] == 6


def rewritten(source: Path, target: Path, change) -> Path:
    """Copy a checkpoint with another header."""
    tensors, metadata = read_tensors(source)
    change(metadata)
    write_tensors(target, tensors, metadata)
    return target


def test_a_checkpoint_of_other_classes_is_refused(semask, trained, tmp_path):
    def rename(metadata: dict) -> None:
        metadata["classes"]["classes"][3] = "lawn"

    path = rewritten(trained / "best.safetensors", tmp_path / "other.safetensors", rename)
    message = semask.refused("evaluate", path, "--workers", 0)
    assert message.startswith("class 3 is 'lawn' for the model, but 'pavement' in synthetic: ")


def test_data_of_another_number_of_classes_is_refused(semask, trained, scenes, tmp_path):
    shutil.copytree(scenes, tmp_path / "fewer")
    path = tmp_path / "fewer" / "classes.json"
    meaning = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({"classes": meaning["classes"][:7]}), encoding="utf-8")
    message = semask.refused("evaluate", trained, "--data", tmp_path / "fewer", "--workers", 0)
    assert message.startswith("the model has 11 classes, but fewer has 7: ")


def test_a_report_that_cannot_be_written(semask, trained, tmp_path):
    (tmp_path / "file").touch()
    message = semask.refused("evaluate", trained, "--workers", 0, "--out", tmp_path / "file" / "report.json")
    assert message.startswith(f"{tmp_path / 'file' / 'report.json'}: could not be written")


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_no_such_device(semask, trained, device):
    assert semask.refused("evaluate", trained, "--device", device).startswith(f"device {device} can't be used")


def test_exactly_one_model(semask, trained):
    for arguments in ([], [trained, "--zoo", "semask-tiny-fpn-ade20k"]):
        message = semask.refused("evaluate", *arguments, "--data", "x")
        assert message.startswith("which model? give either a checkpoint or --zoo NAME")


def test_a_published_model_by_its_name(semask):
    assert "did you mean semask-tiny-fpn-ade20k, " in semask.refused("evaluate", "--zoo", "tiny-fpn-ade20k")
    message = semask.refused("evaluate", "--zoo", "semask-tiny-fpn-cityscapes")
    assert message == "which data? give --data FOLDER, here in the format cityscapes"


@pytest.fixture
def zoo(trained, tmp_path, monkeypatch) -> str:
    """A small model in the cache, as if it were a published one; evaluated at 48 x 36 and smoothed."""

    def publish(metadata: dict) -> None:
        metadata["published"] = {"name": "semask-tiny-fpn-ade20k", "miou": 42.06, "miou_multiscale": 43.36}
        metadata["recipe"]["evaluation"] |= {"scale": [48, 36], "antialias": True}

    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path))
    folder = tmp_path / "semask" / "published" / "default"
    folder.mkdir(parents=True)
    rewritten(trained / "best.safetensors", folder / "semask-tiny-fpn-ade20k.safetensors", publish)
    return "semask-tiny-fpn-ade20k"


@pytest.mark.parametrize(
    ("options", "published"),
    [
        ([], ("single scale", 0.4206)),
        (["--multiscale"], ("multi-scale and flip", 0.4336)),
        (["--flip"], None),
        (["--scale=[64,48]"], None),
        (["--split=train"], None),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_the_published_score_beside_ours(semask, zoo, scenes, tmp_path, options, published):
    path = tmp_path / "report.json"
    shown = semask("evaluate", "--zoo", zoo, "--data", scenes, "--workers=0", "--out", path, *options).out
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["weights"]["file"] == zoo
    rows = [line.split() for line in shown.splitlines() if "published, " in line]
    if published is None:
        assert report["published"] is None
        assert rows == []
    else:
        assert report["published"] == {"name": zoo, "protocol": published[0], "miou": published[1]}
        assert [f"{100 * published[1]:.2f}" in row for row in rows] == [True]


def test_zoo_is_the_checkpoint_of_that_name(semask, zoo, scenes, tmp_path):
    reports = []
    for i, model in enumerate((["--zoo", zoo], [zoo])):
        semask("evaluate", *model, "--data", scenes, "--workers=0", "--out", tmp_path / f"{i}.json")
        reports.append(json.loads((tmp_path / f"{i}.json").read_text(encoding="utf-8")))
    assert reports[0] == reports[1]


def test_priors_of_other_classes_are_not_evaluated(semask, scenes, tmp_path):
    model = build("swin_nano", num_classes=11, prior_classes=7, channels=8)
    path = save(tmp_path / "fewer.safetensors", model, {})
    shown = semask("evaluate", path, "--data", scenes, "--workers=0", "--out", tmp_path / "report.json").out
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["prior_miou"], report["prior_classes"]) == ([], 7)
    assert report["miou"] > 0
    assert "prior of semantic layer" not in shown
    assert "priors not evaluated: they have 7 classes" in " ".join(shown.split())
