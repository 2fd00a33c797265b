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
    "app/page.py:_text": "ours: a file in the package",
    "app/segmenting.py:_files": "ours: just written",
    "app/segmenting.py:_without_folders": "ours: just written",
    "app/filming.py:segment_film": "ours: just written",
    "app/serving.py:find_password": "app/test_app_serving.py",
    "checkpoints/download.py:is_checkpoint": "checkpoints/test_download.py",
    "checkpoints/hub.py:_write_card": "checkpoints/test_hub.py",
    "checkpoints/recipe_table.py:recipe_rows": "ours: a table in the package",
    "checkpoints/tensors.py:read_header": "checkpoints/test_checkpoint.py, hostile/test_hostile_checkpoints.py",
    "checkpoints/tensors.py:read_tensors": "checkpoints/test_checkpoint.py, fuzz.py",
    "checkpoints/tensors.py:write_tensors": "ours: just written",
    "checkpoints/unpickle.py:load_torch": "checkpoints/test_unpickle.py",
    "checkpoints/unpickle.py:lock_down": "ours: the system's own files",
    "checkpoints/weight_files.py:convert": "checkpoints/test_unpickle.py",
    "checkpoints/weight_files.py:read_safetensors": "checkpoints/test_weight_files.py",
    "cli.py:commands": "ours: a command in the package",
    "cli.py:reader_has_gone": "ours: /dev/null",
    "commands/recipes.py:recipes": "ours: a recipe in the package",
    "data/annotations.py:head_and_tail": "hostile/test_hostile_annotations.py",
    "data/class_files.py:_read": "data/test_class_files.py, hostile/test_hostile_lists.py",
    "data/class_files.py:_table": "data/test_class_files.py, hostile/test_hostile_lists.py",
    "data/splits.py:read_split": "data/test_splits.py, hostile/test_hostile_lists.py",
    "data/classes.py:_read_table": "ours: a table in the package",
    "data/diagnostics.py:_content_digest": "data/formats/test_huggingface.py",
    "data/diagnostics.py:digest": "data/test_diagnostics.py",
    "data/film_files.py:film_format": "data/test_films.py",
    "data/films.py:_opened": "data/test_films.py, prediction/films/test_film_prediction.py",
    "data/file_types.py:_tags": "data/test_file_types.py, data/test_bands.py",
    "data/file_types.py:file_type": "data/test_file_types.py",
    "data/formats/coco_stuff.py:_listed_pairs": "data/formats/test_coco_stuff.py",
    "data/formats/folder.py:read_classes": "data/formats/test_folder.py, fuzz.py",
    "data/formats/huggingface.py:_json": "data/formats/test_huggingface.py",
    "data/formats/voc.py:_labels": "data/formats/test_voc.py",
    "data/formats/voc.py:_wanted": "data/formats/test_voc.py",
    "data/formats/voc.py:read_label_map": "data/formats/test_voc.py",
    "data/packing.py:_sample": "data/test_packing.py",
    "data/packing.py:_write_split": "ours: just written",
    "data/packing.py:_content": "data/test_packing.py, hostile/test_hostile_shards.py",
    "data/shard_index.py:read_samples": "hostile/test_hostile_shards.py",
    "data/formats/shards.py:recognize": "hostile/test_hostile_shards.py",
    "data/images.py:_explained": "data/formats/test_huggingface.py",
    "data/images.py:_open": "data/test_images.py, fuzz.py",
    "data/transform_steps.py:transform": "ours: just compressed",
    "data/stored.py:read_bytes": "data/formats/test_huggingface.py",
    "data/tables.py:_separated": "data/test_tables.py",
    "data/tables.py:read_table": "data/test_tables.py",
    "data/geo_files.py:open_file": "prediction/test_raster.py, data/test_bands.py, fuzz.py",
    "data/geo_files.py:orientation": "prediction/test_raster.py, data/test_bands.py, fuzz.py",
    "data/vector_labels.py:_content": "data/formats/test_raster_format.py",
    "data/vector_labels.py:_read_geojson": "data/formats/test_raster_format.py",
    "data/formats/labelme.py:_classes": "data/formats/test_labelme.py",
    "data/formats/yolo.py:_images": "data/formats/test_yolo.py",
    "data/annotations.py:read_json": "hostile/test_hostile_annotations.py",
    "data/packed_masks.py:decode": "hostile/test_hostile_annotations.py",
    "data/yolo_files.py:read_description": "hostile/test_hostile_annotations.py",
    "data/yolo_files.py:read_names": "data/formats/test_yolo.py",
    "data/yolo_files.py:read_objects": "data/formats/test_yolo.py",
    "doctor/cache.py:__init__": "doctor/test_doctor.py",
    "doctor/cache.py:get": "doctor/test_doctor.py",
    "doctor/class_lists.py:_other_encoding": "doctor/test_doctor.py, doctor/test_broken.py",
    "doctor/class_lists.py:read_class_list": "doctor/test_doctor.py, doctor/test_broken.py",
    "doctor/facts.py:opened": "doctor/test_broken.py",
    "doctor/facts.py:read_header": "doctor/test_broken.py, doctor/test_doctor.py",
    "doctor/findings.py:places": "ours: just written",
    "doctor/fix.py:_copy": "doctor/test_fix.py",
    "encoders/library.py:read_configuration": "hostile/test_hostile_checkpoints.py, hostile/test_hostile_recipes.py",
    "explain/page.py:page": "ours: files in the package",
    "engines/digest.py:_read": "engines/test_digest.py",
    "engines/exported.py:open_exported": "engines/test_runtime.py",
    "engines/formats/aot_inductor.py:open_file": "ours: opened with --trust only",
    "engines/formats/onnx.py:check_file": "engines/formats/test_onnx.py, engines/test_runtime.py",
    "engines/formats/onnx.py:record": "ours: just exported",
    "engines/formats/openvino.py:check_operators": "engines/formats/test_openvino.py",
    "engines/formats/openvino.py:open_file": "engines/test_runtime.py, engines/formats/test_openvino.py",
    "engines/formats/tensorrt.py:open_file": "ours: opened with --trust only",
    "engines/formats/torch_program.py:open_file": "ours: opened with --trust only",
    "engines/processor.py:_lines": "ours: the system's list of processors",
    "engines/quantize.py:quantized": "ours: just exported",
    "engines/runtime.py:_digest": "engines/test_runtime.py",
    "evaluation/image_counts.py:read_counts": "evaluation/test_image_counts.py",
    "files/atomic.py:append_whole": "files/test_atomic.py",
    "files/atomic.py:sync": "ours: just written",
    "files/disk_cache.py:_total": "files/test_disk_cache.py",
    "files/disk_cache.py:get": "files/test_disk_cache.py",
    "files/ranges.py:read": "data/test_packing.py, hostile/test_hostile_shards.py, files/test_ranges.py",
    "files/reading.py:read_text": "files/test_atomic.py, data/formats/test_folder.py, hostile/test_hostile_recipes.py",
    "files/reading.py:sha256": "ours: bytes of a file that was read before",
    "prediction/parts.py:lines": "ours: just written",
    "prediction/films/predict.py:_segmented": "ours: just written",
    "prediction/films/state.py:__init__": "ours: the note of a run that was stopped",
    "prediction/films/state.py:past": "ours: what a run that was stopped kept",
    "prediction/outputs/probabilities.py:write_tiff": "ours: just written",
    "prediction/probability_parts.py:_map": "ours: the run's own parts",
    "prediction/raster.py:place_of": "prediction/test_raster.py",
    "prediction/raster_writing.py:verify": "ours: just written",
    "prediction/tiles.py:__init__": "prediction/test_tiles.py",
    "reporting/reading.py:_read_json": "reporting/test_page.py, reporting/test_report_logs.py",
    "reporting/reading.py:read_log": "reporting/test_report_logs.py",
    "reporting/report.py:require_replaceable": "reporting/test_page.py",
    "serving/client.py:body_of": "ours: a file that the caller sends",
    "serving/codec.py:used": "ours: the system's own files",
    "serving/fetching.py:read_origin": "serving/test_label_studio_backend.py",
    "serving/security.py:read_tokens": "serving/test_security.py",
    "settings/recipe.py:read_recipe": "hostile/test_hostile_recipes.py, fuzz.py",
    "synthetic/dataset.py:_is_complete": "ours: the data set that the demo wrote",
    "training/demo.py:read_first": "ours: the picture that the demo wrote",
    "training/demo.py:read_losses": "ours: the log that the demo wrote",
    "training/demo.py:read_note": "ours: the note that the demo wrote",
    "training/log.py:read": "training/test_log.py",
    "training/kept.py:_renew_last": "training/test_run.py",
    "training/state_files.py:_shapes": "training/test_state_files.py",
    "training/state_files.py:crc32": "training/test_state_files.py, training/test_run.py",
    "training/state_files.py:read_manifest": "training/test_state_files.py, training/test_run.py",
}
"""Where a file is opened, and what attacks it; what is our own, written a moment before, says so."""


def test_every_reader_is_known():
    assert readers() == READERS.keys()


def test_what_attacks_them_is_there():
    root = PACKAGE.parent
    for place, attacked in READERS.items():
        for file in attacked.split(", "):
            assert file.startswith("ours: ") or (root / "tests" / file).is_file(), place
