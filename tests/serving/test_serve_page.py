"""The page of the server in a real browser."""

import shutil

import pytest

CHROMIUM = shutil.which("chromium")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page(served, width, scheme):
    """Nothing is fetched from elsewhere, nothing is wider than a phone, and axe finds nothing."""
    playwright = pytest.importorskip("playwright.sync_api")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True
        )  # axe is a script
        page, asked = context.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{served.address}/")
        assert asked == [f"{served.address}/"]
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
        found = axe.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        browser.close()
