"""The page in a real Chromium: every request stays on this machine (tests/browser.py sees to it)."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from app_server import served
from browser import VIEWS, fits, violations
from PIL import Image

from semask import build, save
from semask.app.models import open_models
from semask.app.serving import Serving
from semask.checkpoints.places import PHOTOS
from semask.data.classes import Classes

COLORS = """canvas => { const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
let text = ""; for (let i = 0; i < data.length; i += 32768) text += String.fromCharCode(...data.subarray(i, i + 32768));
return [canvas.width, canvas.height, btoa(text)] }"""
GRADIO: dict[str, str] = {}
"""Rules of axe that Gradio's own components break on the page, with the reason why that can't be mended: none."""
GRADIO_LOGIN = {
    "document-title": "Gradio gives the page to log in no title",
    "landmark-one-main": "Gradio gives it no landmarks",
    "region": "Gradio gives it no landmarks",
    "page-has-heading-one": "its heading is an h2 of Gradio's own",
}
"""The same for the page to log in, which is Gradio's own and takes no template."""


@pytest.fixture(scope="module")
def app(both):
    """Two models side by side."""
    with served(both, Serving()) as found:
        yield found


@pytest.fixture(scope="module")
def many_classes(tmp_path_factory):
    """A model with as many classes as ADE20K has, of long names, that was not trained."""
    names = [f"class number {number} of many, " + "with a long name " * 3 for number in range(150)]
    path = tmp_path_factory.mktemp("many") / "many.safetensors"
    model = build("swin_nano", "fpn", num_classes=150, channels=16)
    save(path, model, {"classes": Classes(tuple(names)).as_dict()})
    return open_models([str(path)])


def opened(browser_page, app, *view, **options):
    page = browser_page(app.address, *view, **options)
    page.wait_for_selector(".semask .hint")
    page.wait_for_function("document.querySelector('#photo input[type=file]') !== null")
    return page


def choose(page, photo: Path | dict = PHOTOS[0]):
    page.locator("#photo input[type=file]").first.set_input_files(photo)
    page.wait_for_selector(".semask .pane, .semask .error:not([hidden])")


def painted(pane) -> np.ndarray:
    """Colors of the overlay, [H, W, 4]."""
    width, height, values = pane.locator("canvas").evaluate(COLORS)
    return np.frombuffer(base64.b64decode(values), np.uint8).reshape(height, width, 4)


def download(page, pane, kind: str):
    with page.expect_download() as waiting:
        pane.locator(f"button[data-kind={kind}]").click()
    return waiting.value


def test_a_photo_its_overlay_switches_pointer_and_downloads(browser_page, app, both, semask, tmp_path):
    page = opened(browser_page, app)
    choose(page)
    pane = page.locator(".pane").first
    expected = both[0].predictor(PHOTOS[0])
    palette = np.array(expected.classes.palette, np.uint8)
    assert np.array_equal(painted(pane)[..., :3], palette[expected.label])
    assert (painted(pane)[..., 3] == 255).all()
    assert page.locator(".pane h2").all_inner_texts() == [model.name for model in both]
    assert "no semantic layers" in pane.locator(".note").inner_text()

    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator(".opacity").fill("20")
    assert pane.locator("canvas").evaluate("canvas => canvas.style.opacity") == "0.2"
    road = expected.classes.names.index("road")
    pane.get_by_label("road").uncheck()
    assert np.array_equal(painted(pane)[..., 3] == 0, expected.label == road)
    share = (expected.label == road).mean()
    assert f"{100 * share:.1f} %" in pane.locator("li", has_text="road").inner_text()
    pane.get_by_role("button", name="Hide all").click()
    assert not painted(pane).any()
    pane.get_by_role("button", name="Show all").click()
    assert painted(pane)[..., 3].all()

    box = pane.locator("canvas").bounding_box()
    for x, y in ((3, 5), (240, 300), (470, 100)):
        page.mouse.move(box["x"] + (x + 0.5) / 480 * box["width"], box["y"] + (y + 0.5) / 360 * box["height"])
        name = expected.classes.names[expected.label[y, x]]
        sure = float(pane.locator(".readout").inner_text().removeprefix(f"{name}, ").removesuffix(" %"))
        assert abs(sure / 100 - expected.confidence[y, x]) < 0.003
    assert "%" in page.locator(".readout").nth(1).inner_text()  # the other model says what it sees there
    assert asked == []  # neither server nor model were needed

    semask("predict", PHOTOS[0], "--out", tmp_path, "--write", "mask", "json", "labelme")
    got = download(page, pane, "mask")
    assert got.suggested_filename == "street_1.png"
    assert Path(got.path()).read_bytes() == (tmp_path / "street_1.png").read_bytes()
    with Image.open(got.path()) as mask:
        assert np.array_equal(np.array(mask), expected.label)
    areas = json.loads(Path(download(page, pane, "json").path()).read_text())
    assert areas["classes"] == json.loads((tmp_path / "street_1.json").read_text())["classes"]
    shapes = json.loads(Path(download(page, pane, "labelme").path()).read_text())["shapes"]
    assert shapes == json.loads((tmp_path / "labelme" / "street_1.json").read_text())["shapes"]


