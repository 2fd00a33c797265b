import base64
import html
import io
import re
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from semask.checkpoints.places import PHOTOS
from semask.synthetic.classes import CLASSES
from semask.synthetic.dataset import write_synthetic
from semask.training import demo, demo_page, length


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(demo, "write_synthetic", partial(write_synthetic, train=6, val=2, size=(48, 64)))


def test_a_page_that_shows_everything(semask, small, tmp_path):
    output = semask("demo", "--out", tmp_path / "demo", "--steps", 3)
    assert f"Look at {tmp_path / 'demo' / 'index.html'}" in output.err
    page = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    sizes = []
    for data in pictures:
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
            sizes.append(np.array(picture.convert("RGB")).shape)
    of_photos = len(PHOTOS) * 3  # photo, the masks of both models
    assert sizes[:of_photos] == [(360, 480, 3)] * of_photos
    assert sizes[of_photos:] == [(48, 64, 3)] * (demo_page.SCENES * 7)  # image, label, prediction, four priors
    assert len(set(pictures)) > 10
    for name in CLASSES:
        assert page.count(f">{html.escape(name)}<") >= 1, name
    for stage in (1, 2, 3, 4):
        assert f"prior of stage {stage}" in page
    assert "trained on 3 steps" in page
    assert "on\n2 scenes" in page
    assert re.findall(r"(?:src|href)=\"(?!data:)", page) == []  # needs nothing else
    score = re.search(r"mIoU ([\d.]+) % \(always predicting the largest class: ([\d.]+) %\)", output.err)
    assert score is not None
    assert all(f"{number} %" in page for number in score.groups())

    (tmp_path / "demo" / "index.html").unlink()
    weights = (tmp_path / "demo" / "run" / "last.safetensors").read_bytes()
    semask("demo", "--out", tmp_path / "demo", "--steps", 3)  # a finished demo is only drawn again
    assert (tmp_path / "demo" / "index.html").read_text(encoding="utf-8") == page
    assert (tmp_path / "demo" / "run" / "last.safetensors").read_bytes() == weights


def test_the_score_to_beat():
    class Labels:
        classes = ("a", "b")

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return None, torch.tensor([[0, 0, 1, 255], [0, 255, 255, 255]][index])

    assert demo.largest_class_miou(Labels()) == pytest.approx((3 / 4 + 0) / 2)


def test_a_folder_that_holds_something_else(semask, small, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").touch()
    assert "exists and is no synthetic data set" in semask.refused("demo", "--out", tmp_path, "--steps", 1)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["thesis.txt"]


def test_steps_that_fit_into_the_time_give_the_run_of_so_many_steps(semask, small, tmp_path, monkeypatch):
    monkeypatch.setattr(length, "TRIAL", 0.1)
    for name, value in {"LEAST": 3, "MOST": 3, "FIRST_PICTURE": 0.0}.items():
        monkeypatch.setattr(demo, name, value)
    output = semask("demo", "--out", tmp_path / "chosen")
    semask("demo", "--out", tmp_path / "given", "--steps", 3)
    weights = [load_file(tmp_path / name / "run" / "last.safetensors") for name in ("chosen", "given")]
    assert all(tensor.equal(weights[1][name]) for name, tensor in weights[0].items())
    pages = [(tmp_path / name / "index.html").read_text(encoding="utf-8") for name in ("chosen", "given")]
    said = re.search(r"3 steps of 8 scenes \(at ([\d.e-]+) s each, as many as fit into two minutes", output.err)
    assert said is not None
    assert f"(at {said[1]} s each, as many as fit into two minutes on this machine)" in pages[0]
    assert "two minutes" not in pages[1]
    assert f"A first picture, after step 1: {tmp_path / 'chosen' / 'first-1.png'}" in output.err
    with Image.open(tmp_path / "chosen" / "first-1.png") as picture:
        assert picture.size == (7 * 64 + 6 * 4, 48)
    for page in pages:
        assert "After step 1<" in page


def test_the_schedule_is_fitted_to_the_steps():
    for steps, warmup in ((3, 1), (20, 4), (100, 20), (400, 40)):
        training = demo.schedule(steps, 0)
        assert (training.steps, training.warmup_steps) == (steps, warmup)


def test_there_is_time_for_evaluation_and_at_least_a_few_steps():
    assert demo.steps_for(100.0, 0.5) * 0.5 <= 90
    assert demo.steps_for(-5.0, 0.5) == demo.LEAST
    assert demo.steps_for(1000.0, 1e-4) == demo.MOST
