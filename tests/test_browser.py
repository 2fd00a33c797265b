"""The helper of the browser tests sees what it is there for."""

import pytest
from browser import Pages, fits, violations

BAD = """<!doctype html><html lang="en"><title>bad</title><main><h1>bad</h1><div style="width: 2000px">wide</div>
<img src="https://example.org/x.png"><input><script>console.error("said"); fetch("other.txt").catch(() => 0);
setTimeout(() => { throw new Error("thrown") })</script></main></html>"""


def test_what_is_wrong_is_noted(chromium, tmp_path):
    (tmp_path / "bad.html").write_text(BAD)
    pages = Pages(chromium)
    page = pages(tmp_path / "bad.html", "phone", "dark")
    page.wait_for_timeout(200)
    found = "\n".join(pages.wrong)
    for words in ("request: https://example.org/x.png", "request: file:", "said", "thrown"):
        assert words in found
    assert not fits(page)
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert {"label", "image-alt"} <= {rule for rule, _ in violations(page)}
    pages.close()


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_a_good_page_passes(browser_page, tmp_path, size):
    (tmp_path / "good.html").write_text('<!doctype html><html lang="en"><title>good</title><main><h1>good</h1></main>')
    page = browser_page(tmp_path / "good.html", size)
    assert fits(page)
    assert violations(page) == []
