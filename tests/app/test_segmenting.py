import base64
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from semask.app import segmenting
from semask.app.models import open_models
from semask.app.segmenting import Limits, segment
from semask.checkpoints.places import PHOTOS

LIMITS = Limits(10**7)


def unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def maps(pane: dict) -> np.ndarray:
    """Label map and priors [maps, H, W]."""
    flat = [np.frombuffer(unpacked(x), np.uint8) for x in (pane["label"], *pane["priors"])]
    return np.stack([x.reshape(pane["height"], pane["width"]) for x in flat])


def file_of(pane: dict, kind: str) -> bytes:
    (found,) = [unpacked(file["data"]) for file in pane["files"] if file["kind"] == kind]
    return found


def written(semask, out, *arguments) -> dict[str, bytes]:
    semask("predict", *arguments, "--out", out)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_maps_are_what_the_predictor_gives(both):
    shown = segment(both, PHOTOS[0], LIMITS)
    assert (shown["width"], shown["height"], shown["factor"]) == (480, 360, 1)
    for model, pane in zip(both, shown["panes"], strict=True):
        expected = model.predictor(PHOTOS[0], priors=model.without_priors is None)
        assert np.array_equal(maps(pane), np.stack([expected.label, *expected.priors]))
        sure = np.frombuffer(unpacked(pane["confidence"]), np.uint8).reshape(expected.label.shape)
        assert np.abs(sure / 255 - expected.confidence).max() <= 0.5 / 255 + 1e-6
        for shares, label in zip(pane["shares"], (expected.label, *expected.priors), strict=True):
            assert np.allclose(shares, np.bincount(label.ravel(), minlength=len(shares)) / label.size, atol=1e-6)
    street, trained = shown["panes"]
    assert street["without_priors"]
    assert len(trained["priors"]) == 4


def test_files_are_those_of_predict(semask, street, tmp_path):
    files = written(semask, tmp_path, PHOTOS[0], "--write", "mask", "json", "labelme", "confidence")
    (pane,) = segment(street, PHOTOS[0], LIMITS)["panes"]
    assert file_of(pane, "mask") == files["street_1.png"]
    assert file_of(pane, "confidence") == files["street_1_confidence.png"]
    for kind, name, key in (("json", "street_1.json", "image"), ("labelme", "labelme/street_1.json", "imagePath")):
        own, theirs = json.loads(file_of(pane, kind)), json.loads(files[name])
        assert own.pop(key) == "street_1.jpg"
        assert theirs.pop(key).endswith("street_1.jpg")
        assert own == theirs


def test_a_large_photo_is_drawn_smaller_and_written_whole(monkeypatch, street):
    monkeypatch.setattr(segmenting, "SHOWN", 200)
    shown = segment(street, PHOTOS[0], LIMITS)
    (pane,) = shown["panes"]
    assert (shown["factor"], pane["width"], pane["height"]) == (3, 160, 120)
    with Image.open(io.BytesIO(file_of(pane, "mask"))) as mask:
        assert mask.size == (480, 360)
        assert np.array_equal(maps(pane)[0], np.array(mask)[::3, ::3])
    with Image.open(io.BytesIO(base64.b64decode(shown["image"].partition(",")[2]))) as picture:
        assert picture.size == (160, 120)


def test_tiles_are_those_of_predict(semask, trained, tmp_path):
    pytest.importorskip("rasterio")
    files = written(semask, tmp_path, trained, PHOTOS[0], "--tile", "256", "--write", "mask", "confidence")
    (pane,) = segment(open_models([str(trained)], tile=256), PHOTOS[0], Limits(10**7, 256))["panes"]
    assert file_of(pane, "mask") == files["street_1.png"]
    with Image.open(io.BytesIO(files["street_1.png"])) as mask:
        assert np.array_equal(maps(pane)[0], np.array(mask))
    assert [file["kind"] for file in pane["files"]] == ["mask", "json", "confidence"]


def test_a_photo_that_is_turned_is_shown_upright(street, tmp_path):
    picture = Image.open(PHOTOS[0])
    picture.getexif()[274] = 6
    picture.save(tmp_path / "turned.jpg", exif=picture.getexif())
    shown = segment(street, tmp_path / "turned.jpg", LIMITS)
    assert (shown["width"], shown["height"]) == (360, 480)
    assert shown["panes"][0]["height"] == 480


def test_what_is_no_photo_is_a_sentence_without_folders(street, tmp_path):
    for name, content in (("a.png", b"nothing"), ("b.svg", b"<svg/>"), ("empty.jpg", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name) as error:
            segment(street, tmp_path / name, LIMITS)
        assert str(tmp_path) not in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["two  spaces.png", "a" * 240 + ".png", "turned\u202ename.png"], ids=len)
def test_a_name_that_is_shown_otherwise_hides_its_folder_too(street, tmp_path, name):
    folder = tmp_path / ("f" * 200)
    folder.mkdir()
    (folder / name).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=name[:3]) as error:
        segment(street, folder / name, LIMITS)
    assert "/" not in str(error.value)


def test_a_large_photo_is_refused_before_it_is_decoded(monkeypatch, street):
    monkeypatch.setattr("semask.prediction.results.read_whole", lambda *_, **__: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match=r"street_1.jpg: 480 x 360 pixels, at most 100,000"):
        segment(street, PHOTOS[0], Limits(100_000))
    monkeypatch.setenv("SEMASK_MAX_PIXELS", "1000")  # a bomb: what reads files refuses it by itself
    with pytest.raises(ValueError, match=r"^street_1.jpg: far too many pixels, at most 100,000 .*: make it smaller$"):
        segment(street, PHOTOS[0], Limits(100_000))