def test_the_picture_as_it_is_shown(browser_page, app, both):
    page = opened(browser_page, app)
    choose(page)
    pane = page.locator(".pane").first
    expected = both[0].predictor(PHOTOS[0])
    colors = np.array(expected.classes.palette)[expected.label]
    pane.get_by_label("road").uncheck()
    page.locator(".opacity").fill("40")
    got = download(page, pane, "picture")
    assert got.suggested_filename == "street_1_overlay.png"
    with Image.open(got.path()) as file, Image.open(PHOTOS[0]) as photo:
        shown, plain = np.asarray(file.convert("RGB")).astype(float), np.asarray(photo).astype(float)
    road = (expected.label == expected.classes.names.index("road"))[..., None]
    blended = np.where(road, plain, 0.6 * plain + 0.4 * colors)
    assert np.abs(shown - blended).mean() < 4  # the page has the photo as a JPEG
    assert np.abs(shown - blended).mean() < 0.2 * np.abs(shown - plain).mean()


@pytest.mark.parametrize(("size", "largest"), [((30, 2000), 0.81), ((2000, 30), 1), ((1, 1), 0.81)], ids=str)
def test_all_of_a_photo_is_on_the_screen(browser_page, app, size, largest):
    page = opened(browser_page, app, "phone")
    data = io.BytesIO()
    Image.new("RGB", size, (90, 60, 30)).save(data, "PNG")
    choose(page, {"name": "long.png", "mimeType": "image/png", "buffer": data.getvalue()})
    page.wait_for_selector(".semask .pane")
    box = page.locator(".pane .stage").first.bounding_box()
    assert 0 < box["height"] <= largest * page.viewport_size["height"]
    assert fits(page)


def test_many_classes_leave_room_for_the_rest(browser_page, many_classes):
    with served(many_classes, Serving()) as found:
        page = opened(browser_page, found, "phone")
        choose(page)
        pane = page.locator(".pane").first
        assert pane.locator(".legend li").count() == 150
        assert pane.locator(".legend ul").bounding_box()["height"] < 500
        assert fits(page)
        assert [x for x in violations(page) if x[0] not in GRADIO] == []
        last = pane.locator(".legend input").last
        last.focus()
        assert last.evaluate("""input => { const box = input.closest("ul").getBoundingClientRect(),
          own = input.getBoundingClientRect(); return own.top >= box.top && own.bottom <= box.bottom }""")


def test_the_priors_of_the_stages(browser_page, app, both):
    page = opened(browser_page, app)
    page.locator(".semask-examples button").nth(1).click()
    page.wait_for_selector(".semask .pane")
    pane = page.locator(".pane").nth(1)
    expected = both[1].predictor(PHOTOS[1], priors=True)
    palette = np.array(expected.classes.palette, np.uint8)
    slider = pane.locator(".stages")
    assert slider.get_attribute("aria-valuetext") == "prediction"
    for stage, prior in enumerate(expected.priors, start=1):
        slider.fill(str(stage))
        assert np.array_equal(painted(pane)[..., :3], palette[prior])
        assert slider.get_attribute("aria-valuetext") == f"prior of stage {stage} of 4"
    pane.locator(".stage").hover()
    assert "(prior of stage 4); prediction: " in pane.locator(".readout").inner_text()
    slider.fill("5")
    assert np.array_equal(painted(pane)[..., :3], palette[expected.label])


def test_keys(browser_page, app):
    page = opened(browser_page, app)
    choose(page)
    pane = page.locator(".pane").nth(1)
    pane.locator(".stage").focus()
    page.keyboard.press("ArrowRight")
    first = pane.locator(".readout").inner_text()
    assert "%" in first
    for _ in range(10):
        page.keyboard.press("Shift+ArrowUp")
    assert pane.locator(".cross").evaluate("cross => parseFloat(cross.style.top)") < 10
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "stages"
    page.keyboard.press("ArrowLeft")
    assert pane.locator(".slide output").inner_text() == "prior of stage 4 of 4"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert not pane.locator(".legend input").first.is_checked()


