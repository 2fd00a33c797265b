"""The page in a real Chromium (tests/browser.py): clicks, keys, sizes, color schemes, and nothing asked of a net."""

import re

import numpy as np
import pytest
from browser import VIEWS, fits, violations
from small_models import small
from test_explain import photo
from test_explain_page import EVIL

from semask import Classes, Predictor, build

BOTH = [("desktop", "light"), ("phone", "dark")]


@pytest.fixture(scope="module")
def explained():
    return Predictor(small()).explain(photo())


@pytest.fixture(scope="module")
def file(explained, tmp_path_factory):
    return explained.save(tmp_path_factory.mktemp("explained"))[0]


def click(page, x, y):
    """Click on the photo, at shares of its width and height."""
    page.locator("#picture").scroll_into_view_if_needed()
    box = page.locator("#picture").bounding_box()
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def inside(inner, outer):
    return all(outer[axis] - 1 <= inner[axis] for axis in "xy") and all(
        inner[axis] + inner[side] <= outer[axis] + outer[side] + 1 for axis, side in (("x", "width"), ("y", "height"))
    )


@pytest.mark.parametrize(("size", "scheme"), BOTH)
def test_a_click_shows_priors_and_attention_of_each_stage(browser_page, file, explained, size, scheme):
    page = browser_page(file, size, scheme)
    click(page, 0.52, 0.32)
    assert "Choose a stage" in page.locator("#said").inner_text()
    for stage in explained.stages:
        page.locator("#step").fill(str(stage.stage - 1))
        pixel = tuple(page.evaluate("pixel()"))
        assert abs(pixel[0] - 0.32 * 70) < 2
        assert abs(pixel[1] - 0.52 * 90) < 2
        found = np.zeros(stage.attention.query.shape[:2])
        for row, column, weight in page.evaluate("weights(attention[state.step], tokenOf(attention[state.step]))"):
            found[row, column] = weight
        h, w = stage.attention.size
        expected = explained.attention_of(stage.stage, pixel)
        assert np.allclose(found[:h, :w], expected, atol=1e-3)
        assert page.locator("#attention").is_visible()
        drawn = np.array(page.evaluate(
            "[...find('attention').getContext('2d').getImageData(0, 0, find('attention').width, "
            "find('attention').height).data]"
        )).reshape(h, w, 4)  # fmt: skip
        scope = stage.attention.scope(stage.attention.token(pixel, explained.size))
        dark = np.ones((h, w), bool)
        dark[scope] = False
        assert np.array_equal(drawn[..., :3].any(axis=-1), ~dark & (drawn[..., 3] > 0))
        highest = found.max()  # of padding too
        assert np.allclose(drawn[~dark][:, 3] / 220, np.sqrt(expected[~dark] / highest), atol=0.02)
        assert page.locator("#window").is_visible() == (stage.attention.window is not None)
        if stage.attention.window:
            mark, frame = (page.locator(x).bounding_box() for x in ("#mark", "#window"))
            middle = {"x": mark["x"] + 7, "y": mark["y"] + 7, "width": 0, "height": 0}
            assert inside(middle, frame)
            assert "its window of 7 x 7 tokens" in page.locator("#said").inner_text()
        else:
            assert f"all {h * w} tokens" in page.locator("#said").inner_text()
        assert page.locator("#map").get_attribute("alt") == f"Classes: stage {stage.stage}"
        says = f"An early exit here costs {100 * stage.flops / explained.flops:.1f} % of the FLOPs"
        assert says in page.locator("#shown").inner_text()


