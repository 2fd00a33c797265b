"""Convert files that are built like the 17 published ones: every name, shape and format, other values.

    python tests/published_files.py MANIFESTS [--cases GLOBS]

MANIFESTS is a folder with one JSON a model: its tensors (name, shape, type), format, scope and results. For each a .pth
file is written, converted by `semask convert`, and loaded; one line a model; exit code 1 if anything differs.
The real files could not be downloaded where this was written.
"""

import argparse
import json
import sys
import tempfile
import zlib
from collections import OrderedDict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

import semask
from semask.checkpoints.names import DROPPED, official_names
from semask.checkpoints.official import convert_published
from semask.checkpoints.published import PUBLISHED, Published
from semask.cost import parameters


def value(name: str) -> float:
    """A number that tells a tensor from all others."""
    return zlib.crc32(name.encode()) / 2**32


def write(manifest: dict[str, Any], path: Path) -> None:
    """Write a checkpoint of the published form; every tensor is one value, so the file is small."""
    tensors = OrderedDict()
    for name, shape, dtype in manifest["state_dict"]:
        tensors[name] = torch.full([1] * len(shape), value(name)).to(getattr(torch, dtype)).expand(shape)
    optimizer = {"state": {0: {"step": 1, "exp_avg": torch.ones(2)}}, "param_groups": [{"params": [0]}]}
    if manifest["checkpoint"]["format"].startswith("torch.save({'meta'"):
        meta = {"mmcv_version": "1.3.0", "CLASSES": ("x",) * manifest["classes"], "config": "model = dict()\n"}
        torch.save({"meta": meta, "state_dict": tensors, "optimizer": optimizer}, path)
    else:
        torch.save({"model": tensors, "optimizer": optimizer, "iteration": 159999}, path)


def check(published: Published, manifest: dict[str, Any], folder: Path) -> str:
    """Convert and compare one model; returns what was found."""
    write(manifest, folder / "published.pth")
    model = semask.load(convert_published(folder / "published.pth", published, out=folder / "ours.safetensors"))
    names, state = official_names(model), model.state_dict()
    for ours, (name, _, _) in names.items():
        if "align_" in name and ".offset.norm." in name:
            continue  # one norm under two names: that of the layer's output counts
        expected = torch.tensor(value(name)).to(state[ours].dtype)
        assert (state[ours] == expected).all(), f"{ours} does not hold {name}"
    theirs = {name for name, _, _ in manifest["state_dict"]}
    dropped = theirs - {place.name for place in names.values()}
    assert all(DROPPED.search(name) for name in dropped), dropped
    assert parameters(model) == manifest["params"], parameters(model)
    variants = manifest["semantic_layer_variant"]["per_stage_block"]
    scope = model.config["semantic_window"]
    assert [window is None for window in scope] == [variant == "SeMaskBlock" for variant in variants], scope
    config = {name.lower(): setting for name, setting in manifest["backbone_config"].items()}
    assert {window for window in scope if window is not None} <= {config["sem_window_size"]}, scope
    assert model.config["num_classes"] == manifest["classes"]
    assert (model.config["prior_classes"] or manifest["classes"]) == manifest["prior_classes"]
    assert model.metadata["published"]["miou"] == manifest["checkpoint"]["miou"]
    assert model.metadata["published"]["miou_multiscale"] == manifest["checkpoint"]["miou_ms_flip"]
    assert manifest["checkpoint"]["gdrive_id"] == published.drive_id
    return f"{len(theirs) - len(dropped)} tensors used, {len(dropped)} dropped, {parameters(model):,} parameters"


def main() -> int:
    """Check every published model whose name matches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path)
    parser.add_argument("--cases", default="*", help="patterns of published names, separated by commas")
    options = parser.parse_args()
    wrong = 0
    for published in PUBLISHED.values():
        if not any(fnmatch(published.name, pattern) for pattern in options.cases.split(",")):
            continue
        file = options.manifests / f"{manifest_name(published)}.json"
        manifest = json.loads(file.read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            try:
                text = "ok    " + check(published, manifest, Path(folder))
            except (AssertionError, ValueError) as error:
                text, wrong = f"WRONG {error}", wrong + 1
        print(f"{published.name:42} {text}", flush=True)
    return 1 if wrong else 0


def manifest_name(published: Published) -> str:
    """Name of a model in the manifests: semask_fpn_tiny_ade20k."""
    _, size, *decoder, data = published.name.split("-")
    return "_".join(["semask", *decoder, size, data])


if __name__ == "__main__":
    sys.exit(main())
