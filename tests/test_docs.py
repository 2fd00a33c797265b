"""The code blocks of the docs run: those of a page, in order, in one folder with a run, scenes and photos.

A block that cannot run says why in the line before it: <!-- not run: needs ADE20K -->. In `sh` blocks the commands are
those of semask. .ci/run runs the blocks of the README, in an environment of their own.
"""

import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^ *```(\w*)$")
MARK = re.compile(r"^ *<!-- not run: \S.* -->$")
COMMAND = re.compile(r"^ *(\$ )?(semask|python|pip|torchrun|make|bash|curl|git) \S", re.MULTILINE)
EXTRAS = {"big-images": "rasterio", "satellite": "rasterio", "export": "onnxruntime", "evaluate-and-predict": "scipy"}
"""Packages that the blocks of a page need in addition to the base install."""


@dataclass(frozen=True)
class Block:
    """A code block; `run` is false if the line before it says why it is not run."""

    line: int
    language: str
    code: str
    run: bool


def blocks(text: str) -> list[Block]:
    """Code blocks of a page, also those inside of lists.

    Raises:
        ValueError: If a block is not closed, or a mark belongs to no block.
    """
    found: list[Block] = []
    lines, start, marked = text.splitlines(), None, None
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if start is None and fence:
            start, language = number, fence[1]
        elif start is not None and fence:
            code = "".join(f"{x}\n" for x in lines[start + 1 : number])
            found.append(Block(start + 1, language, code, run=marked != start - 1))
            start = None
        elif start is None and "not run" in line and line.lstrip().startswith("<!--"):
            following = lines[number + 1] if number + 1 < len(lines) else ""
            if not (MARK.match(line) and FENCE.match(following)):
                raise ValueError(f"line {number + 1}: expected <!-- not run: WHY --> right before a block: {line}")
            marked = number
    if start is not None:
        raise ValueError(f"line {start + 1}: the block is not closed")
    return found


PAGES = {page.stem: blocks(page.read_text(encoding="utf-8")) for page in sorted((ROOT / "docs").glob("*.md"))}
ALL = {**PAGES, "README": blocks((ROOT / "README.md").read_text(encoding="utf-8"))}
LINKED = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
]
RUN = {page: [x for x in found if x.run and x.language in ("python", "sh")] for page, found in PAGES.items()}


@pytest.fixture
def folder(tmp_path: Path, trained: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with runs/mine, scenes, photos, photo.jpg and a GeoTIFF city.tif, which the blocks may change."""
    shutil.copytree(trained, tmp_path / "runs" / "mine")
    shutil.copytree(scenes, tmp_path / "scenes")
    shutil.copytree(scenes / "images" / "val", tmp_path / "photos")
    photo = next((tmp_path / "photos").iterdir())
    shutil.copy(photo, tmp_path / "photo.jpg")
    with Image.open(photo) as image:
        image.save(tmp_path / "city.tif")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_shell(code: str, semask: Callable[..., object]) -> None:
    """Run commands of semask in this process."""
    for command in code.replace("\\\n", " ").splitlines():
        words = shlex.split(command, comments=True)
        if words:
            assert words[0] == "semask", f"mark the block, only semask is run: {command}"
            semask(*words[1:])


@pytest.mark.parametrize("page", [page for page, found in RUN.items() if found])
def test_the_blocks_of_a_page_run(page, folder, semask):
    if page in EXTRAS:
        pytest.importorskip(EXTRAS[page])
    names: dict[str, object] = {"__name__": page}
    for block in RUN[page]:
        if block.language == "sh":
            run_shell(block.code, semask)
        else:
            exec(compile(block.code, f"{page}.md, line {block.line}", "exec"), names)


@pytest.mark.parametrize("page", ALL)
def test_every_command_is_in_a_block_of_sh(page):
    for block in ALL[page]:
        if block.language not in ("sh", "python"):
            found = COMMAND.search(block.code)
            assert not found, f"{page}.md, line {block.line}: give the block the language sh: {found[0]}"


@pytest.mark.parametrize("page", ALL)
def test_python_that_is_not_run_is_python(page):
    for block in ALL[page]:
        if block.language == "python":
            compile(block.code, f"{page}.md, line {block.line}", "exec")


def anchors(text: str) -> set[str]:
    """Anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name}: {target}: no such file"
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), (
            f"{page.name}: {target}: no such heading"
        )


def test_a_block_is_run_unless_a_mark_stands_right_before_it():
    text = "```sh\na\n```\n<!-- not run: why -->\n```sh\nb\n```\n\n  ```json\n  {}\n  ```"
    assert blocks(text) == [
        Block(1, "sh", "a\n", run=True),
        Block(5, "sh", "b\n", run=False),
        Block(9, "json", "  {}\n", run=True),
    ]


@pytest.mark.parametrize(
    "text",
    ["<!-- not run: why -->\n\n```sh\na\n```", "<!-- not run -->\n```sh\na\n```", "<!-- not run: why -->", "```sh\na"],
)
def test_a_mark_without_block_or_reason_is_refused(text):
    with pytest.raises(ValueError, match="line 1"):
        blocks(text)


def test_a_block_with_another_command_has_to_be_marked(semask):
    with pytest.raises(AssertionError, match="mark the block"):
        run_shell("pip install semask  # a comment", semask)
