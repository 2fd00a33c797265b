"""A picture of the camera in a real Chromium, whose camera shows a street photo all the time."""

from pathlib import Path

import numpy as np
import pytest
from app_server import served
from browser import CAMERA, Pages, launched
from PIL import Image
from test_app_page import opened, painted

from semask.app.serving import Serving
from semask.checkpoints.places import PHOTOS


def film_of(photo: Path, path: Path) -> Path:
    """Write a film of two frames as Chromium takes one for its camera: YUV4MPEG2, 4:2:0."""
    with Image.open(photo) as image:
        brightness, *colors = (np.asarray(channel, np.float32) for channel in image.convert("YCbCr").split())
    height, width = brightness.shape
    halves = [channel.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) for channel in colors]
    planes = [16 + brightness * 219 / 255, *(128 + (half - 128) * 224 / 255 for half in halves)]
    frame = b"FRAME\n" + b"".join(plane.round().astype(np.uint8).tobytes() for plane in planes)
    path.write_bytes(b"YUV4MPEG2 W%d H%d F30:1 Ip A1:1 C420jpeg\n" % (width, height) + 2 * frame)
    return path


@pytest.fixture
def app(street):
    with served(street, Serving()) as found:
        yield found


@pytest.fixture
def camera_page(app, tmp_path):
    """As `browser_page`, with a camera. The pages are closed before the app ends."""
    film = film_of(PHOTOS[0], tmp_path / "street.y4m")
    with launched(*CAMERA, f"--use-file-for-fake-video-capture={film}") as browser:
        pages = Pages(browser)
        yield pages
        pages.close()
        assert pages.wrong == []


def test_a_picture_of_the_camera(camera_page, app, street):
    page = opened(camera_page, app, "phone")
    photo = page.locator("#photo")
    photo.get_by_label("Capture from camera").click()
    photo.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#photo video').videoWidth > 0")
    photo.get_by_role("button", name="capture photo").click()
    page.wait_for_selector(".semask .pane, .semask .error:not([hidden])")
    shown = painted(page.locator(".pane"))
    (taken,) = app.files.rglob("*.png")
    predicted = street[0].predictor(taken)
    palette = np.array(predicted.classes.palette, np.uint8)
    assert np.array_equal(shown[..., :3], palette[predicted.label])
    # It is what stood before the camera, and not its mirror image.
    expected = street[0].predictor(PHOTOS[0]).label
    assert (predicted.label == expected).mean() > 0.9
    assert (predicted.label == expected[:, ::-1]).mean() < 0.8
