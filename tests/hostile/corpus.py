"""Hostile and damaged settings, made by script and grouped by what they attack; the tests beside this use them."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from semask.builder import build
from semask.checkpoints.tensors import FORMAT

SMALL = {"encoder": "swin_nano", "decoder": "fpn", "num_classes": 3, "channels": 8}

WRONG: list[Any] = [
    None,
    "x",
    "9" * 400,
    "[/b]\x1b[2J\u202e",
    -1,
    0,
    10**6,
    10**12,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    True,
    [],
    [None],
    [1, "x"],
    [[[[[[[[1]]]]]]]],
    {},
    {"class_path": "os.system", "init_args": {"command": "touch executed"}},
]
"""What any value of a file may be instead."""

CODE: dict[str, dict[str, Any]] = {
    "remote code of a folder": {"encoder": "transformers/FOLDER", "encoder_options": {"trust_remote_code": True}},
    "a folder": {"encoder": "transformers/FOLDER"},
    "a folder beside": {"encoder": "transformers/./stranger"},
    "a folder above": {"encoder": "transformers/../stranger"},
    "code revision": {"encoder": "transformers/mit_b0", "encoder_options": {"code_revision": "main"}},
    "auto map": {"encoder": "transformers/mit_b0", "encoder_options": {"auto_map": {"AutoModel": "evil.Model"}}},
    "class path": {"encoder": {"class_path": "evil.Model"}},
    "class path of a decoder": {"decoder": {"class_path": "evil.Model"}},
    "layer by name": {"encoder": "timm/resnet18", "encoder_options": {"norm_layer": "evil.Model"}},
    "local folder of timm": {"encoder": "timm/local-dir:FOLDER"},
    "checkpoint of timm": {"encoder": "timm/resnet18", "encoder_options": {"checkpoint_path": "FOLDER/weights.pth"}},
}
"""Models that name code or files of a stranger; FOLDER is one that leaves a mark when its code runs."""

NETWORK: dict[str, dict[str, Any]] = {
    "pretrained": {"encoder": "timm/resnet18", "encoder_options": {"pretrained": True}},
    "pretrained_cfg": {
        "encoder": "timm/resnet18",
        "encoder_options": {"pretrained": True, "pretrained_cfg": {"url": "ADDRESS/weights.pth"}},
    },
    "pretrained_cfg_overlay": {
        "encoder": "timm/resnet18",
        "encoder_options": {"pretrained_cfg_overlay": {"url": "ADDRESS/weights.pth"}, "pretrained": True},
    },
    "address": {"encoder": "timm/ADDRESS/resnet18"},
    "address of transformers": {"encoder": "transformers/ADDRESS/model"},
    "hub of timm": {"encoder": "timm/hf-hub:owner/name"},
    "hub of transformers": {"encoder": "transformers/owner/name"},
    "use_auth_token": {"encoder": "transformers/mit_b0", "encoder_options": {"token": "secret", "proxies": {}}},
}
"""Models that name something to fetch; ADDRESS is that of a server which counts its visitors."""

UNBOUNDED: dict[str, dict[str, Any]] = {
    "layers": {"decoder": "mask2former", "decoder_layers": 10**6},
    "layers of an option": {"decoder": "mask2former", "decoder_options": {"encoder_layers": 10**6}},
    "convolutions": {"decoder": "fcn", "decoder_options": {"convs": 10**6}},
    "many bins": {"decoder": "sfnet", "decoder_options": {"bins": [1] * 10**5}},
    "channels": {"channels": 10**6},
    "wide, but allowed": {"channels": 8192},
    "classes": {"num_classes": 10**9},
    "one class": {"num_classes": 1},
    "semantic blocks": {"semantic_depths": 10**6},
    "many stages": {"semantic_depths": [1] * 10**5},
    "window": {"window": 10**6},
    "input channels": {"in_channels": 10**6, "mean": [0.5] * 10**6, "std": [0.5] * 10**6},
    "queries": {"decoder": "maskformer", "queries": 10**9},
    "the largest of a library": {"encoder": "timm/vit_giant_patch14_dinov2"},
    "depth of a library": {"encoder": "timm/swin_tiny_patch4_window7_224", "encoder_options": {"depths": [10**5] * 4}},
    "width of a library": {"encoder": "transformers/segformer", "encoder_options": {"hidden_sizes": [10**9] * 4}},
    "blocks of a library": {"encoder": "transformers/pvt_v2", "encoder_options": {"num_encoder_blocks": 10**6}},
}
"""Models that are far larger than the file which describes them."""


def metadata(**changes: Any) -> dict[str, Any]:
    """What a real checkpoint says of itself, with settings of its model changed."""
    model = build(**SMALL)
    return {
        "recipe": {
            "model": {**model.config, **changes},
            "data": {"root": "x", "format": "folder", "val_split": None, "workers": 0},
            "evaluation": {"scale": [64, 48], "mode": "slide", "crop": [32, 32], "stride": [21, 21], "flip": False},
            "training": {"steps": 3, "batch_size": 2, "pretrained": None},
        },
        "classes": {"classes": ["road", "sky", "tree"], "palette": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]},
        "step": 3,
        "metrics": {"miou": 0.5, "mean_accuracy": None, "overall_accuracy": 1.0},
        "licence": "Apache-2.0",
        "calibration": {
            "temperature": 1.5,
            "ece": [0.1, 0.02],
            "nll": [0.7, 0.6],
            "data": "x",
            "split": None,
            "images": 3,
            "pixels": 9,
        },
        "changes": [{"step": 2, "changes": {"training.pretrained": [None, "/home/me/x.pth"], "data.root": ["a", "b"]}}],
        "published": {"name": "x", "miou": 40.0, "miou_multiscale": 41.0, "licence": "MIT", "url": "x"},
    }


def write_checkpoint(path: Path, described: Any, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """Write a checkpoint without any of the checks of ours, as a stranger would."""
    text = described if isinstance(described, str) else json.dumps(described)
    tensors = build(**SMALL).state_dict() if tensors is None else tensors
    save_file(dict(tensors), path, metadata={"format": FORMAT, "semask": text})
    return path


def mutations(values: Any, part: str) -> Iterator[tuple[str, Any]]:
    """Every value of a part of a JSON object, at every depth, in turn: left out, and replaced by each of `WRONG`.

    Args:
        values: The object.
        part: Beginning of the paths, e.g. "recipe.model"; "" for all that is in no part of its own.
    """
    for path in _paths(values):
        label = ".".join(map(str, path))
        if not label.startswith(part) if part else label.startswith(("recipe.", "classes.")):
            continue
        yield f"no {label}", _changed(values, path, _GONE)
        for wrong in WRONG:
            yield f"{label} = {wrong!r}"[:60], _changed(values, path, wrong)


_GONE = object()


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(part, (*path, key))


def _changed(values: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    changed = copy.deepcopy(values)
    place = changed
    for key in path[:-1]:
        place = place[key]
    if wrong is _GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = wrong
    return changed


def stranger(folder: Path, mark: Path) -> Path:
    """A folder like those of the Hub, whose code leaves a mark when it is run."""
    folder.mkdir(parents=True)
    automatic = {"AutoConfig": "modeling.Config", "AutoModel": "modeling.Model"}
    config = {"model_type": "segformer", "auto_map": automatic, "architectures": ["Model"]}
    (folder / "config.json").write_text(json.dumps(config))
    code = f"open({str(mark)!r}, 'w').close()\n"
    code += "from transformers import SegformerConfig as Config, SegformerModel as Model\n"
    (folder / "modeling.py").write_text(code)
    (folder / "evil.py").write_text(code)
    return folder


BOMBS = {
    "aliases": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "deep lists": "model: " + "[" * 50_000,
    "deep objects": "model: " + "{a: " * 25_000,
    "deep blocks": "\n".join(" " * i + "a:" for i in range(600)),
    "tag": "model: !!python/object/apply:os.system ['touch executed']",
    "merge": "model: &m {channels: 8}\nloss: {<<: *m}",
    "long number": "training: {steps: " + "9" * 400 + "}",
    "longer number": "training: {steps: " + "9" * 100_000 + "}",
    "batch": "training: {batch_size: 10000000000}",
    "power": "training: {power: .nan}",
    "rate": "training: {warmup_ratio: -1}",
    "infinite": "training: {lr: .inf}",
    "classes": "model: {num_classes: 1}",
    "crop": "augmentation: {crop: [1000000, 1000000]}",
    "ratios": "evaluation: {ratios: [" + "1.0, " * 20_000 + "1.0]}",
    "windows": "evaluation: {window_batch: 1000000000}",
    "workers": "data: {workers: 100000}",
    "class path": "model: {encoder: {class_path: evil.Model}}",
    "class path of a section": "model: {class_path: evil.Model, init_args: {}}",
    "address": "training: {pretrained: 'http://127.0.0.1:9/x.pth'}",
    "twice": "training: {steps: 3, steps: 4}",
    "other section": "hooks: {on_start: 'touch executed'}",
    "out": "out: /tmp/elsewhere",
    "control characters": 'data: {root: "a\\x1b[2Jb\\0"}',
    "bytes": "data: {root: !!binary aGVsbG8=}",
    "two documents": "model: {}\n---\nmodel: {}",
    "many names": "model: {" + ", ".join(f"a{i}: 1" for i in range(20_000)) + "}",
    "large": "# " + "x" * 300_000,
}
"""Recipes that attack their reader."""
