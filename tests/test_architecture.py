"""The house stands as docs/architecture.md draws it: rooms in floors, arrows that point down, no circle."""

import ast
import re
from pathlib import Path

import pytest

import semask

PACKAGE = Path(semask.__file__).parent
FLOORS: dict[str, int] = {
    "files": 0,
    "extras": 0,
    "data": 1,
    "synthetic": 1,
    "encoders": 1,
    "semantic": 1,
    "decoders": 1,
    "losses": 1,
    "outputs": 1,
    "config": 1,
    "metrics": 1,
    "model": 2,
    "settings": 3,
    "builder": 3,
    "acceleration": 3,
    "cost": 3,
    "checkpoints": 4,
    "prediction": 5,
    "engines": 5,
    "explain": 5,
    "doctor": 6,
    "training": 6,
    "evaluation": 6,
    "reporting": 6,
    "app": 6,
    "serving": 6,
    "commands": 7,
    "cli": 7,
}
"""Room or file at the root -> its floor."""
MOST_LINES = 400


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """Our modules that a file imports, inside functions too; not what only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return {name for name in found if name in MODULES and name != "semask"}


GRAPH = {name: imports(path) for name, path in MODULES.items()}


def room(name: str) -> str:
    return name.split(".")[1]


def reached(name: str) -> set[str]:
    """All of our files that importing one brings in, the packages' own files too."""
    seen: set[str] = set()
    left = [name]
    while left:
        module = left.pop()
        if module in seen:
            continue
        seen.add(module)
        parts = module.split(".")
        left += [".".join(parts[:end]) for end in range(1, len(parts))]
        left += GRAPH.get(module, set())
    return seen


def test_every_room_has_a_floor():
    assert {room(name) for name in MODULES if name != "semask"} == FLOORS.keys()


@pytest.mark.parametrize("name", [name for name in MODULES if name != "semask"])
def test_no_arrow_points_up(name):
    up = {other for other in GRAPH[name] if FLOORS[room(other)] > FLOORS[room(name)]}
    assert not up


def test_no_command_imports_a_command():
    shared = {"semask.commands", "semask.commands.console"}
    for name in MODULES:
        if room(name + ".") == "commands":
            others = {x for x in GRAPH[name] if room(x) == "commands"} - shared
            assert name in shared or not others, name


def test_no_circle():
    state: dict[str, int] = {}

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert state.get(name) != 1, " -> ".join([*way[way.index(name) :], name])
        if name in state:
            return
        state[name] = 1
        for other in sorted(GRAPH[name]):
            if MODULES[other].name != "__init__.py":
                visit(other, (*way, name))
        state[name] = 2

    for name in GRAPH:
        visit(name, ())


def test_the_model_can_be_read_alone():
    """Packages' own files, a docstring each, do not count."""
    files = {name for name in reached("semask.model") if MODULES[name].name != "__init__.py"} - {"semask.model"}
    assert len(files) <= 15, sorted(files)


def test_the_way_from_image_to_logits_is_short():
    files = ["model.py", "encoders/encoder.py", "encoders/swin.py", "decoders/fpn.py"]
    files += [f"semantic/{path.name}" for path in (PACKAGE / "semantic").glob("*.py")]
    assert sum(len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) for file in files) < 800


@pytest.mark.parametrize("name", MODULES)
def test_files_are_short(name):
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_packages_export_nothing():
    """Only the package's own page gives names: an import says where a thing lives."""
    for path in PACKAGE.rglob("*/__init__.py"):
        (page,) = ast.parse(path.read_text(encoding="utf-8")).body
        assert isinstance(page, ast.Expr), path


def test_the_fast_half_of_the_tests_exists():
    """A path that is gone would end the run on the oldest dependencies, which is seldom started by hand."""
    makefile = (PACKAGE.parent / "Makefile").read_text(encoding="utf-8")
    (block,) = re.findall(r"^FAST := ((?:.*\\\n)*.*)$", makefile, re.MULTILINE)
    paths = [path for path in block.split() if path != "\\"]
    assert len(paths) > 10
    for path in paths:
        assert (PACKAGE.parent / path).exists(), path


def test_files_of_tests_have_names_of_their_own():
    """Folders of tests are no packages: two files of one name would stop the run that collects both."""
    names = [path.name for path in Path(__file__).parent.rglob("*.py") if path.name not in ("conftest.py", "write.py")]
    assert sorted(names) == sorted(set(names))
