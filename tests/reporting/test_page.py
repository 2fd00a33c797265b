"""The page: whole without anything else, safe whatever the files say, and right in its numbers."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from semask.evaluation.image_counts import ImageCounts
from semask.reporting.page import page, policy
from semask.reporting.reading import read_subject
from semask.reporting.report import report

NASTY = "</script><img src=x onerror=alert(1)>\"'&$x^$ \u202e\x00\ud800 ${{}} %s `"
CLASSES = ("road", "pole", "sky")
VOID = {"meta", "img", "input", "br", "path", "line", "use"}


class Page(HTMLParser):
    """Collects what a page has, and complains of tags that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, text):
        self.text += text

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def parsed(path: Path) -> Page:
    """A page that needs nothing else, and runs nothing but its own script."""
    text = path.read_text(encoding="utf-8")
    found = Page(text)
    assert len(found.named("script")) == 1
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert tag not in {"link", "iframe", "object", "embed", "base", "form", "image"}
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/")), tag
    ids = [x["id"] for _, x in found.tags if "id" in x]
    assert len(ids) == len(set(ids))
    assert {x["href"][1:] for _, x in found.tags if (x.get("href") or "").startswith("#")} <= set(ids)
    assert all(name in ids for _, x in found.tags for name in (x.get("aria-labelledby") or "").split())
    labels = [x["aria-label"] for _, x in found.tags if x.get("role") == "region"]
    assert len(labels) == len(set(labels))
    assert all(x.get("alt") for x in found.named("img"))
    assert [x["content"] for x in found.named("meta") if x.get("http-equiv")] == [policy()]
    return found


def counts(seed: int = 0, images: int = 12) -> ImageCounts:
    numbers = np.random.default_rng(seed)
    K = len(CLASSES)
    matrices = numbers.integers(0, 20, (images, K, K))
    matrices[:, range(K), range(K)] += 300 - matrices.sum(2)  # the same labels with every seed
    cells = [(i, 0, k, n) for i, matrix in enumerate(matrices) for k, n in enumerate(matrix.ravel()) if n]
    names = tuple(f"images/{i}" for i in range(images))
    return ImageCounts(names, CLASSES, np.array(cells, np.int64), report=evaluation())


def evaluation(name: str = "", **more) -> dict:
    """The JSON of an evaluation; every text in it ends in `name`."""
    interval = {"low": 0.5, "high": 0.7, "reason": None}
    classes = [
        {"name": x + name, "iou": 0.25 * (i + 1), "accuracy": 0.9, "pixels": 1000 * (i + 1)}
        for i, x in enumerate(CLASSES)
    ]
    bins = [
        {"from": i / 15, "to": (i + 1) / 15, "pixels": 9, "accuracy": i / 16, "confidence": i / 15} for i in range(15)
    ]
    sure = [{"name": x["name"], "confidence": 0.8, "precision": 0.7} for x in classes]
    between = [{"name": x["name"], **interval} for x in classes]
    details = {
        "boundary": {"miou": 0.4, "classes": [{"name": x["name"], "iou": 0.3} for x in classes]},
        "sizes": [{"name": "small" + name, "miou": 0.2, "pixels": 5, "classes": classes}],
        "calibration": {"ece": 0.0152, "bins": bins, "classes": sure},
        "worst": [{"image": "a" + name, "miou": 0.1, "accuracy": 0.2}],
        "confusion": [[90, 10, 0], [50, 50, 0], [0, 0, 7]],
    }  # fmt: skip
    return {
        "weights": {"file": "runs/mine/last.safetensors" + name, "sha256": "0" * 64 + name, "step": 8},
        "data": {"root": "scenes" + name, "format": "folder" + name, "name": "scenes" + name, "images": 12},
        "settings": {"mode" + name: "whole" + name},
        "miou": 0.6,
        "mean_accuracy": 0.7,
        "overall_accuracy": 0.8,
        "classes": classes,
        "prior_miou": [0.1, None],
        "confused": [{"label": "pole" + name, "prediction": "road" + name, "pixels": 50, "share": 0.5}],
        "details": details,
        "intervals": {"units": 12, "groups": None, "miou": interval, "classes": between},
        "corruptions": {"strengths": [1, 5], "results": [{"name": "fog" + name, "miou": [0.4, 0.2], "mean_miou": 0.3}]},
        "versions": {"torch" + name: "2.15" + name},
        "machine": "a machine" + name,
        **more,
    }  # fmt: skip