@pytest.mark.parametrize("place", [(0.02, 0.02), (0.5, 0.5), (0.99, 0.99)])
def test_the_location_is_told_as_it_is(browser_page, file, explained, place):
    page = browser_page(file)
    click(page, *place)
    pixel = tuple(page.evaluate("pixel()"))
    rows = [re.split(r"\t", row.inner_text()) for row in page.locator("#beliefs tr").all()]
    for stage, (step, name, sure, change) in zip(explained.stages, rows, strict=False):
        assert (step, name.strip()) == (f"stage {stage.stage}", f"class {stage.label[pixel]}")
        assert float(sure.replace("\u00a0%", "")) / 100 == pytest.approx(stage.confidence[pixel], abs=0.006)
        moved = stage.change[stage.attention.token(pixel, explained.size)]
        assert float(change.replace("\u00a0%", "")) / 100 == pytest.approx(moved, rel=0.06)
    final, said = explained.prediction.label[pixel], page.locator("#said").inner_text()
    assert rows[4][0] == "decoder"
    assert rows[4][1].strip() == f"class {final}"
    assert said.startswith(f"Row {pixel[0]}, column {pixel[1]}: class {final}")
    first, settled = explained.first[pixel], explained.settled[pixel]
    if first == 4:
        assert "Only the decoder says so" in said
    elif first == settled:
        assert f"since stage {first + 1}" in said
    else:
        assert f"First at stage {first + 1}" in said


def test_keys_alone_reach_everything(browser_page, file):
    page = browser_page(file)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "picture"
    before = page.evaluate("[state.row, state.column]")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Shift+ArrowUp"):
        page.keyboard.press(key)
    assert page.evaluate("[state.row, state.column]") == [before[0] - 9, before[1] + 2]
    for _ in range(20):
        page.keyboard.press("Shift+ArrowLeft")
    assert page.evaluate("state.column") == 0
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#shown").inner_text().startswith("Classes: stage 4.")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the small picture of stage 1
    assert page.locator("#strip [aria-pressed=true]").inner_text().strip() == "stage 1"
    assert page.locator("#step").input_value() == "0"
    for _ in range(5):
        page.keyboard.press("Tab")  # four more pictures, then the classes of the location
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "attend"
    page.keyboard.press("Space")
    assert page.locator("#attention").is_hidden()
    assert page.locator("#window").is_hidden()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.locator("#shown").inner_text().startswith("Confidence: stage 1.")


@pytest.mark.parametrize(("size", "scheme"), VIEWS)
def test_every_map_fits_is_shown_and_found_by_a_screen_reader(browser_page, file, size, scheme):
    page = browser_page(file, size, scheme)
    for name in ("Classes", "Confidence", "Change of the features", "First stage with the final class",
                 "Stage from which the class stays", "Different classes over the stages"):  # fmt: skip
        page.get_by_label(name, exact=True).check()
        assert page.locator("#shown").inner_text().startswith(name)
        assert page.locator("#key li").count() >= 2
    assert fits(page)
    assert violations(page) == []
    page.locator("#step").fill("1")
    assert fits(page)
    assert violations(page) == []


