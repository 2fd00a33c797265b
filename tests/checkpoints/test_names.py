import hashlib
from pathlib import Path

import pytest
import torch
import yaml
from published_recipes import MANIFESTS

from semask.builder import build
from semask.checkpoints.names import official_names

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", MANIFESTS)
def test_names_and_shapes_are_those_of_the_published_checkpoints(name):
    entry = MANIFESTS[name]
    settings = yaml.safe_load((ROOT / "semask" / "recipes" / entry["config"]).read_text(encoding="utf-8"))["model"]
    with torch.device("meta"):
        model = build(**{**settings, "num_classes": entry["classes"]})
    names = official_names(model)
    assert len(set(names.values())) == len(names) == entry["tensors"]
    lines = sorted(f"{names[ours].name} {'x'.join(map(str, x.shape))}" for ours, x in model.state_dict().items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == entry["sha256"]


@pytest.mark.parametrize(
    ("ours", "official"),
    [
        ("encoder.backbone.stem.projection.weight", "backbone.patch_embed.proj.weight"),
        ("encoder.backbone.stages.1.merge.norm.weight", "backbone.layers.0.downsample.norm.weight"),
        ("encoder.norms.2.bias", "backbone.norm2.bias"),
        (
            "encoder.semantic_layers.1.attentions.1.projection.weight",
            "backbone.layers.1.semantic_layer.class_injection.1.mlp_res.weight",
        ),
        ("decoder.levels.3.4.1.running_mean", "decode_head.scale_heads.3.4.bn.running_mean"),
        ("decoder.classifier.bias", "decode_head.conv_seg.bias"),
    ],
)
def test_names_in_words(ours, official):
    names = official_names(build("swin_nano", num_classes=2, channels=8, semantic_depths=2))
    assert names[ours].name == official
