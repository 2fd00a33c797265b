"""The page in a real Chromium (tests/browser.py): sizes, color schemes, sorting, sliders, print, and no network."""

import pytest
from browser import VIEWS, fits, violations
from test_page import NASTY, counts, evaluation, run_folder, written

from semask.evaluation.evaluate import evaluate
from semask.reporting.report import report


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A run, and two evaluations that are compared."""
    folder = tmp_path_factory.mktemp("several")
    for seed in (1, 2):
        counts(seed).save(folder / f"{seed}.npz")
    return report(folder / "1.npz", folder / "2.npz", run_folder(folder / "mine"), out=folder / "all.html")


@pytest.fixture(scope="module")
def pictured(trained, scenes, tmp_path_factory):
    """An evaluation with pictures."""
    file = tmp_path_factory.mktemp("pictured") / "a.npz"
    evaluate(trained, workers=0, device="cpu").counts.save(file)
    return report(file, pictures=1, device="cpu")


@pytest.fixture(scope="module")
def several_pictures(pictured):
    """The same with more images."""
    return report(pictured.with_name("a.npz"), pictures=2, device="cpu", out=pictured.with_name("b.html"))


@pytest.mark.parametrize(("size", "scheme"), VIEWS)
@pytest.mark.parametrize("kind", ["several", "pictured"])
def test_it_fits_and_axe_finds_nothing(browser_page, request, kind, size, scheme):
    page = browser_page(request.getfixturevalue(kind), size, scheme)
    assert fits(page)
    assert violations(page) == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("by", ["mouse", "keys"])
def test_a_table_is_sorted_by_what_one_chooses(browser_page, tmp_path, by):
    page = browser_page(report(written(tmp_path / "a.json", evaluation())))
    table = page.locator("table[data-sorts]").filter(has_text="pole").first
    head = table.locator("thead th").nth(1)
    orders = []
    for _ in range(2):
        if by == "mouse":
            head.locator("button").click()
        else:
            head.locator("button").focus()
            page.keyboard.press("Enter")
        orders.append((head.get_attribute("aria-sort"), table.locator("tbody th").all_inner_texts()))
    assert orders == [("descending", ["sky", "pole", "road"]), ("ascending", ["road", "pole", "sky"])]


def test_a_slider_shows_one_layer_after_the_other(browser_page, pictured):
    page = browser_page(pictured)
    stack = page.locator(".stack").filter(has_text="prediction").first
    slider = stack.locator("input")
    slider.focus()
    seen = []
    for key in ("Home", "ArrowRight", "ArrowLeft", "End"):
        page.keyboard.press(key)
        seen.append(stack.locator("output").inner_text())
        assert slider.get_attribute("aria-valuetext") == seen[-1]
        shown = stack.locator("img:not([aria-hidden=true])")
        assert shown.count() == 1
        assert shown.get_attribute("alt").endswith(seen[-1])
    assert seen[:3] == ["image", "label", "image"]
    assert seen[3].startswith("prior")


def test_sliders_move_together_or_alone(browser_page, several_pictures):
    page = browser_page(several_pictures)
    sliders, together = page.locator(".stack:not(.wide) input"), page.get_by_label("Move all sliders together")
    assert sliders.count() > 1
    sliders.first.focus()
    page.keyboard.press("ArrowRight")
    assert {x.input_value() for x in sliders.all()} == {"1"}
    together.uncheck()
    sliders.first.focus()
    page.keyboard.press("ArrowRight")
    assert [x.input_value() for x in sliders.all()][:2] == ["2", "1"]


def test_without_script_everything_is_there(browser_page, pictured):
    page = browser_page(pictured, java_script_enabled=False)
    assert page.locator(".stack .slider").first.is_hidden()
    images = page.locator(".stack").first.locator("img")
    assert images.count() > 3
    assert all(image.is_visible() for image in images.all())


def test_print_shows_all_layers_and_no_controls(browser_page, pictured):
    page = browser_page(pictured, "desktop", "dark")
    page.emulate_media(media="print")
    assert page.locator(".slider").first.is_hidden()
    for layer in page.locator(".stack").first.locator(".layer").all():
        assert layer.evaluate("x => getComputedStyle(x).opacity") == "1"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden()
    closed = page.locator("details:not([open])").count()
    assert closed
    assert page.pdf().startswith(b"%PDF")
    assert page.locator("details:not([open])").count() == closed


def test_print_opens_what_is_folded(browser_page, pictured):
    page = browser_page(pictured)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details").count()
    assert page.locator("details:not([open])").count() == 0


def test_hostile_texts_run_nothing(browser_page, tmp_path):
    """What would run reports an error or asks for a file: the fixture takes neither."""
    page = browser_page(report(written(tmp_path / "a.json", evaluation(NASTY))))
    assert page.locator("img").count() == 0
    assert "onerror=alert(1)" in page.inner_text("body")
