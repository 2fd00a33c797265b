"""Pages in a real Chromium, for the tests of every page that SeMask writes or serves: the fixture `browser_page`.

Playwright and axe come with the `dev` extra; the browser is the system's own (Debian: apt install chromium). Where one
of them is missing the tests are skipped, and the reason says what to install.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
"""Width and height of the window."""
SCHEMES = ("light", "dark")
VIEWS = [(size, scheme) for size in SIZES for scheme in SCHEMES]
"""Every size in every color scheme: `@pytest.mark.parametrize(("size", "scheme"), VIEWS)`."""
NAMES = ("chromium", "chromium-browser", "google-chrome")


CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""Arguments for a camera that shows a test picture; without them there is none."""


@contextlib.contextmanager
def launched(*arguments: str) -> "Iterator[Browser]":
    """Run Chromium; skips where it, or Playwright, is missing. One at a time: Playwright allows no second."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs Chromium: one of {', '.join(NAMES)} on the path, e.g. apt install chromium")
    with driver.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found, args=["--no-sandbox", *arguments])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def chromium() -> "Iterator[Browser]":
    """Chromium of one test file. Not of the session: while it runs, nothing else can run an event loop."""
    with launched() as browser:
        yield browser


class Pages:
    """Opens pages, each in a fresh profile without network, and notes what must not happen.

    Attributes:
        wrong: Requests to anywhere else than the page's own origin (for a file: any request at all), uncaught errors,
            and errors of the console. The fixture wants it empty in the end.
    """

    def __init__(self, browser: "Browser") -> None:
        self.browser = browser
        self.contexts: list[BrowserContext] = []
        self.wrong: list[str] = []

    def __call__(self, target: Path | str, size: str = "desktop", scheme: str = "light", **options: Any) -> "Page":
        """Open a page.

        Args:
            target: File, or address of a server of this machine.
            size: Name of a size in `SIZES`.
            scheme: Color scheme that the system asks for: "light" or "dark".
            **options: Further options of Playwright's `new_context`.
        """
        url = target.resolve().as_uri() if isinstance(target, Path) else target
        width, height = SIZES[size]
        options = {"viewport": {"width": width, "height": height}, "color_scheme": scheme, **options}
        context = self.browser.new_context(**options, service_workers="block", offline=url.startswith("file:"))
        self.contexts.append(context)
        context.on("request", lambda request: self._asked(request.url, url))
        page = context.new_page()
        page.on("websocket", lambda socket: self._asked(socket.url.replace("ws", "http", 1), url))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        page.goto(url)
        return page

    def close(self) -> None:
        """Close all pages."""
        for context in self.contexts:
            context.close()

    def _asked(self, address: str, own: str) -> None:
        """Note a request that is not for the page's own origin; a file asks for itself alone."""
        if address.startswith(("data:", "blob:", "about:")) or address.partition("#")[0] == own:
            return
        asked, home = urlsplit(address), urlsplit(own)
        if home.scheme == "file" or (asked.scheme, asked.netloc) != (home.scheme, home.netloc):
            self.wrong.append(f"request: {address}")


@pytest.fixture
def browser_page(chromium: "Browser") -> Iterator[Pages]:
    """Use as `page = browser_page(file, "phone", "dark")`: a page of Playwright; see `Pages`."""
    pages = Pages(chromium)
    yield pages
    pages.close()
    assert pages.wrong == []


def fits(page: "Page") -> bool:
    """Whether a page is no wider than its window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def violations(page: "Page") -> list[tuple[str, list[str]]]:
    """What axe finds wrong with a page: the rule, and the elements that break it."""
    reason = "needs axe: pip install axe-playwright-python"
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=reason)
    found = axe.Axe().run(page).response["violations"]
    return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]
