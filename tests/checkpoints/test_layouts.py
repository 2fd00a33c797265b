import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from semask import SeMask
from semask.builder import build
from semask.checkpoints.layouts import LAYOUTS, recognize
from semask.checkpoints.names import official_names, to_official
from semask.checkpoints.pretrained import load_pretrained

SMALL = {"encoder": "swin_nano", "num_classes": 4, "channels": 32}
MASKS = {**SMALL, "decoder": "mask2former", "queries": 6, "decoder_layers": 2}


def randomized(**settings) -> SeMask:
    model = build(**settings).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def write(folder, tensors) -> str:
    """A weight file that is quick to read; what comes in pickles is tested in test_files.py and test_convert.py."""
    save_file({name: x.clone() for name, x in tensors.items()}, folder / "weights.safetensors")
    return str(folder / "weights.safetensors")


def equal(one: SeMask, other: SeMask) -> bool:
    state = other.state_dict()
    return all(x.equal(state[name]) for name, x in one.state_dict().items())


@pytest.fixture
def transformers_model():
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    swin = SwinConfig(
        embed_dim=32,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 4, 8],
        window_size=7,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=swin,
        feature_size=32,
        hidden_dim=32,
        mask_feature_size=32,
        decoder_layers=3,
        num_queries=6,
        num_labels=4,
    )
    model = Mask2FormerForUniversalSegmentation(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def test_mask2former_of_transformers_computes_the_same_here(tmp_path, transformers_model):
    transformers_model.save_pretrained(tmp_path)
    model = build(**MASKS, semantic_depths=0).eval()
    report = load_pretrained(model, str(tmp_path / "model.safetensors"))
    assert report.loaded == list(model.state_dict())
    assert report.resized == report.fresh == []
    assert {name.split(".")[-2] for name in report.unused} <= {"layernorm"}  # after the last stage, for classification
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected, output = transformers_model(pixel_values=image), model(image).prediction
    torch.testing.assert_close(output.classes, expected.class_queries_logits, atol=1e-4, rtol=1e-4)
    masks = F.interpolate(output.masks, size=expected.masks_queries_logits.shape[-2:], mode="bilinear")
    torch.testing.assert_close(masks, expected.masks_queries_logits, atol=1e-3, rtol=1e-3)


def test_mask2former_of_transformers_as_a_start_for_other_classes(tmp_path, transformers_model):
    transformers_model.save_pretrained(tmp_path)
    model = build(**{**MASKS, "num_classes": 9, "queries": 7})
    report = load_pretrained(model, str(tmp_path / "model.safetensors"))
    per_class = {f"decoder.class_predictor.{kind}" for kind in ("weight", "bias")}
    per_query = {f"decoder.transformer.queries_{kind}.weight" for kind in ("embedder", "features")}
    fresh = {name for name in report.fresh if ".semantic_layers." not in name}
    assert fresh == per_class | per_query
    assert len(report.fresh) - len(fresh) == sum(".semantic_layers." in name for name in model.state_dict())
    assert "encoder.semantic_layers.* (" in str(report)


@pytest.mark.parametrize("decoder", ["fpn", "maskformer", "mask2former", "mask2former_fapn", "mask2former_msfapn"])
def test_plain_models_of_detectron2_and_mmsegmentation_as_a_start(tmp_path, decoder):
    settings = {**MASKS, "decoder": decoder}
    plain, model = randomized(**settings, semantic_depths=0), build(**settings)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    tensors = to_official(plain) | {"criterion.empty_weight": torch.ones(5)}
    torch.save(
        {"model": tensors, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}, "iteration": 9}, tmp_path / "d2.pth"
    )
    report = load_pretrained(model, str(tmp_path / "d2.pth"))
    assert all(".semantic_layers." in name for name in report.fresh)
    assert report.unused == report.resized == []
    for name, x in model.state_dict().items():
        assert x.equal(before[name] if ".semantic_layers." in name else plain.state_dict()[name])


def test_early_name_of_the_query_features(tmp_path):
    plain, model = randomized(**MASKS, semantic_depths=0), build(**MASKS, semantic_depths=0)
    early = {name.replace("query_feat", "static_query"): x for name, x in to_official(plain).items()}
    assert any("static_query" in name for name in early)
    assert load_pretrained(model, write(tmp_path, early)).fresh == []
    assert equal(model, plain)


