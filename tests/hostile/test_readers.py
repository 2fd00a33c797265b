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


READERS: dict[str, str] = {
    "checkpoint.py:read_header": "test_checkpoint.py, hostile/test_hostile_checkpoints.py",
    "checkpoint.py:read_tensors": "test_checkpoint.py, hostile/test_hostile_checkpoints.py, fuzz.py",
    "checkpoint.py:write_tensors": "ours: just written",
    "data/coco_stuff.py:_listed_pairs": "data/test_coco_stuff.py",
    "data/dataset.py:_read_table": "ours: a table in the package",
    "data/findings.py:digest": "data/test_findings.py",
    "data/folder.py:read_classes": "data/test_folder.py, fuzz.py",
    "data/images.py:_open": "data/test_images.py, fuzz.py",
    "data/kinds.py:_tiff": "data/test_kinds.py",
    "data/kinds.py:kind_of": "data/test_kinds.py",
    "data/synthetic.py:_is_complete": "ours: the data set that the demo wrote",
    "demo.py:read_losses": "ours: the log that the demo wrote",
    "encoders/library.py:read_configuration": "hostile/test_hostile_checkpoints.py, hostile/test_hostile_recipes.py",
    "evaluate.py:sha256": "ours: bytes of a file that was read before",
    "export.py:opset": "ours: just exported",
    "exporters/digest.py:_read": "exporters/test_digest.py",
    "exporters/onnx.py:check_file": "exporters/test_onnx.py, runtime/test_runtime.py",
    "exporters/onnx.py:record": "ours: just exported",
    "exporters/openvino.py:check_operators": "exporters/test_openvino.py",
    "exporters/quantize.py:quantized": "ours: just exported",
    "files.py:append_whole": "test_whole_files.py",
    "files.py:read_text": "test_whole_files.py, data/test_folder.py, hostile/test_hostile_recipes.py",
    "files.py:sync": "ours: just written",
    "hub.py:_write_card": "test_hub.py",
    "raster.py:_turned": "test_raster.py, fuzz.py",
    "raster.py:_verify": "ours: just written",
    "raster.py:open_file": "test_raster.py, fuzz.py",
    "raster.py:place_of": "test_raster.py",
    "recipe.py:read_recipe": "hostile/test_hostile_recipes.py, fuzz.py",
    "run.py:_renew_last": "test_run.py",
    "run_log.py:read": "test_run_log.py",
    "runtime/engines.py:aot_inductor": "ours: opened with --trust only",
    "runtime/engines.py:openvino": "runtime/test_runtime.py, exporters/test_openvino.py",
    "runtime/engines.py:tensorrt": "ours: opened with --trust only",
    "runtime/engines.py:torch_program": "ours: opened with --trust only",
    "runtime/processor.py:products_saturate": "ours: the system's list of processors",
    "runtime/runtime.py:_digest": "runtime/test_runtime.py",
    "tiles.py:__init__": "test_tiles.py",
    "train.py:started_with": "test_train.py",
    "weights/fetch.py:is_checkpoint": "weights/test_fetch.py",
    "weights/files.py:convert": "weights/test_unpickle.py",
    "weights/files.py:read_safetensors": "weights/test_files.py",
    "weights/unpickle.py:load_torch": "weights/test_unpickle.py",
    "weights/unpickle.py:lock_down": "ours: the system's own files",
}
"""Where a file is opened, and what attacks it; what is our own, written a moment before, says so."""


def test_every_reader_is_known():
    assert readers() == READERS.keys()


def test_what_attacks_them_is_there():
    root = PACKAGE.parent
    for place, attacked in READERS.items():
        for file in attacked.split(", "):
            assert file.startswith("ours: ") or (root / "tests" / file).is_file(), place
