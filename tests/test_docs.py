"""The Python of the docs runs: the blocks of a page, in order, in one namespace and an empty folder."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS_MORE = {
    "checkpoints": "a finished run",
    "data": "a data set",
    "evaluate-and-predict": "a finished run",
    "export": "an exported file",
    "masks": "an image and a label, and a larger model than is good here",
    "published": "a download",
    "train": "a data set",
}


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


PAGES = [page for page in sorted(DOCS.glob("*.md")) if blocks(page)]


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem not in NEEDS_MORE], ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch, semask):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.stem}
    for number, block in enumerate(blocks(page), start=1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)


def test_pages_that_do_not_run_are_there():
    assert NEEDS_MORE.keys() <= {page.stem for page in PAGES}


def test_the_blocks_of_all_pages_are_python():
    for page in PAGES:
        for number, block in enumerate(blocks(page), start=1):
            compile(block, f"{page.name}, block {number}", "exec")