def test_another_decoder_stays_fresh_as_a_whole(tmp_path):
    plain, model = randomized(**MASKS, semantic_depths=0), build(**{**MASKS, "decoder": "mask2former_fapn"})
    decoder = {name: x.clone() for name, x in model.decoder.state_dict().items()}
    report = load_pretrained(model, write(tmp_path, to_official(plain)))
    assert all(x.equal(decoder[name]) for name, x in model.decoder.state_dict().items())
    assert any(name.startswith("sem_seg_head.predictor.") for name in report.unused)


def test_own_checkpoint_as_a_start_for_other_classes(tmp_path):
    trained = randomized(**SMALL)
    path = write(tmp_path, trained.state_dict())
    same = build(**SMALL)
    assert load_pretrained(same, path).fresh == []
    assert equal(same, trained)
    other = build(**{**SMALL, "num_classes": 7})
    report = load_pretrained(other, path)
    assert all(any(part in name for part in ("classifier", "semantic_query", "semantic_key")) for name in report.fresh)
    assert (
        other.encoder.semantic_layers[0]
        .attentions[0]
        .value.weight.equal(trained.encoder.semantic_layers[0].attentions[0].value.weight)
    )


def openmmlab(model: SeMask) -> dict[str, torch.Tensor]:
    """What OpenMMLab's own Swin calls the tensors, with merging by nn.Unfold."""
    tensors = {}
    for name, x in to_official(model).items():
        for ours, theirs in (
            ("backbone.layers.", "backbone.stages."),
            ("patch_embed.proj.", "patch_embed.projection."),
            (".attn.", ".attn.w_msa."),
            (".mlp.fc1.", ".ffn.layers.0.0."),
            (".mlp.fc2.", ".ffn.layers.1."),
        ):
            name = name.replace(ours, theirs)
        tensors[name] = x
    return tensors


def test_swin_of_openmmlab(tmp_path):
    plain, model = randomized(**SMALL, semantic_depths=0), build(**SMALL, semantic_depths=0).eval()
    tensors = openmmlab(plain)
    tensors["backbone.stages.0.blocks.0.attn.w_msa.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
    report = load_pretrained(model, write(tmp_path, tensors))
    assert all(name.startswith("decoder.") for name in report.fresh)
    merge, name = model.encoder.backbone.stages[1].merge, "backbone.stages.0.downsample."
    x = torch.randn(1, 32, 6, 8)
    unfolded = F.unfold(x, kernel_size=2, stride=2).transpose(1, 2)  # [1, 12, 4 * 32], channel by channel
    normed = F.layer_norm(unfolded, (128,), tensors[name + "norm.weight"], tensors[name + "norm.bias"])
    expected = F.linear(normed, tensors[name + "reduction.weight"])
    torch.testing.assert_close(merge(x.permute(0, 2, 3, 1)).flatten(1, 2), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.title)
def test_marks_tell_the_layouts_apart(layout):
    model = build(**MASKS, semantic_depths=0)
    places = [layout.rename(name) for name in model.state_dict()]
    assert recognize({place.name: torch.ones(1) for place in places if place is not None}) is layout


def test_strangers():
    with pytest.raises(
        ValueError, match=r"^no known names of tensors in it \(found e\.g\. fc\.weight, fc\.bias\): give a"
    ):
        recognize({"fc.weight": torch.ones(1), "fc.bias": torch.ones(1)})


@pytest.mark.parametrize("decoder", ["fpn", "maskformer", "mask2former", "mask2former_fapn", "mask2former_msfapn"])
def test_official_names_both_ways(decoder):
    model = randomized(**{**MASKS, "decoder": decoder, "semantic_depths": (1, 2, 0, 1)})
    names, tensors = official_names(model), to_official(model)
    assert {place.name for place in names.values()} == set(tensors)
    for ours, (name, part, parts) in names.items():
        length = len(tensors[name]) // parts if parts > 1 else None
        expected = tensors[name] if length is None else tensors[name][part * length : (part + 1) * length]
        assert model.state_dict()[ours].equal(expected)
