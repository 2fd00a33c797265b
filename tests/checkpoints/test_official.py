import copy
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import semask as package
from semask import SeMask
from semask.builder import build
from semask.checkpoints.converting import convert
from semask.checkpoints.names import to_official
from semask.checkpoints.official import read_settings
from semask.checkpoints.published import PUBLISHED

SMALL = {"encoder": "swin_nano", "num_classes": 4, "channels": 32, "semantic_window": [5, 7, None, None]}
DECODERS = {
    "fpn": {},
    "maskformer": {"queries": 6, "decoder_layers": 2},
    "mask2former": {"queries": 6, "decoder_layers": 3},
    "mask2former_fapn": {"queries": 6, "decoder_layers": 3},
    "mask2former_msfapn": {"queries": 6, "decoder_layers": 3},
}


OWN_WIDTHS = {
    "maskformer": [
        {"pixel_channels": 64},
        {"mask_channels": 48, "feedforward": 96},
        {"input_projection": False},  # with the width of the coarsest map, below
    ],
    "mask2former": [
        {"pixel_channels": 64, "mask_channels": 48, "feedforward": 96, "encoder_layers": 2, "heads": 4},
        {"input_projection": True},
    ],
    "mask2former_fapn": [{"pixel_channels": 64, "mask_channels": 48}],
    "mask2former_msfapn": [{"pixel_channels": 64, "encoder_layers": 1}],
}
"""decoder_options of models of people's own: detectron2's CONVS_DIM, MASK_DIM, DIM_FEEDFORWARD, ENFORCE_INPUT_PROJ,
TRANSFORMER_ENC_LAYERS and NHEADS."""


def randomized(**settings) -> SeMask:
    model = build(**settings).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def official(model: SeMask) -> dict[str, torch.Tensor]:
    """The state dict that the published code would write, with what no tensor of ours answers to."""
    tensors = OrderedDict(to_official(model))
    for i in range(4):
        for j in range(2):
            tensors[f"backbone.layers.{i}.blocks.{j}.attn.relative_position_index"] = torch.zeros(49, 49).long()
    if "sem_seg_head.predictor.class_embed.bias" in tensors:
        tensors["criterion.empty_weight"] = torch.ones(5)
    return tensors


def write(path: Path, tensors: dict[str, torch.Tensor], *, names: tuple[str, ...] = ()) -> Path:
    """A training checkpoint as mmsegmentation or detectron2 writes it."""
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    if any(name.startswith("decode_head.") for name in tensors):
        meta = {"iter": 80000, "CLASSES": names, "PALETTE": [[i, 0, 9] for i in range(len(names))], "config": "a = 1"}
        torch.save({"meta": meta, "state_dict": tensors, "optimizer": optimizer}, path)
    else:
        torch.save({"model": tensors, "optimizer": optimizer, "scheduler": {"last_epoch": 5}, "iteration": 5}, path)
    return path


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder(tmp_path, semask, decoder):
    model = randomized(**SMALL, **DECODERS[decoder], decoder=decoder)
    source = write(tmp_path / "theirs.pth", official(model), names=("road", "sky", "tree", "car"))
    output = semask("convert", source, "--semantic_window", "[5,7,null,null]")
    assert "4 classes, priors of 4, semantic scope 5, 7, global, global, its learned scale " in output.out
    assert f"{model.encoder.semantic_layers[3].attentions[0].scale.item():.3g}" in output.out
    converted = package.load(tmp_path / "theirs.safetensors")
    assert {**model.config, "dropout": 0.1} == converted.config
    assert all(x.equal(model.state_dict()[name]) for name, x in converted.state_dict().items())
    assert list(converted.state_dict()) == list(model.state_dict())
    image = torch.randn(1, 3, 70, 90)
    with torch.no_grad():
        ours, theirs = converted(image, with_prior=True), model(image, with_prior=True)
    assert ours.prior_logits.equal(theirs.prior_logits)
    assert converted.metadata["source"]["file"] == "theirs.pth"
    assert "theirs.safetensors: already exists; pass --overwrite" in semask.refused("convert", source)
    if decoder == "fpn":
        assert package.Predictor(converted).classes.names == ("road", "sky", "tree", "car")
        assert package.Predictor(converted).classes.palette[3] == (3, 0, 9)