def test_map_and_window_lie_where_the_tokens_are_on_a_padded_photo(browser_page, tmp_path):
    found = Predictor(small("mask2former")).explain(photo(40, 72))  # padded to 64 x 96
    page = browser_page(found.save(tmp_path)[0])
    click(page, 0.8, 0.9)
    box = page.locator("#picture").bounding_box()
    scale = box["width"] / 72
    for stage, side in zip(found.stages, (4, 8, 16, 32), strict=True):
        page.locator("#step").fill(str(stage.stage - 1))
        whole = page.locator("#attention").bounding_box()
        assert (whole["width"], whole["height"]) == pytest.approx((96 * scale, 64 * scale), abs=2)
        if stage.attention.window is not None:
            frame, (y, x) = page.locator("#window").bounding_box(), page.evaluate("pixel()")
            corner = [p // side // 7 * 7 * side * scale for p in (x, y)]
            assert (frame["x"] - box["x"], frame["y"] - box["y"]) == pytest.approx(corner, abs=2)
            assert (frame["width"], frame["height"]) == pytest.approx((7 * side * scale, 7 * side * scale), abs=2)


@pytest.mark.parametrize("shape", [(90, 60), (200, 3), (3, 200)])
def test_photos_of_any_shape_are_whole_in_the_window(browser_page, tmp_path, shape):
    page = browser_page(Predictor(small()).explain(photo(*shape)).save(tmp_path)[0])
    box = page.locator("#picture").bounding_box()
    assert box["height"] <= 0.86 * 900 or box["width"] <= 16 * 16 + 1
    assert box["width"] / box["height"] == pytest.approx(min(max(shape[1] / shape[0], 1 / 8), 16), rel=0.05)
    click(page, 0.5, 0.05)
    assert page.evaluate("pixel()") == pytest.approx([0.05 * shape[0], 0.5 * shape[1]], abs=2)
    assert fits(page)


def test_a_mouse_that_is_drawn_moves_the_location(browser_page, file):
    page = browser_page(file)
    box = page.locator("#picture").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    assert page.evaluate("pixel()") == pytest.approx([0.25 * 70, 0.75 * 90], abs=1.5)
    page.mouse.up()


def test_the_frame_of_a_notebook_runs_its_script(browser_page, explained, tmp_path):
    (tmp_path / "notebook.html").write_text(f"<!doctype html><title>x</title>{explained._repr_html_()}", "utf-8")
    page = browser_page(tmp_path / "notebook.html")
    inside = page.frame_locator("iframe")
    inside.locator("#step").fill("0")
    assert inside.locator("#beliefs tr").count() == 5
    assert inside.locator("#shown").inner_text().startswith("Classes: stage 1.")


@pytest.mark.parametrize(("size", "scheme"), BOTH)
def test_a_model_without_priors(browser_page, tmp_path, size, scheme):
    model = build("swin_nano", num_classes=4, channels=8, semantic_depths=0)
    page = browser_page(Predictor(model).explain(photo()).save(tmp_path)[0], size, scheme)
    click(page, 0.3, 0.6)
    assert re.match(r"Row \d+, column \d+: class \d, with \d+\s%\.$", page.locator("#said").inner_text())
    assert page.locator("#step, #strip, #attend, #attention, th.stages").locator("visible=true").count() == 0
    assert page.locator("input[type=radio]").count() == 2
    assert fits(page)
    assert violations(page) == []


def test_hostile_names_stay_text(browser_page, tmp_path):
    model = small()
    model.metadata["classes"] = {"classes": EVIL, "palette": Classes(EVIL).palette}
    found = Predictor(model).explain(photo())
    name = "<img src=x onerror=alert(1)><b>&amp;"
    page = browser_page(found.save(tmp_path, name=name)[0])
    dialogs = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.dismiss()))
    for step in range(5):
        page.locator("#step").fill(str(step))
        for place in (0.1, 0.5, 0.9):
            click(page, place, place)
    assert not dialogs
    assert page.locator("h1").inner_text() == f"Glass box: {name}"
    assert page.locator("img[src='x'], b, script").count() == 2  # the two scripts of the page
    shown = page.locator("#beliefs").inner_text() + page.locator("#key").inner_text()
    assert any(name in shown for name in EVIL[:3])


@pytest.mark.parametrize(("shape", "long"), [((2, 200, 3), True), ((200, 2, 3), True), ((60, 90, 3), False)])
def test_a_very_long_image_can_be_seen_and_clicked(browser_page, tmp_path, shape, long):
    explanation = Predictor(small()).explain(np.zeros(shape, np.uint8))
    page = browser_page(explanation.save(tmp_path)[0])
    box = page.locator("#picture").bounding_box()
    assert box["height"] > 40
    assert box["width"] > 40
    assert box["height"] < 4 * 900
    assert ("drawn shorter than it is" in page.locator("body").inner_text()) == long
    page.locator("#picture").click(position={"x": 0.9 * box["width"], "y": 0.9 * box["height"]})
    assert np.allclose(page.evaluate("pixel()"), [0.9 * x for x in shape[:2]], atol=2)
