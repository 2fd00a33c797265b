import base64
import html
import io
import re
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from semask.synthetic.dataset import write_synthetic
from semask.synthetic.scene import CLASSES
from semask.training import demo, demo_page


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(demo, "write_synthetic", partial(write_synthetic, train=6, val=2, size=(48, 64)))


def test_a_page_that_shows_everything(semask, small, tmp_path):
    output = semask("demo", "--out", tmp_path / "demo", "--steps", 3)
    assert f"Look at {tmp_path / 'demo' / 'index.html'}" in output.err
    page = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == demo_page.SCENES * 7  # image, label, prediction, four priors
    for data in pictures:
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
            assert np.array(picture.convert("RGB")).shape == (48, 64, 3)
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