@pytest.mark.parametrize(
    ("decoder", "options"), [(name, options) for name, some in OWN_WIDTHS.items() for options in some], ids=str
)
def test_mask_decoders_of_other_widths(tmp_path, decoder, options):
    width = 256 if options == {"input_projection": False} else 32
    settings = {**SMALL, **DECODERS[decoder], "channels": width, "decoder_options": options}
    model = randomized(**settings, decoder=decoder)
    tensors = official(model)
    if options.get("pixel_channels") and decoder != "maskformer":
        assert tensors["sem_seg_head.predictor.input_proj.0.weight"].shape == (32, 64, 1, 1)
    assert tensors["sem_seg_head.pixel_decoder.mask_features.weight"].shape[:2] == (
        options.get("mask_channels", width), options.get("pixel_channels", width)
    )  # fmt: skip
    source = write_plain(tmp_path / "theirs.safetensors", tensors)
    converted = package.load(convert(str(source), out=str(tmp_path / "ours.safetensors"), semantic_window=(7, 7, 7, 7)))
    assert converted.config["decoder_options"] == options
    assert {**model.config, "dropout": 0.1, "semantic_window": [7, 7, 7, 7]} == converted.config
    assert all(x.equal(model.state_dict()[name]) for name, x in converted.state_dict().items())
    with torch.no_grad():
        assert converted(torch.randn(1, 3, 64, 96)).prediction.masks.shape == (1, 6, 16, 24)


@pytest.mark.parametrize(
    "settings",
    [
        {"prior_classes": 3},
        {"semantic_depths": [1, 2, 1, 1]},
        {"semantic_depths": 2},
        {"window": 5},
        {"in_channels": 1, "mean": [0.5], "std": [0.5]},
        {"encoder": "swin_tiny"},
        {"encoder": "swin_base"},
    ],
    ids=str,
)
def test_what_the_file_decides(settings):
    with torch.device("meta"):
        model = build(**{**SMALL, **settings})
    read = read_settings(to_official(model), Path("x.pth"))
    assert {**model.config, **read, "mean": model.config["mean"], "std": model.config["std"]} == model.config


def test_plain_swin_needs_no_scope(tmp_path):
    model = randomized(**SMALL, semantic_depths=0)
    path = convert(str(write(tmp_path / "plain.pth", official(model))), out=str(tmp_path / "plain.safetensors"))
    assert package.load(path).config["semantic_depths"] == 0


def test_scope_is_never_guessed(tmp_path, semask):
    source = write_plain(tmp_path / "theirs.safetensors", official(randomized(**SMALL)))
    message = semask.refused("convert", source, "--out", tmp_path / "new.safetensors")
    assert "which scope has its semantic attention? The file can't tell: give --published NAME" in message
    assert list(tmp_path.iterdir()) == [source]


def test_priors_of_published_coco_models_are_read_from_the_file(tmp_path, monkeypatch):
    published = PUBLISHED["semask-tiny-fpn-cocostuff10k"]
    window = list(published.semantic_window)
    for priors in (150, 171):
        model = build("swin_tiny", num_classes=171, prior_classes=priors, semantic_window=window)
        source = write_plain(tmp_path / "coco.safetensors", official(model))
        converted = package.load(
            convert(str(source), published=published.name, out=str(tmp_path / f"{priors}.safetensors"))
        )
        assert (converted.config["prior_classes"] or 171) == priors
        assert converted.config["semantic_window"] == window
        assert converted.metadata["published"]["miou"] == published.miou
        assert converted.metadata["recipe"]["data"] == {"format": "coco_stuff"}
        assert converted.metadata["classes"]["classes"][0] == "person"


