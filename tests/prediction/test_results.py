import pickle
from pathlib import Path

import numpy as np
import pytest
from modules import imported
from PIL import Image

import semask as package
from semask.checkpoints.sources import load
from semask.prediction.files import find_images
from semask.prediction.predictor import Predictor
from semask.prediction.results import Outputs, predict_images
from semask.settings.inference import Inference


@pytest.fixture(scope="module")
def photos(scenes: Path) -> Path:
    return scenes / "images" / "val"


def test_predictions_without_a_file(trained, photos):
    results = package.predict(trained, photos, confidence=True)
    predictor = Predictor(load(trained))
    assert [result.image for result in results] == sorted(photos.iterdir())
    for result in results:
        expected = predictor(result.image)
        assert np.array_equal(result.prediction.label, expected.label)
        assert np.array_equal(result.prediction.confidence, expected.confidence)
        assert result.mask is None
        assert result.failure is None


def test_predictions_in_files(trained, photos, tmp_path, capsys):
    results = package.predict(load(trained), str(photos / "*.jpg"), out=tmp_path, overlays=False)
    predictor = Predictor(load(trained))
    assert [result.mask for result in results] == [tmp_path / f"{p.stem}.png" for p in sorted(photos.iterdir())]
    for result in results:
        assert np.array_equal(np.array(Image.open(result.mask)), predictor(result.image).label)
        assert result.prediction is None
    assert len(list(tmp_path.iterdir())) == 3
    assert capsys.readouterr() == ("", "")  # no console


@pytest.mark.parametrize("inference", [{"flip": True, "scale": (96, 72)}, Inference(flip=True, scale=(96, 72))])
def test_some_settings_or_all_of_them(trained, photos, inference):
    photo = sorted(photos.iterdir())[0]
    (result,) = package.predict(trained, photo, inference=inference)
    expected = Predictor(load(trained), Inference(flip=True, scale=(96, 72)))(photo)
    assert np.array_equal(result.prediction.label, expected.label)


def test_a_setting_that_there_is_not(trained, photos):
    with pytest.raises(ValueError, match="inference has no setting 'flop'"):
        package.predict(trained, photos, inference={"flop": True})


def test_processes_share_the_images_and_a_bad_one_stops_nothing(trained, photos, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    files = [*find_images([str(photos)]), tmp_path / "bad.png"]
    predictor = Predictor(load(trained))
    shares = [list(predict_images(predictor, files, out=tmp_path / "out", rank=i, world_size=2)) for i in range(2)]
    assert [[result.image for result in share] for share in shares] == [files[::2], files[1::2]]
    assert shares[1][-1].failure.startswith(f"{tmp_path / 'bad.png'}: ")
    assert shares[1][-1].mask is None
    assert pickle.loads(pickle.dumps(shares)) == shares  # as they travel between processes


def test_results_come_one_by_one(trained, photos, tmp_path):
    results = predict_images(Predictor(load(trained)), find_images([photos]), Outputs(overlays=False), out=tmp_path)
    assert list(tmp_path.iterdir()) == []
    next(results)
    assert len(list(tmp_path.iterdir())) == 1


def test_tiles_need_a_folder(trained, photos):
    with pytest.raises(ValueError, match="tiles are written to files: give a folder as out"):
        package.predict(trained, photos, tile=64, overlap=8)


def test_windows_and_tiles_are_not_mixed(semask, trained, photos, tmp_path):
    message = semask.refused("predict", trained, photos, "--tile=64", "--overlap=8", "--mode=slide", "--out", tmp_path)
    assert message == "mode and tile 64: tiles take the place of windows; give one of the two"


def test_what_predicting_with_a_checkpoint_imports(trained, photos, tmp_path):
    """A per-pixel model needs neither torchvision's operators nor torch's compiler, which take as long as torch."""
    arguments = ["predict", str(trained), str(photos), "--out", str(tmp_path), "--device=cpu"]
    modules, code = imported(f"main({arguments!r})")
    assert code == 0
    slow = {"torch._dynamo", "torchvision.ops", "timm", "transformers", "rasterio", "accelerate"} & modules
    if slow and slow <= {"torch._dynamo", "torchvision.ops", "timm"}:
        pytest.xfail(f"imported by other rooms: {', '.join(sorted(slow))}")
    assert not slow


def test_a_prediction_can_be_kept_next_to_its_files(trained, photos, tmp_path):
    predictor, files = Predictor(load(trained)), find_images([photos])[:1]
    (kept,) = predict_images(predictor, files, Outputs(write=["mask"], priors=True), out=tmp_path / "a", keep=True)
    assert np.array_equal(kept.prediction.label, predictor(files[0]).label)
    assert len(kept.prediction.priors) == 4
    with Image.open(kept.mask) as mask:
        assert np.array_equal(np.array(mask), kept.prediction.label)
    (plain,) = predict_images(predictor, files, Outputs(write=["mask"]), out=tmp_path / "b")
    assert plain.prediction is None
