import pytest
import timm

import semask
from semask.builder import build
from semask.checkpoints.tensors import read_header
from semask.data.imagenet import IMAGENET_MEAN, IMAGENET_STD
from semask.encoders.backbone import Backbone
from semask.encoders.library import attach
from semask.encoders.normalization import normalization_of
from semask.settings.model import ModelSettings

HALF = (0.5, 0.5, 0.5)
IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
LITE = ((127 / 255,) * 3, (128 / 255,) * 3)


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        ("swin_nano", IMAGENET),
        ("timm/resnet18", IMAGENET),
        ("timm/vit_tiny_patch16_224", (HALF, HALF)),
        ("timm/mobilevitv2_050", ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
        ("timm/tf_efficientnet_lite0", LITE),
        ("transformers/mit_b0", IMAGENET),
        ("transformers/pvt_tiny", IMAGENET),
    ],
)
def test_a_backbones_own_are_the_defaults(encoder, expected):
    config = build(encoder, num_classes=5, channels=8).config
    assert (tuple(config["mean"]), tuple(config["std"])) == expected
    given = build(encoder, num_classes=5, channels=8, mean=(0.1, 0.2, 0.3)).config
    assert (given["mean"], tuple(given["std"])) == ([0.1, 0.2, 0.3], expected[1])


def test_lite_is_x_minus_127_by_128():
    config = build("timm/tf_efficientnet_lite0", num_classes=5, channels=8).config
    for x in (0, 127, 255):
        assert (x / 255 - config["mean"][0]) / config["std"][0] == pytest.approx((x - 127) / 128)


def test_a_model_that_is_attached():
    model = build(attach(timm.create_model("mobilevitv2_050"), num_classes=5), num_classes=5, channels=8)
    assert (model.config["mean"], model.config["std"]) == ([0.0] * 3, [1.0] * 3)


def test_a_backbone_of_your_own_has_those_of_imagenet_or_says_its_own():
    assert (Backbone.mean, Backbone.std) == (None, None)
    encoder = build("swin_nano", num_classes=5).encoder
    encoder.backbone.mean, encoder.backbone.std = HALF, HALF
    assert semask.SeMask(encoder, build("swin_nano", num_classes=5).decoder).config["mean"] == list(HALF)


def test_checkpoints_hold_numbers(tmp_path):
    """What a file says stays, whatever a later version of a library says of its model."""
    saved = build("timm/vit_tiny_patch16_224", num_classes=5, channels=8)
    path = semask.save(tmp_path / "a.safetensors", saved, {})
    assert read_header(path)["recipe"]["model"]["mean"] == list(HALF)
    old = build("timm/vit_tiny_patch16_224", num_classes=5, channels=8, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    assert semask.load(semask.save(path, old, {})).config["mean"] == list(IMAGENET_MEAN)


def test_other_channels_have_to_be_told():
    for settings in ({"in_channels": 4}, {"in_channels": 1, "mean": (0.5,)}, {"in_channels": 2, "std": (1.0, 1.0)}):
        with pytest.raises(ValueError, match="give one a channel"):
            ModelSettings(**settings)
    assert ModelSettings(in_channels=1, mean=(0.5,), std=(0.2,)).mean == (0.5,)


NO_NORMALIZATION = [
    None,
    "x",
    {},
    {"mean": "abc", "std": HALF},
    {"mean": HALF, "std": (0, 1, 1)},
    {"mean": HALF, "std": (1.0,)},
    {"mean": (float("nan"),) * 3, "std": HALF},
]


@pytest.mark.parametrize("said", NO_NORMALIZATION)
def test_what_is_no_normalization_is_not_taken(said):
    model = timm.create_model("resnet18")
    model.pretrained_cfg = said
    assert normalization_of(model) == (None, None)