def run_folder(folder: Path, name: str = "", lines: int = 30) -> Path:
    folder.mkdir(exist_ok=True)
    log = [f"{10 * i},{2 / i},{1 / i},{0.5 / i},{1e-3 / i},{5 + i % 3}" for i in range(1, lines + 1)]
    (folder / "log.csv").write_text("\n".join(["step,loss,main,prior,lr,images/s", *log, ""]))
    scores = [f"{100 * i},{0.2 * i},{0.25 * i},{0.3 * i},{0.1 * i}" for i in range(1, 4)]
    (folder / "evaluation.csv").write_text("\n".join(["step,miou,mean_accuracy,overall_accuracy,prior_1", *scores, ""]))
    settings = {"training": {"steps": 300, "lr": 0.001, "note" + name: name}}
    about = {"step": 300, "metrics": evaluation(name), "recipe": settings, "classes": {"classes": list(CLASSES)}}
    (folder / "last.json").write_text(json.dumps(about))
    return folder


def written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_a_run(tmp_path):
    made = report(run_folder(tmp_path / "mine"))
    assert made == tmp_path / "mine/report.html"
    found = parsed(made)
    assert "The best mIoU was 60.0 % at step 300; the last, at step 300 of 300, is 60.0 %." in found.text
    assert len([x for x in found.named("svg") if x.get("role") == "img"]) >= 4
    assert "Learning rate" in found.text
    assert "training.lr" in found.text
    assert "\\math" not in found.text
    assert len(made.read_bytes()) < 200_000


def test_an_evaluation(tmp_path):
    found = parsed(report(written(tmp_path / "a.json", evaluation())))
    for text in ("50.0 to 70.0", "boundary IoU %", "1.52", "fog", "a machine", "12 images", "Most frequent confusions"):
        assert text in found.text
    matrix = next(x for x in re.split("<table", (tmp_path / "a.html").read_text()) if 'class="matrix"' in x)
    assert re.findall(r'<td class="(\w+)"[^>]*>([^<]*)<', matrix)[3:6] == [("miss", "50"), ("hit", "50"), ("miss", "·")]


def test_charts_are_read_aloud(tmp_path):
    text = report(run_folder(tmp_path / "mine")).read_text()
    assert "mIoU: 20% at step 100, 60% at step 300, lowest 20%, highest 60%" in text
    charts = re.findall(r'<svg viewBox="[\d. ]+" role="img".*?</svg>', text, re.DOTALL)
    assert len(charts) >= 4
    assert all("<title" in x and "<desc" in x and "var(--c0)" in x and "http" not in x for x in charts)


def test_several(tmp_path):
    for seed in (1, 2):
        counts(seed).save(tmp_path / f"{seed}.npz")
    run = run_folder(tmp_path / "mine")
    found = parsed(report(tmp_path / "1.npz", tmp_path / "2.npz", run, out=tmp_path / "all.html"))
    assert "Comparison of 1.npz, 2.npz, mine" in found.text
    assert "IoU: 2.npz against 1.npz" in found.text
    assert "Smallest difference of the mean" in found.text
    assert "They differ most in" in found.text
    assert "Settings that differ" in found.text


def test_differences_are_those_of_compare(tmp_path):
    from semask.evaluation.comparison import compare

    sides = [counts(1), counts(2)]
    for number, side in enumerate(sides):
        side.save(tmp_path / f"{number}.npz")
    found = parsed(report(tmp_path / "0.npz", tmp_path / "1.npz", out=tmp_path / "all.html"))
    difference = compare(*sides).pairs[0].scores.miou.difference
    assert f"{100 * difference:+.2f}" in found.text


def test_other_images_are_no_error(tmp_path):
    counts(1).save(tmp_path / "1.npz")
    counts(2, images=5).save(tmp_path / "2.npz")
    assert "No differences" in parsed(report(tmp_path / "1.npz", tmp_path / "2.npz", out=tmp_path / "x.html")).text


def test_an_evaluation_of_a_run_belongs_to_it(tmp_path):
    run = run_folder(tmp_path / "mine")
    own = evaluation(machine="a machine of its own", weights={"file": str(run / "best.safetensors")})
    text = parsed(report(run, written(tmp_path / "own.json", own), out=tmp_path / "x.html")).text
    assert "Comparison" not in text
    assert "a machine of its own" in text
    assert "Learning rate" in text


@pytest.mark.parametrize("kind", ["run", "json", "npz", "several"])
def test_hostile_texts_stay_texts(tmp_path, kind):
    sources = {
        "run": run_folder(tmp_path / "mine<img src=x>", NASTY),
        "json": written(tmp_path / "a.json", evaluation(NASTY)),
        "npz": tmp_path / "b.npz",
    }
    names = tuple(x + NASTY.replace("\ud800", "") for x in CLASSES)
    plain = counts()
    ImageCounts(tuple(f"{i}{names[0]}" for i in range(12)), names, plain.confusion, report=evaluation(NASTY)).save(
        tmp_path / "b.npz"
    )
    ImageCounts(tuple(f"{i}{names[0]}" for i in range(12)), names, plain.confusion, report=evaluation(NASTY)).save(
        tmp_path / "c.npz"
    )
    chosen = [*sources.values(), tmp_path / "c.npz"] if kind == "several" else [sources[kind]]
    found = parsed(report(*chosen, out=tmp_path / "x.html"))
    assert "onerror=alert(1)" in found.text
    assert not found.named("img")
    assert "\u202e" not in found.text


