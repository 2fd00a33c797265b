"""The page in a real Chromium (tests/browser.py): clicks, keys, sizes, color schemes, and nothing asked of a net."""

import numpy as np
import pytest
from browser import VIEWS, fits, violations
from small_models import small
from test_explain import photo

from semask import Predictor


@pytest.fixture(scope="module")
def explained():
    return Predictor(small()).explain(photo())


@pytest.fixture(params=VIEWS, ids="-".join)
def page(request, browser_page, explained, tmp_path):
    return browser_page(explained.save(tmp_path)[0], *request.param)


def test_a_click_shows_the_attention_of_the_stage(page, explained):
    assert fits(page)
    box = page.locator("#picture").bounding_box()
    page.mouse.click(box["x"] + 0.52 * box["width"], box["y"] + 0.32 * box["height"])
    assert "The decoder has no semantic attention" in page.locator("#said").inner_text()
    for stage in explained.stages:
        page.locator("#step").fill(str(stage.stage - 1))
        pixel = tuple(page.evaluate("pixel()"))
        assert abs(pixel[0] - 0.32 * 70) < 2
        assert abs(pixel[1] - 0.52 * 90) < 2
        found = np.zeros(stage.attention.query.shape[:2])
        for row, column, weight in page.evaluate("weights(attention[state.step], tokenOf(attention[state.step]))"):
            found[row, column] = weight
        h, w = stage.attention.size
        assert np.allclose(found[:h, :w], explained.attention_of(stage.stage, pixel), atol=1e-3)
        assert page.locator("#attention").is_visible()
        assert page.locator("#map").get_attribute("alt") == f"Classes: stage {stage.stage}"
        beliefs = page.locator("#beliefs tr").nth(stage.stage - 1).inner_text()
        assert f"class {stage.label[pixel]}" in beliefs
        assert f"{stage.confidence[pixel]:.0%}".rstrip("%") in beliefs or stage.confidence[pixel] < 0.1


def test_keys_move_the_location_and_stay_on_the_photo(page):
    page.locator("#picture").focus()
    before = page.evaluate("[state.row, state.column]")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Shift+ArrowUp"):
        page.keyboard.press(key)
    assert page.evaluate("[state.row, state.column]") == [before[0] - 9, before[1] + 2]
    for _ in range(20):
        page.keyboard.press("Shift+ArrowLeft")
    assert page.evaluate("state.column") == 0


def test_every_map_is_shown_and_found_by_a_screen_reader(page):
    for name in ("Classes", "Confidence", "Change of the features", "First stage with the final class"):
        page.get_by_label(name, exact=True).check()
        assert page.locator("#shown").inner_text().startswith(name)
        assert page.locator("#key li").count() >= 2
    assert violations(page) == []


def test_the_frame_of_a_notebook_runs_its_script(page, explained):
    page.set_content(explained._repr_html_())
    inside = page.frame_locator("iframe")
    inside.locator("#step").fill("0")
    assert inside.locator("#beliefs tr").count() == 5
    assert inside.locator("#shown").inner_text() == "Classes: stage 1"
