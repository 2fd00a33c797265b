"""Pictures of a page."""

import re

import pytest
from PIL import Image

from semask.evaluation.evaluate import evaluate
from semask.reporting.pictures import samples_over_time
from semask.reporting.report import report


@pytest.fixture(scope="module")
def evaluated(trained, scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    result = evaluate(trained, workers=0, device="cpu")
    result.counts.save(folder / "a.npz")
    return folder


def layers(path) -> list[str]:
    return re.findall(
        r'<span class="layer"><img alt="[^"]*: ([^"]*)" src="data:image/(?:png|jpeg);base64', path.read_text()
    )


def test_worst_and_best_images(evaluated):
    path = report(evaluated / "a.npz", pictures=2, device="cpu")
    assert layers(path)[:4] == ["image", "label", "prediction", "errors (red)"]
    assert "prior of stage 1" in layers(path)
    assert layers(path).count("image") == 3  # two of the worst, one of the best
    assert "Best images" in path.read_text()


def test_a_checkpoint_that_has_changed_is_not_opened(evaluated, tmp_path):
    from semask.evaluation.image_counts import read_counts

    counts = read_counts(evaluated / "a.npz")
    counts.report["weights"]["sha256"] = "0" * 64
    counts.save(tmp_path / "b.npz")
    path = report(tmp_path / "b.npz", pictures=2)
    assert not layers(path)
    assert "has changed since" in path.read_text()


def test_samples_of_a_run(trained, tmp_path):
    path = report(trained, out=tmp_path / "x.html")
    assert layers(path)[:2] == ["step 4", "step 8"]


def test_damaged_samples_are_left_out(tmp_path):
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "00000_step5.png").write_bytes(b"\x89PNG")
    (folder / "00000_step99999999999999999999.png").write_bytes(b"")
    Image.new("RGB", (40, 20)).save(folder / "00000_step6.png")
    (folder / "other").mkdir()
    assert samples_over_time(tmp_path).count("<img") == 1
    assert samples_over_time(tmp_path / "nowhere") == ""