def test_another_published_model(tmp_path, semask):
    source = write_plain(tmp_path / "nano.safetensors", official(randomized(**SMALL)))
    out = tmp_path / "new.safetensors"
    message = semask.refused("convert", source, "--published", "semask-tiny-fpn-ade20k", "--out", out)
    assert (
        "nano.safetensors: this is a swin_nano with fpn, but semask-tiny-fpn-ade20k is a swin_tiny with fpn" in message
    )
    message = semask.refused("convert", source, "--published", "semask-tiny-fpn-ade20")
    assert "'semask-tiny-fpn-ade20' is no published model: did you mean semask-tiny-fpn-ade20k, " in message
    message = semask.refused(
        "convert", source, "--published", "semask-tiny-fpn-ade20k", "--semantic_window", "[7,7,7,7]"
    )
    assert "has its own scope and data" in message


def write_plain(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """The tensors alone, in a file that is quicker to read than a pickle."""
    save_file({name: x.clone() for name, x in tensors.items()}, path)
    return path


def remove(tensors):
    del tensors["decode_head.conv_seg.bias"]


def add(tensors):
    tensors["decode_head.extra.weight"] = torch.ones(2)
    tensors["auxiliary_head.conv_seg.bias"] = torch.ones(2)


def reshape(tensors):
    tensors["backbone.layers.1.semantic_layer.class_injection.0.mlp_v.weight"] = torch.ones(3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove, "1 tensors are missing: decode_head.conv_seg.bias"),
        (add, "2 tensors have no place: auxiliary_head.conv_seg.bias, decode_head.extra.weight"),
        (reshape, "class_injection.0.mlp_v.weight is [3, 3], which does not fit the other tensors: expected [64, 64]"),
        (lambda tensors: tensors.pop("backbone.patch_embed.proj.weight"), "not a checkpoint of the published SeMask"),
        (lambda tensors: tensors.pop("decode_head.conv_seg.weight"), "not a checkpoint of the published SeMask"),
        (
            lambda tensors: tensors.update({"backbone.patch_embed.proj.weight": torch.ones(48, 3, 4, 4)}),
            "a Swin of no known size: 48 channels, depths (2, 2, 2, 2), heads (1, 2, 4, 8)",
        ),
    ],
)
def test_other_tensors_are_named(tmp_path, semask, change, message):
    tensors = copy.copy(official(randomized(**SMALL)))
    change(tensors)
    source = write_plain(tmp_path / "changed.safetensors", tensors)
    refusal = semask.refused("convert", source, "--semantic_window", "[7,7,7,7]", "--out", tmp_path / "new.safetensors")
    assert message in refusal
    assert "changed.safetensors" in refusal
    assert not (tmp_path / "new.safetensors").exists()


def test_classes_of_a_public_data_set(tmp_path, semask):
    source = write_plain(tmp_path / "mine.safetensors", official(randomized(**{**SMALL, "num_classes": 19})))
    assert "mine.safetensors: would replace the source" in semask.refused("convert", source)
    settings = ["convert", source, "--semantic_window=[7,7,7,7]", "--out", tmp_path / "out.safetensors"]
    semask(*settings, "--format", "cityscapes")
    assert package.load(tmp_path / "out.safetensors").metadata["classes"]["classes"][0] == "road"
    assert "has 19 classes, ade20k has 150" in semask.refused(*settings, "--format", "ade20k")


def test_what_is_no_checkpoint(tmp_path, semask):
    (tmp_path / "page.pth").write_text("<html>too many downloads</html>")
    assert "page.pth: " in semask.refused("convert", tmp_path / "page.pth", "--semantic_window=[7,7,7,7]")
    assert "nowhere.pth: no such file: give a .pth or .pkl file" in semask.refused("convert", "nowhere.pth")
    message = semask.refused("convert", write(tmp_path / "x.pth", official(randomized(**SMALL))), "--out", "x.bin",
                             "--semantic_window=[7,7,7,7]")  # fmt: skip
    assert "checkpoints are .safetensors files" in message
