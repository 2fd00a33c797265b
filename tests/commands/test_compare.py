"""`semask compare` prints a table that fits, writes a report, and says in one line what is wrong."""

import json
import re

import numpy as np
import pytest

from semask.commands.compare import written
from semask.evaluation.image_counts import ImageCounts


def write(path, *, images=40, quality=0.8, seed=0, classes=("sky", "a long name [b]", "car"), sizes=False):
    """Counts of images with names as video frames have them; labels are the same in all files."""
    random, of_labels, K = np.random.default_rng(seed), np.random.default_rng(99), len(classes)
    matrices = np.zeros((images, K, K), np.int64)
    for n in range(images):
        for k in range(K):
            shares = np.full(K, (1 - quality) / (K - 1))
            shares[k] = quality
            matrices[n, k] = random.multinomial(of_labels.integers(50, 500), random.dirichlet(20 * shares))
    image, label, prediction = np.nonzero(matrices)
    pixels = matrices[image, label, prediction]
    rows = np.stack([image, 0 * image, label * K + prediction, pixels], axis=1)
    hit = np.diagonal(matrices, axis1=1, axis2=2)
    parts = np.stack([hit, matrices.sum(2) - hit, matrices.sum(1) - hit], axis=-1)
    details = {"sizes": parts[:, None]} if sizes else {}
    names = tuple(f"val/s{n // 4:02}_{n % 4}" for n in range(images))
    ImageCounts(names, tuple(classes), rows, 1, details, {}).save(path)
    return path


@pytest.fixture
def two(tmp_path):
    return write(tmp_path / "a.npz"), write(tmp_path / "b.npz", quality=0.9, seed=1)


def test_the_table_fits_a_narrow_terminal(semask, two, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    shown = semask("compare", "a.npz", "b.npz", "--out", "report.json").out
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    (pair,) = report["pairs"]
    for row in [*pair["classes"], {"name": "mean", **pair["miou"]}]:
        line = next(x for x in shown.splitlines() if x.startswith(f"│ {row['name']} "))
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        low, high = (row["interval"][end] for end in ("low", "high"))
        numbers = [f"{100 * row[x]:.2f}" for x in ("base", "other")] + [f"{100 * row['difference']:+.2f}"]
        assert cells[1:5] == [*numbers, f"{100 * low:+.1f} to {100 * high:+.1f}"]
        assert cells[5] == written(row["p_holm"] if row["p_holm"] is not None else row["p"])
    text = " ".join(shown.split())
    assert "from 40 images, if these are independent. p: permutation test" in text
    assert f"with a probability of 80 %: {100 * pair['miou']['smallest']:.2f} points" in text
    assert "A side with one seed: training it again may change it" in text
    assert "They differ most in" in text
    assert (report["units"], report["images"], report["groups"]) == (40, 40, None)


def test_groups(semask, two):
    shown = " ".join(semask("compare", *two, "--groups", "/(s[0-9]+)_").out.split())
    assert "from 10 groups of images. p:" in shown
    assert "groups '^q': finds nothing in 40 of 40" in semask.refused("compare", *two, "--groups", "^q")


def test_seeds(semask, tmp_path):
    for side, quality in (("a", 0.8), ("b", 0.81)):
        (tmp_path / side).mkdir()
        for seed in range(3):
            write(tmp_path / side / f"{seed}.npz", quality=quality + 0.01 * seed, seed=seed)
    shown = " ".join(semask("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "o.json").out.split())
    (pair,) = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))["pairs"]
    apart = " and ".join(f"{100 * x:.2f}" for x in pair["seed_deviation"])
    assert f"Standard deviation between seeds: {apart} points (A and B)" in shown
    assert "and with other seeds. p: of images and seeds together" in shown
    assert "p of the permutation test, for these trained models and other images: " in shown
    assert "p of dealing the seeds to the sides in another way, on these images: " in shown
    assert "(so few seeds give at least 0.100)" in shown


def test_sizes_and_too_few_images(semask, tmp_path):
    sides = [write(tmp_path / f"{n}.npz", images=9, seed=n, sizes=True) for n in range(3)]
    shown = semask("compare", *sides, "--top=2").out
    assert shown.count("mean, 1 objects") == 2
    assert shown.count("No interval of the mean: 9 images: with fewer than 10") == 2
    assert len(re.findall(r"│ val/s\d\d_\d ", shown)) == 4


def test_pictures_need_the_checkpoints(semask, two, tmp_path):
    shown = semask("compare", *two, "--pictures", tmp_path / "pictures").out
    assert "no pictures: the report of " in shown
    assert not (tmp_path / "pictures").exists()


def test_pictures_and_checkpoints(semask, trained, tmp_path):
    semask("evaluate", trained, "--workers=0", "--device=cpu", f"--images={tmp_path / 'a.npz'}")
    options = ("--workers=0", "--device=cpu", "--flip", "--pictures", tmp_path / "pictures", "--top=1")
    semask("compare", tmp_path / "a.npz", trained, *options)
    assert len(list((tmp_path / "pictures").iterdir())) == 1


def test_mistakes(semask, two, tmp_path):
    assert semask.refused("compare", two[0]).startswith("1 sides: give two to 20")
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04")
    assert "c.npz: no file of counts, or damaged" in semask.refused("compare", two[0], tmp_path / "c.npz")
    assert "d.npz: no such file" in semask.refused("compare", two[0], tmp_path / "d.npz")
    write(tmp_path / "e.npz", images=41)
    message = semask.refused("compare", two[0], tmp_path / "e.npz")
    assert "1 only in " in message
    assert "--common" in message
    assert " 40 images" in " ".join(semask("compare", two[0], tmp_path / "e.npz", "--common").out.split())
    write(tmp_path / "f.npz", classes=("sky", "tree", "car"))
    assert "class 1 is a long name [b] in " in semask.refused("compare", two[0], tmp_path / "f.npz")


def test_p_as_text():
    assert [written(p) for p in (0.00049, 0.001, 0.0456, 1)] == ["<0.001", "0.001", "0.046", "1.000"]
