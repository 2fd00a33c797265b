import pytest
import torch
from safetensors.torch import load_file
from test_run import after_step, assert_same_run, stop
from torch import nn

from semask.builder import build
from semask.model import SeMask
from semask.settings.training import Training
from semask.training.parameters import drop_gradients, keep_statistics, parameter_groups
from semask.training.run import Run


def factors(model: SeMask, **settings) -> dict[str, float]:
    names = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, Training(**settings))
    found = {names[id(p)]: group["factor"] for group in groups for p in group["params"]}
    assert found.keys() == set(names.values())
    return found


def test_the_blocks_of_a_swin_are_layers():
    found = factors(build("swin_nano", num_classes=3, channels=8), layer_decay=0.5, encoder_lr=0.1)
    stages = build("swin_nano", num_classes=3, channels=8).encoder.backbone.stages
    depths = [len(stage.blocks) for stage in stages]
    L = sum(depths)
    assert found["encoder.backbone.stem.projection.weight"] == pytest.approx(0.1 * 0.5 ** (L + 1))
    last = 0
    for s, depth in enumerate(depths):
        if s:
            merge = found[f"encoder.backbone.stages.{s}.merge.reduction.weight"]
            assert merge == found[f"encoder.backbone.stages.{s}.blocks.0.attention.qkv.weight"]
        for b in range(depth):
            last += 1
            block = {x for name, x in found.items() if name.startswith(f"encoder.backbone.stages.{s}.blocks.{b}.")}
            assert sorted(block) == pytest.approx([0.1 * 0.5 ** (L + 1 - last)])
        for part in (f"encoder.semantic_layers.{s}.", f"encoder.norms.{s}."):
            assert {x for name, x in found.items() if name.startswith(part)} == block
    assert {x for name, x in found.items() if not name.startswith("encoder.")} == {1.0}


@pytest.mark.parametrize("name", ["timm/resnet10t", "timm/twins_svt_small", "timm/vit_tiny_patch16_224"])
def test_the_stages_of_other_backbones_are_layers(name):
    model = build(name, num_classes=3, channels=8)
    backbone = {k: x for k, x in factors(model, layer_decay=0.5).items() if k.startswith("encoder.backbone.")}
    scales = {stage: 0.5 ** (5 - stage) for stage in range(5)}
    assert set(backbone.values()) <= set(scales.values())
    assert {scales[1], scales[2], scales[3], scales[4]} <= set(backbone.values())
    part = {"timm/resnet10t": "layer{}.", "timm/twins_svt_small": "blocks.{}."}.get(name)
    for stage in (1, 2, 3, 4) if part else ():
        start = "encoder.backbone.model." + part.format(stage - ("blocks" in part))
        assert {x for k, x in backbone.items() if k.startswith(start)} == {scales[stage]}, start
    if "vit" in name:
        assert backbone["encoder.backbone.model.pos_embed"] == scales[0]
        assert {x for k, x in factors(model, layer_decay=0.5).items() if k.startswith("encoder.pyramid")} == {1.0}


def test_without_layer_decay_the_groups_are_those_of_before():
    model = build("swin_nano", num_classes=3, channels=8)
    assert set(factors(model).values()) == {1.0}
    assert set(factors(model, encoder_lr=0.1).values()) == {0.1, 1.0}
    assert [len(g["params"]) for g in parameter_groups(model, Training(layer_decay=1.0))] == [
        len(g["params"]) for g in parameter_groups(model, Training())
    ]


def test_what_is_frozen_neither_moves_nor_decays_nor_counts():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    before = {name: x.clone() for name, x in net.state_dict().items()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=1.0, weight_decay=1.0)
    keep_statistics(net.train())
    net(torch.randn(2, 3, 5, 5)).square().mean().backward()
    drop_gradients(net)
    optimizer.step()
    assert all(x.equal(before[name]) for name, x in net.state_dict().items())
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize("stopped_at", [2, 4])
def test_a_backbone_is_frozen_for_the_first_steps_and_a_stop_changes_nothing(
    semask, recipe, tmp_path, monkeypatch, stopped_at
):
    settings = {"steps": 5, "save_every": 1, "evaluate_every": 2, "freeze_encoder_steps": 3, "layer_decay": 0.8,
                "batch_size": 4, "accumulate": 2, "clip_norm": 0.5, "weight_decay": 0.1, "ema": 0.5}  # fmt: skip
    weights: list[dict[str, torch.Tensor]] = []
    with monkeypatch.context() as patch:
        finish_step = Run.finish_step

        def watched(run: Run, lr: float) -> None:
            finish_step(run, lr)
            weights.append({name: x.clone() for name, x in run.model.state_dict().items()})

        patch.setattr(Run, "finish_step", watched)
        semask(*recipe(tmp_path / "whole", **settings))
    start = weights[0]
    backbone = [name for name, _ in build("swin_nano").named_parameters() if name.startswith("encoder.backbone.")]
    moved = [sum(not x[name].equal(start[name]) for name in backbone) for x in weights]
    assert moved[:3] == [0, 0, 0]
    assert moved[3] == len(backbone)
    assert not weights[1]["encoder.semantic_layers.0.norm.weight"].equal(start["encoder.semantic_layers.0.norm.weight"])
    with monkeypatch.context() as patch:
        after_step(patch, stopped_at, stop)
        semask(*recipe(tmp_path / "stopped", **settings), code=130)
    semask(*recipe(tmp_path / "stopped", **settings), "--resume")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")
    assert load_file(tmp_path / "whole" / "last.safetensors")
