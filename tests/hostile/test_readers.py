"""Every place of the package that opens a file is known, and is attacked somewhere."""

import ast
from pathlib import Path

import semask

PACKAGE = Path(semask.__file__).parent
OPENS = {
    "open", "read_text", "read_bytes", "safe_open", "load_file", "read_model", "load_external_data", "fromfile",
    "memmap", "DictReader", "reader", "loadtxt", "genfromtxt", "imread", "deserialize_cuda_engine", "aoti_load_package",
}  # fmt: skip
"""Calls, by their last name, that read a file."""
LOADS = {
    "onnx.load",
    "torch.load",
    "np.load",
    "numpy.load",
    "json.load",
    "yaml.load",
    "pickle.load",
    "torch.export.load",
}
"""Calls, with the name before, that do too."""


def called(node: ast.Call) -> str | None:
    """Name of a call that reads a file."""
    name = ast.unparse(node.func)
    last = name.rsplit(".", 1)[-1]
    if last in OPENS and not any(isinstance(x, ast.Constant) and x.value in ("w", "wb", "a", "rb+") for x in node.args):
        return last
    return name if ".".join(name.split(".")[-2:]) in LOADS or name in LOADS else None


def readers() -> set[str]:
    """All places: file:function."""
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [x for x in ast.walk(tree) if isinstance(x, ast.FunctionDef)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and called(node):
                inside = [f.name for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)]
                found.add(f"{path.relative_to(PACKAGE).as_posix()}:{inside[-1] if inside else '<module>'}")
    return found


READERS: dict[str, str] = {}
"""Where a file is opened, and what attacks it; what we wrote ourselves a moment before says so."""


def test_every_reader_is_known():
    assert readers() == READERS.keys()


def test_what_attacks_them_is_there():
    root = PACKAGE.parent
    for place, attacked in READERS.items():
        for file in attacked.split(", "):
            assert file.startswith("ours: ") or (root / "tests" / file).is_file(), place
