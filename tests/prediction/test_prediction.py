import io

import numpy as np
import pytest
from PIL import Image

import semask
from semask.prediction.prediction import Prediction

CLASSES = semask.Classes(("road", "sky"), ((128, 64, 128), (70, 130, 180)))
LABEL = np.array([[0, 1, 1], [0, 0, 255]], np.uint8)
PIXELS = np.full((2, 3, 3), 200, np.uint8)


def prediction(image=PIXELS) -> Prediction:
    return Prediction(label=LABEL, confidence=None, priors=(), classes=CLASSES, image=image)


def test_overlay_mixes_image_and_colors():
    drawn = np.asarray(prediction().overlay(legend=False, opacity=0.5)).astype(int)
    assert np.abs(drawn[0, 0] - (np.array([128, 64, 128]) + 200) / 2).max() <= 1
    assert np.abs(drawn[1, 2] - 100).max() <= 1  # ignored pixels are black
    assert prediction().overlay().width > 3  # the legend is at the right


@pytest.mark.parametrize(
    "image", [None, PIXELS[..., :1], np.full((2, 3, 3), 200 / 255, np.float32), np.zeros((2, 3, 5))]
)
def test_overlay_of_any_image(image):
    drawn = np.asarray(prediction(image).overlay(legend=False, opacity=1.0))
    assert drawn[0, 0].tolist() == [128, 64, 128]


def test_saved_as_indices_or_as_overlay(tmp_path):
    mask = Image.open(prediction().save(tmp_path / "new" / "mask.png"))
    assert np.array_equal(np.asarray(mask), LABEL)
    assert Image.open(prediction().save(tmp_path / "overlay.JPG")).format == "JPEG"
    with pytest.raises(ValueError, match=r"mask.tif: give a name that ends in .png \(class indices\) or .jpg"):
        prediction().save(tmp_path / "mask.tif")


def test_a_notebook_shows_the_overlay():
    picture = Image.open(io.BytesIO(prediction()._repr_png_()))
    assert np.array_equal(np.asarray(picture), np.asarray(prediction().overlay()))


def test_the_predictor_keeps_the_image():
    model = semask.build("swin_nano", num_classes=2, channels=8)
    pixels = np.arange(32 * 40 * 3, dtype=np.uint8).reshape(32, 40, 3)
    found = semask.Predictor(model)(pixels)
    assert np.array_equal(found.image, pixels)
    assert found.overlay(legend=False).size == (40, 32)
