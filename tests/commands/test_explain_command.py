import json
import shutil

import numpy as np
import pytest
from PIL import Image

from semask import Predictor, build, load, save


@pytest.fixture
def picture(scenes, tmp_path):
    return shutil.copy(next((scenes / "images" / "val").iterdir()), tmp_path / "a photo [b].jpg")


def test_the_files_are_those_of_the_explanation(semask, trained, picture, tmp_path):
    out = tmp_path / "explained"
    printed = semask("explain", trained, picture, "--out", out).out
    name = "a photo [b]"
    assert f"{name}.html: open it in a browser; 18 further files" in printed.replace("\n", "")
    kinds = ["prediction", "confidence", "first", "settled", "disagreement"]
    kinds += [f"{kind}{stage}" for stage in (1, 2, 3, 4) for kind in ("prior", "prior_confidence", "change")]
    assert {path.name for path in out.iterdir()} == {
        f"{name}.html",
        f"{name}.json",
        *(f"{name}_{x}.png" for x in kinds),
    }
    found = Predictor(load(trained)).explain(picture)
    assert json.loads((out / f"{name}.json").read_text()) == found.to_dict()
    for ending, values in [("prediction", found.prediction.label), ("prior2", found.stages[1].label),
                           ("first", found.first),
                           ("settled", found.settled), ("disagreement", found.disagreement)]:  # fmt: skip
        with Image.open(out / f"{name}_{ending}.png") as image:
            assert np.array_equal(np.array(image), values)
    numbers = found.to_dict()
    assert sum(stage["settled"] for stage in numbers["stages"]) + numbers["settled_in_decoder"] == pytest.approx(1)
    assert sum(numbers["distinct_classes"]) == pytest.approx(1)
    assert (out / f"{name}.html").stat().st_size < 3_000_000


def test_labels_next_to_the_photo_are_not_replaced(semask, trained, picture, tmp_path):
    labels = tmp_path / "a photo [b].json"
    labels.write_text("drawn by hand")
    message = semask.refused("explain", trained, picture, "--out", tmp_path)
    assert message == f"{labels}: lies next to the image already, and could be replaced: choose another --out"
    assert labels.read_text() == "drawn by hand"


@pytest.mark.parametrize("content", [b"", b"no photo", None])
def test_a_damaged_photo_is_refused_before_the_model(semask, trained, picture, tmp_path, monkeypatch, content):
    monkeypatch.setattr("semask.prediction.opening.open_predictor", lambda *_, **__: pytest.fail("it was loaded"))
    whole = picture.read_bytes()
    picture.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert semask.refused("explain", trained, picture, "--out", tmp_path / "x").startswith(f"{picture}: ")
    assert not (tmp_path / "x").exists()


def test_scale_is_followed(semask, trained, picture, tmp_path):
    semask("explain", trained, picture, "--out", tmp_path / "x", "--scale=[32,32]")
    numbers = json.loads((tmp_path / "x" / "a photo [b].json").read_text())
    assert numbers["seen"] == [24, 32]
    assert numbers["size"] == [48, 64]


def test_bf16_gives_nearly_the_same(semask, trained, picture, tmp_path):
    pages = []
    for precision in ("fp32", "bf16"):
        semask("explain", trained, picture, "--out", tmp_path / precision, "--precision", precision)
        pages.append(json.loads((tmp_path / precision / "a photo [b].json").read_text()))
    assert pages[0]["flops"] == pages[1]["flops"]
    for exact, rough in zip(*(page["stages"] for page in pages), strict=True):
        assert exact["flops"] == rough["flops"]
        assert rough["confidence"] == pytest.approx(exact["confidence"], rel=0.1)
        assert rough["change"]["mean"] == pytest.approx(exact["change"]["mean"], rel=0.3, abs=3e-3)


def test_a_model_without_priors_is_told_and_still_shown(semask, picture, tmp_path):
    model = build("swin_nano", num_classes=3, channels=8, semantic_depths=0)
    named = save(tmp_path / "plain.safetensors", model, {})
    for arguments, name in (([named, picture], named), ([picture], "the model in the package")):
        done = semask("explain", *arguments, "--out", tmp_path / "x")
        told = [line for line in done.err.splitlines() if "semantic layers" in line]
        assert len(told) == 1
        assert told[0].startswith(f"{name} has no semantic layers, so no priors")
        assert "semask train FOLDER" in told[0]
        page = (tmp_path / "x" / "a photo [b].html").read_text(encoding="utf-8")
        assert "has no semantic layers" in page


def test_mistakes_are_one_line(semask, trained, picture, tmp_path):
    assert semask.refused("explain", trained).endswith("photo.jpg")
    assert "no such image" in semask.refused("explain", trained, tmp_path / "nothing.jpg")
    (tmp_path / "no.onnx").write_bytes(b"")
    assert "an exported file gives no priors" in semask.refused("explain", tmp_path / "no.onnx", picture)
    (tmp_path / "text.jpg").write_text("no image")
    assert "text.jpg" in semask.refused("explain", trained, tmp_path / "text.jpg")
    (tmp_path / "taken").write_text("")
    assert "could not be written" in semask.refused("explain", trained, picture, "--out", tmp_path / "taken")


def test_a_folder_for_a_photo_and_a_file_for_a_folder(semask, trained, picture, tmp_path):
    assert f"{tmp_path}: a folder: give one of its images" in semask.refused("explain", trained, tmp_path)
    (tmp_path / "file").write_text("mine")
    message = semask.refused("explain", trained, picture, "--out", tmp_path / "file")
    assert message.endswith("choose another folder; what was there before is untouched")
    assert "free some" not in message
    assert (tmp_path / "file").read_text() == "mine"