def test_errors_are_a_sentence(browser_page, app):
    page = opened(browser_page, app)
    choose(page)
    choose(page, {"name": "news.png", "mimeType": "image/png", "buffer": b"\x89PNG no more"})
    page.wait_for_selector(".semask .error:not([hidden])")
    said = page.locator(".semask .error").inner_text()
    assert said.startswith("news.png: ")
    assert str(app.files) not in page.content().replace(f"{app.address}/gradio_api/file={app.files}", "")
    assert "Traceback" not in page.content()
    assert page.locator(".pane").count() == 0  # the result before is not taken for that of this one
    page.locator(".semask-examples button").first.click()
    page.wait_for_selector(".semask .pane")
    assert page.locator(".semask .error").is_hidden()


def test_a_paste_and_a_picture_of_the_camera(browser_page, app):
    page = opened(browser_page, app, permissions=["clipboard-read", "clipboard-write", "camera"])
    page.evaluate("""async () => { const canvas = document.createElement("canvas"); canvas.width = 64;
      canvas.height = 48; canvas.getContext("2d").fillRect(0, 0, 20, 20);
      const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
      await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]) }""")
    page.keyboard.press("Control+V")
    page.wait_for_selector(".semask .pane")
    assert painted(page.locator(".pane").first).shape == (48, 64, 4)
    assert page.get_by_label("Capture from camera").count() == 1  # the machine of a test has no camera


def test_people_do_not_see_each_other(browser_page, app, both, tmp_path):
    other = tmp_path / "street_1.jpg"  # another photo of the same name
    other.write_bytes(PHOTOS[1].read_bytes())
    photos = (PHOTOS[0], other)
    pages = [opened(browser_page, app) for _ in photos]
    for page, photo in zip(pages, photos, strict=True):
        page.locator("#photo input[type=file]").first.set_input_files(photo)
    for page, photo in zip(pages, photos, strict=True):
        page.wait_for_selector(".semask .pane")
        expected = both[0].predictor(photo)
        palette = np.array(expected.classes.palette, np.uint8)
        assert np.array_equal(painted(page.locator(".pane").first)[..., :3], palette[expected.label])


def test_names_are_text(browser_page, app):
    page = opened(browser_page, app)
    data = io.BytesIO()
    Image.new("RGB", (40, 30)).save(data, "PNG")
    page.evaluate("window.hacked = 0")
    choose(page, {"name": "<img src=x onerror=window.hacked=1>.png", "mimeType": "image/png", "buffer": b"no"})
    choose(page, {"name": "</script><b>.png", "mimeType": "image/png", "buffer": data.getvalue()})
    page.wait_for_selector(".semask .pane")
    assert page.evaluate("window.hacked") == 0


@pytest.mark.parametrize("view", VIEWS[::3], ids="-".join)
def test_size_scheme_and_accessibility(browser_page, app, view):
    checked(browser_page, app, view)


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS[1:3], ids="-".join)
def test_the_other_sizes_and_schemes(browser_page, app, view):
    checked(browser_page, app, view)


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS, ids="-".join)
def test_the_page_to_log_in(browser_page, street, view):
    with served(street, Serving(user="ann", password="long enough")) as found:
        page = browser_page(found.address, *view)
        name, word = page.get_by_label("username"), page.get_by_label("password")
        name.wait_for()
        assert fits(page)
        assert {rule for rule, _ in violations(page)} <= set(GRADIO_LOGIN)
        name.fill("ann")
        word.fill("long enough")
        page.get_by_role("button", name="Login").click()
        page.wait_for_selector(".semask .hint")


def checked(browser_page, app, view) -> None:
    page = opened(browser_page, app, *view)
    assert fits(page)
    assert [x for x in violations(page) if x[0] not in GRADIO] == []
    choose(page)
    page.locator(".stage").first.hover()
    assert fits(page)
    assert [x for x in violations(page) if x[0] not in GRADIO] == []
    dark = page.evaluate("getComputedStyle(document.querySelector('gradio-app')).backgroundColor")
    assert (sum(map(int, dark.strip("rgba()").split(",")[:3])) < 200) == (view[1] == "dark")
