"""What is counted in each image: sums are the scores, files give back what was saved, strange ones are refused."""

import json

import numpy as np
import pytest

import semask as package
from semask.evaluation.image_counts import ImageCounts, read_counts


@pytest.fixture(scope="module")
def counts() -> ImageCounts:
    random = np.random.default_rng(0)
    matrices = random.integers(0, 50, (5, 2, 3, 3)) * (random.random((5, 2, 3, 3)) < 0.6)
    image, place, label, prediction = np.nonzero(matrices)
    confusion = np.stack([image, place, label * 3 + prediction, matrices[image, place, label, prediction]], axis=1)
    names = tuple(f"train/{number}" for number in range(5))
    return ImageCounts(names, ("a", "b", "ç"), confusion, 2, {"sizes": random.random((5, 2))}, {"miou": 0.5})


def test_sums_are_the_scores(trained, scenes):
    result = package.evaluate(trained, workers=0, device="cpu")
    counts = result.counts
    assert counts.maps == 1 + len(result.priors)
    assert counts.report == result.report
    assert [name.split("/")[0] for name in counts.names] == ["images"] * 3
    for place, scores in enumerate((result.scores, *result.priors)):
        hit, labeled, predicted = counts.areas(place).sum(0).T
        np.testing.assert_allclose(hit / (labeled + predicted - hit), scores.iou)
        assert counts.matrix(place).sum(1).tolist() == scores.pixels


def test_areas_are_those_of_the_matrices(counts):
    for place in range(2):
        parts = [counts.only([name]).matrix(place) for name in counts.names]
        assert (sum(parts) == counts.matrix(place)).all()
        for areas, matrix in zip(counts.areas(place), parts, strict=True):
            assert (areas == np.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)], axis=1)).all()


def test_some_images_in_another_order(counts):
    some = counts.only(["train/3", "train/1"])
    assert (some.areas(1) == counts.areas(1)[[3, 1]]).all()
    assert (some.details["sizes"] == counts.details["sizes"][[3, 1]]).all()


def test_a_file_gives_back_what_was_saved(counts, tmp_path):
    counts.save(tmp_path / "a.npz")
    read = read_counts(tmp_path / "a.npz")
    assert (read.names, read.classes, read.maps, read.report) == (counts.names, counts.classes, 2, {"miou": 0.5})
    assert (read.confusion == counts.confusion).all()
    assert (read.details["sizes"] == counts.details["sizes"]).all()


def changed(path, **arrays):
    with np.load(path) as file:
        np.savez_compressed(path, **{**dict(file), **arrays})


def about(**changes) -> np.ndarray:
    said = {"names": list("01234"), "classes": ["a", "b", "c"], "maps": 2, "report": {}, **changes}
    return np.frombuffer(json.dumps(said).encode(), np.uint8)


@pytest.mark.parametrize(
    "arrays",
    [
        {"about": about(names=["a"] * 5)},
        {"about": about(names=["a", "b"])},
        {"about": about(names=5)},
        {"about": about(classes=[])},
        {"about": about(classes=["a", "b"])},
        {"about": about(maps=1)},
        {"about": about(maps=10**9)},
        {"about": about(maps=True)},
        {"about": about(report=[])},
        {"about": np.zeros(3)},
        {"confusion": np.zeros((2, 4))},
        {"confusion": np.zeros((2, 3), np.int64)},
        {"confusion": np.array([[0, 0, 0, -1]])},
        {"confusion": np.array([[0, 0, 9, 1]])},
        {"confusion": np.array([[0, 0, 0, 2**60]])},
        {"sizes": np.zeros((4, 2))},
        {"sizes": np.array(1)},
        {"sizes": np.array(["x"] * 5)},
        {"sizes": np.array([{}] * 5, dtype=object)},
    ],
)
def test_a_strange_file_is_refused(counts, tmp_path, arrays):
    counts.save(tmp_path / "a.npz")
    changed(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=r"a\.npz: no file of counts, or damaged"):
        read_counts(tmp_path / "a.npz")


def test_damage_and_bombs(counts, tmp_path, monkeypatch):
    counts.save(tmp_path / "a.npz")
    content = (tmp_path / "a.npz").read_bytes()
    for cut in range(0, len(content), 97):
        (tmp_path / "b.npz").write_bytes(content[:cut])
        with pytest.raises(ValueError, match="no file of counts"):
            read_counts(tmp_path / "b.npz")
    monkeypatch.setattr("semask.evaluation.image_counts.MOST_BYTES", 100)
    with pytest.raises(ValueError, match="unpacked, more than 100"):
        read_counts(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="no such file"):
        read_counts(tmp_path / "none.npz")


def test_the_command_writes_them(semask, trained, tmp_path):
    semask("evaluate", trained, "--workers=0", "--device=cpu", f"--images={tmp_path / 'a.npz'}")
    assert read_counts(tmp_path / "a.npz").report["data"]["images"] == len(read_counts(tmp_path / "a.npz").names) == 3