def replaced(values: object, value: object) -> list[object]:
    """Copies of a JSON value, in each of which something is another value, at every depth."""
    keys = values.keys() if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else []
    found = []
    for key in list(keys)[:1] if isinstance(values, list) else keys:
        for other in [value, *replaced(values[key], value)]:
            copy = values.copy()
            copy[key] = other
            found.append(copy)
    return found


@pytest.mark.parametrize(
    "value",
    [None, True, "x", -1, 1e400, 10**400, [], {}, [[]], {"miou": "x"}, [None, {"name": 3}], 2.5],
    ids=lambda value: str(value)[:9],
)
def test_values_of_any_kind(tmp_path, value):
    whole = evaluation()
    bins = whole["details"]["calibration"].pop("bins")  # no chart: it would take most of the time
    changed = replaced(whole, value)
    whole["details"] = {"calibration": {"bins": bins[:2]}}
    changed += [{**whole, "details": {"calibration": x}} for x in replaced({"bins": bins[:2]}, value)]
    assert len(changed) > 70
    for one in changed:
        if not {"miou", "classes"} <= one.keys():
            continue
        subject = read_subject(written(tmp_path / "a.json", one))
        Page(page([subject], ""))
    Page(page([subject, read_subject(written(tmp_path / "b.json", evaluation()))], ""))


def test_what_cannot_be_read_is_refused(tmp_path, semask):
    (tmp_path / "deep.json").write_text("[" * 10_000)
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "not.npz").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    for name, said in {
        "deep.json": "nested",
        "list.json": "no JSON object",
        "other.json": "no report of an evaluation",
        "not.npz": "no file of counts",
        "empty": "no run",
        "missing": "no such file",
        "a" * 300: "cannot be opened: File name too long",
        "log.csv/x": "no such file",
    }.items():
        assert said in semask.refused("report", tmp_path / name)


def test_statistics_of_the_data(tmp_path):
    cells = [(0, 0, 0, 60), (0, 0, 1, 20), (0, 0, 4, 20), (1, 0, 0, 100), (2, 0, 0, 50), (2, 0, 4, 50)]
    names = ("a", "b", "c")
    matrix = [{"name": x, "iou": 0.5, "accuracy": 0.5, "pixels": n} for x, n in zip(CLASSES, (230, 70, 0), strict=True)]
    about = evaluation(classes=matrix)
    ImageCounts(names, CLASSES, np.array(cells, np.int64), report=about).save(tmp_path / "a.npz")
    text = report(tmp_path / "a.npz").read_text()
    found = next(x for x in text.split("<table") if "<caption>Classes in the" in x)
    assert [re.findall(r'data-v="([^"]*)"', row) for row in found.split("<tr")[2:]] == [
        ["road", str(230 / 300), "230.0", "3", "1.0", "0.8"],
        ["pole", str(70 / 300), "70.0", "2", str(2 / 3), str((0.2 + 0.5) / 2)],
        ["sky", "0.0", "0.0", "0", "0.0"],
    ]


def test_data_that_is_the_same_is_shown_once(tmp_path):
    for name, other in (("a", {}), ("b", {}), ("c", {"data": {"root": "elsewhere"}})):
        written(tmp_path / f"{name}.json", evaluation(**other))
    for names, many in (("ab", 1), ("ac", 2)):
        text = report(*(tmp_path / f"{x}.json" for x in names), out=tmp_path / "x.html", overwrite=True).read_text()
        assert text.count("<caption>Classes in the evaluated images") == many


def test_the_table_of_evaluations_has_loss_and_learning_rate(tmp_path):
    text = report(run_folder(tmp_path / "mine", lines=15)).read_text()
    table = next(x for x in text.split("<table") if "<caption>Evaluations" in x)
    assert re.findall(r">([^<>]*)</td></tr>", table) == ["0.0001", "6.667e-05", "6.667e-05"]  # of 100, of 150, of 150
    assert re.findall(r">([^<>]*)</td><td[^>]*>[^<]*</td></tr>", table) == ["0.2", "0.1333", "0.1333"]


def test_another_file_is_not_replaced(tmp_path, semask):
    source = written(tmp_path / "a.json", evaluation())
    (tmp_path / "a.html").write_text("mine")
    assert "already exists" in semask.refused("report", source)
    assert (tmp_path / "a.html").read_text() == "mine"
    semask("report", source, "--overwrite", "true")
    assert str(tmp_path / "a.html").replace("\n", "") in semask("report", source).out.replace("\n", "")


def test_pictures_need_what_the_report_names(tmp_path):
    found = parsed(report(written(tmp_path / "a.json", evaluation()), pictures=2))
    assert "is not there" in found.text
