from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from transformers import SegformerConfig, SegformerModel

import semask
from semask import attach
from semask.builder import build
from semask.checkpoints.pretrained import load_pretrained
from semask.encoders.backbone import Backbone
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.library import library_backbone

TAG = "resnet18.a1_in1k"
STAGES = ["layer1", "layer2", "layer3", "layer4"]
SEGFORMER = {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 4]}


class Own(Backbone):
    """A backbone of one's own over maps [B, h, w, C]."""

    channels = (6, 8)
    strides = (4, 8)

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 6, 4, 4)
        self.halve = nn.Conv2d(6, 8, 2, 2)

    def stem(self, image):
        return self.cut(image).permute(0, 2, 3, 1)

    @property
    def stages(self):
        return [lambda x: x, lambda x: self.halve(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)]


def sequential() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.Conv2d(4, 6, 2, 2), nn.Flatten())


ATTACHED: dict[str, tuple[Callable[[], SemanticEncoder], tuple[int, ...]]] = {
    "full timm": (lambda: attach(timm.create_model("resnet18"), num_classes=5), (4, 8, 16, 32)),
    "full timm, numbered": (lambda: attach(timm.create_model("efficientnet_b0"), num_classes=5), (4, 8, 16, 32)),
    "full timm, channels last": (
        lambda: attach(timm.create_model("swin_tiny_patch4_window7_224", strict_img_size=False), num_classes=5),
        (4, 8, 16, 32),
    ),
    "full timm with a row": (lambda: attach(timm.create_model("twins_svt_small"), num_classes=5), (4, 8, 16, 32)),
    "features of timm": (
        lambda: attach(timm.create_model("pvt_v2_b0", features_only=True), num_classes=5),
        (4, 8, 16, 32),
    ),
    "getter of timm": (
        lambda: attach(timm.create_model("vit_tiny_patch16_224", features_only=True, img_size=64), num_classes=5),
        (4, 8, 16, 32),
    ),
    "transformers": (lambda: attach(SegformerModel(SegformerConfig(**SEGFORMER)), num_classes=5), (4, 8, 16, 32)),
    "stages by name": (lambda: attach(torchvision.models.resnet18(), num_classes=5, stages=STAGES), (4, 8, 16, 32)),
    "stages of a sequence": (lambda: attach(sequential(), num_classes=5, stages=["1", "2"]), (4, 8)),
    "own": (lambda: attach(Own(), num_classes=5), (4, 8)),
}


def refused(call: Callable[[], object]) -> str:
    """The one line that a mistake gets."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """What lies here is what the Hub has been asked for before; nothing else can be had."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture
def downloaded(hub) -> nn.Module:
    """A ResNet whose weights are those that timm has downloaded before."""
    model = timm.create_model(TAG).eval()
    folder = hub / f"models--timm--{TAG}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(model.state_dict(), folder / "snapshots" / ("0" * 40) / "model.safetensors")
    return model


def first_stage(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    return model.layer1(model.maxpool(model.act1(model.bn1(model.conv1(image)))))


@pytest.mark.parametrize("name", ATTACHED)
def test_attached(name):
    make, strides = ATTACHED[name]
    encoder = make().eval()
    assert encoder.strides == strides
    maps, priors = encoder(torch.randn(1, 3, 64, 64))
    assert [x.shape for x in maps] == [(1, c, 64 // s, 64 // s) for c, s in zip(encoder.channels, strides, strict=True)]
    assert all(prior.shape[1] == 5 for prior in priors)
    assert len(priors) == len(maps)
    model = build(encoder, num_classes=5, channels=16).eval()
    assert model(torch.randn(1, 3, 64, 64)).logits.shape == (1, 5, 16, 16)


def test_what_is_attached_is_trained():
    model = timm.create_model("resnet18")
    encoder = attach(model, num_classes=5)
    sum(x.square().mean() for x in encoder(torch.randn(2, 3, 64, 64)).maps).backward()
    assert model.conv1.weight.grad.any()
    assert (
        encoder.state_dict()["backbone.model.layer1.0.conv1.weight"].data_ptr()
        == model.layer1[0].conv1.weight.data_ptr()
    )


def test_only_the_last_stages_are_global_unless_you_say_so():
    assert [x.window for x in ATTACHED["full timm"][0]().semantic_layers] == [7, 7, None, None]
    assert [x.window for x in attach(Own(), num_classes=5, semantic_window=(4, 5)).semantic_layers] == [4, 5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: library_backbone("timm/xcit_nano_12_p16_224"), "Xcit can't be run stage by stage"),
        (lambda: library_backbone("timm/pit_ti_224"), "can't be run stage by stage"),
        (lambda: library_backbone("timm/levit_128s"), "LevitDistilled can't be run stage by stage"),
        (lambda: library_backbone("timm/coat_tiny"), "choose CoaT-Lite, e.g. timm/coat_lite_tiny"),
        (lambda: library_backbone("timm/no_such_model"), "has no such model (timm.list_models())"),
        (lambda: library_backbone("timm/resnet18.no_such_tag"), "Invalid pretrained tag (no_such_tag)"),
        (
            lambda: library_backbone("timm/resnet18", options={"sice": 3}),
            "encoder_options has no setting 'sice': its own are always_partition",
        ),
        (lambda: library_backbone("timm/"), "give a name of ours, timm/MODEL or transformers/MODEL"),
        (lambda: library_backbone("keras/resnet18"), "give a name of ours, timm/MODEL or transformers/MODEL"),
        (lambda: library_backbone("transformers/mit_b6"), "choose one of mit_b0, mit_b1, mit_b2"),
        (lambda: attach(nn.Linear(3, 3), num_classes=5), "Linear can't be run stage by stage"),
        (lambda: attach(timm.create_model("xcit_nano_12_p16_224"), num_classes=5), "Xcit can't be run stage by stage"),
        (lambda: attach(timm.create_model("pit_ti_224"), num_classes=5), "can't be run stage by stage"),
        (lambda: attach(timm.create_model("levit_128s"), num_classes=5), "LevitDistilled can't be run stage by stage"),
        (lambda: attach("resnet18", num_classes=5), "backbone is a str: give a torch module"),
        (
            lambda: attach(timm.create_model("resnet18"), num_classes=5, stages=["layer1", "layer9"]),
            "['layer9'] not among the model's modules conv1, bn1, act1, maxpool, layer1, layer2, layer3, layer4",
        ),
        (
            lambda: attach(timm.create_model("resnet18"), num_classes=5, stages=["layer2", "layer1"]),
            "not in the order in which the model runs them",
        ),
        (
            lambda: attach(timm.create_model("twins_svt_small"), num_classes=5, stages=["blocks.0"]),
            "can't be run one after another",
        ),
        (
            lambda: attach(torchvision.models.swin_t(), num_classes=5, stages=["features.1", "features.3"]),
            "not maps [B, C, h, w]",
        ),
        (lambda: build("timm/resnet18", num_classes=5, window=7), "window is 7: not for timm/resnet18"),
        (lambda: build("timm/shvit_s1", num_classes=5), "semantic_window has 4 values, but the encoder has 3 stages"),
    ],
)
def test_refused(make, message):
    assert message in refused(make)


class Net(nn.Module):
    """Two stages; `between` comes after the first one in the model's own forward."""

    def __init__(self, between=None, head=None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.layer1 = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.layer2 = nn.Conv2d(8, 16, 3, 2, 1)
        self.between, self.head = between or (lambda net, x: x), head

    def forward(self, image):
        x = self.layer2(self.between(self, self.layer1(self.stem(image))))
        return x if self.head is None else self.head(x)


def twice(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.layer1(x)


class LeftOut(Net):
    def forward(self, image):
        return self.layer2(self.stem(image))


class Normalizing(Net):
    def forward(self, image):
        return super().forward((image - 0.5) / 0.2)


class Two(Net):
    def forward(self, image, depth):
        return super().forward(image + depth)


class Fixed(Net):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, image):
        if image.shape[-1] != self.side:
            raise RuntimeError(f"give {self.side} pixels")
        return super().forward(image)


LAYERS = ["layer1", "layer2"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Net(lambda net, x: x.relu()), "its own forward computes something else: what 'layer2' gives differs"),
        (lambda: Net(lambda net, x: x.relu_()), "its own forward computes something else: what 'layer2' gives differs"),
        (lambda: Net(lambda net, x: 1.01 * x), "its own forward computes something else: what 'layer2' gives differs"),
        (lambda: Net(lambda net, x: x[..., 2:]), "'layer2' gives [1, 16, 8, 7] in its own forward, [1, 16, 8, 8] with"),
        (lambda: Normalizing(), "its own forward computes something else: what 'stem' gives differs by up to"),
        (lambda: LeftOut(), "its own forward calls 'layer1' not, but stages run every module once"),
        (lambda: Net(twice), "its own forward calls 'layer1' 2 times"),
        (lambda: Two(), "its own forward does not take an image [1, 3, 64, 64]"),
        (lambda: Fixed(96), "its own forward does not take an image [1, 3, 64, 64] (give 96 pixels)"),
    ],
)
def test_stages_that_are_not_the_model_s_own_forward_are_refused(make, message):
    said = refused(lambda: attach(make(), num_classes=5, stages=LAYERS))
    assert message in said
    assert "write stem, stages, channels and strides as a semask Backbone, see docs/backbones.md" in said


@pytest.mark.parametrize(
    "net", [Net(), Net(head=nn.Sequential(nn.Flatten(), nn.Linear(5, 5))), Fixed(224)], ids=["plain", "head", "fixed"]
)
def test_stages_that_are_the_model_s_own_forward_are_taken(net):
    net.train()
    net.layer1[1].eval()  # as somebody freezes a BatchNorm
    state, random = {name: x.clone() for name, x in net.state_dict().items()}, torch.get_rng_state()
    encoder = attach(net, num_classes=5, stages=LAYERS, semantic_depths=0)
    assert encoder.channels == (8, 16)
    assert net.training
    assert not net.layer1[1].training
    assert all(x.equal(state[name]) for name, x in net.state_dict().items())
    assert torch.get_rng_state().equal(random)
    assert not net.layer1._forward_hooks


def test_a_class_of_the_same_name_is_not_taken_for_timm_s():
    model = torchvision.models.VisionTransformer(
        image_size=32, patch_size=16, num_layers=1, num_heads=1, hidden_dim=8, mlp_dim=8
    )
    assert "VisionTransformer can't be run stage by stage" in refused(lambda: attach(model, num_classes=5))


def test_a_full_model_of_timm_whose_forward_does_more_is_refused():
    class Other(timm.models.resnet.ResNet):
        def forward_features(self, x):
            return super().forward_features(2 * x)

    model = Other(timm.models.resnet.BasicBlock, (1, 1, 1, 1))
    model.pretrained_cfg = {"input_size": (3, 64, 64)}
    assert "what 'conv1' gives differs by up to" in refused(lambda: attach(model, num_classes=5))


def test_a_class_token_in_the_maps_is_refused():
    with torch.device("meta"):
        model = timm.create_model("mvitv2_base_cls")
    assert "choose a variant without one, e.g. timm/mvitv2_tiny" in refused(lambda: attach(model, num_classes=5))


def test_of_the_hub_nothing_can_be_had(hub):
    assert "no configuration to be had" in refused(lambda: library_backbone("transformers/owner/name"))
    model = build("timm/" + TAG, num_classes=5, channels=16)
    message = refused(lambda: load_pretrained(model, "library"))
    assert f"could not get the weights '{TAG}' of timm" in message
    assert "check name and network" in message


def test_weights_of_timm(downloaded):
    model = build("timm/" + TAG, num_classes=5, channels=16, residual="input").eval()
    report = load_pretrained(model, "library")
    assert "encoder.backbone.model.conv1.weight" in report.loaded
    assert all(name.startswith(("encoder.semantic_layers.", "decoder.", "encoder.norms.")) for name in report.fresh)
    image = torch.randn(1, 3, 64, 96)
    assert model(image).features[0].equal(first_stage(downloaded, image))


@pytest.mark.parametrize("bands", [1, 4, 6])
def test_first_convolution_of_other_bands(downloaded, bands):
    settings = {"in_channels": bands, "mean": [0.5] * bands, "std": [0.2] * bands}
    model = build("timm/" + TAG, num_classes=5, channels=16, residual="input", **settings).eval()
    load_pretrained(model, "library")
    weight, rgb = model.encoder.backbone.model.conv1.weight, downloaded.conv1.weight
    image = torch.randn(1, 1 if bands == 1 else 3, 64, 64)
    if bands == 1:  # a gray image is an RGB image of three times the same
        assert weight.shape[1] == 1
        image, ours = image.repeat(1, 3, 1, 1), image
    elif bands == 6:  # the same image twice is the image
        ours = image.repeat(1, 2, 1, 1)
    else:  # without its fourth band the image is RGB, weighted by 3 / 4
        torch.testing.assert_close(weight[:, :3], rgb * 3 / 4)
        ours = torch.cat([image * 4 / 3, torch.zeros(1, 1, 64, 64)], dim=1)
    torch.testing.assert_close(model(ours).features[0], first_stage(downloaded, image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bands", [1, 3, 6])
def test_transformers_from_a_folder(tmp_path, bands):
    theirs = SegformerModel(SegformerConfig(**SEGFORMER)).eval()
    theirs.save_pretrained(tmp_path)
    settings = {"in_channels": bands, "mean": [0.5] * bands, "std": [0.2] * bands}
    model = build(f"transformers/{tmp_path}", num_classes=5, channels=16, residual="input", **settings).eval()
    load_pretrained(model, "library")
    image = torch.randn(1, 1, 64, 96).repeat(1, 3, 1, 1) if bands == 1 else torch.randn(1, 3, 64, 96)
    ours = {1: image[:, :1], 3: image, 6: image.repeat(1, 2, 1, 1)}[bands]
    expected = theirs(image, output_hidden_states=True).hidden_states
    for x, y in zip(model(ours).features, expected, strict=True):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4)


def test_weights_of_another_model_are_refused(tmp_path):
    SegformerModel(SegformerConfig(**{**SEGFORMER, "hidden_sizes": [8, 16, 32, 128]})).save_pretrained(tmp_path / "a")
    SegformerModel(SegformerConfig(**SEGFORMER)).save_pretrained(tmp_path / "b")
    model = build(f"transformers/{tmp_path / 'b'}", num_classes=5, channels=16)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    from semask.checkpoints.library_weights import load_library_weights

    message = refused(lambda: load_library_weights(model.encoder.backbone, str(tmp_path / "a"), in_channels=3))
    assert "are of another model" in message
    assert all(x.equal(before[name]) for name, x in model.state_dict().items())


def test_a_fixed_size_is_an_option():
    name = "timm/maxvit_rmlp_pico_rw_256"
    model = build(name, num_classes=5, channels=16, encoder_options={"img_size": 96}).eval()
    assert model(torch.randn(1, 3, 96, 96)).logits.shape == (1, 5, 24, 24)
    message = refused(lambda: model(torch.randn(1, 3, 96, 160)))
    assert message.startswith(f"{name} does not take images of 96 x 160")
    assert "img_size" in message


@pytest.mark.parametrize("settings", [{}, {"in_channels": 2, "mean": [0.5] * 2, "std": [0.2] * 2}])
def test_saved_and_loaded_by_name(tmp_path, settings):
    saved = build("timm/convnext_atto", num_classes=5, channels=16, residual="input", **settings).eval()
    path = semask.save(tmp_path / "model.safetensors", saved, {})
    image = torch.randn(1, settings.get("in_channels", 3), 50, 70)
    assert semask.load(path)(image).logits.equal(saved(image).logits)


def test_saved_and_loaded_into_a_model_that_is_attached(tmp_path):
    saved, other = (build(attach(Own(), num_classes=5), num_classes=5, channels=16).eval() for _ in range(2))
    path = semask.save(tmp_path / "model.safetensors", saved, {})
    image = torch.randn(1, 3, 48, 64)
    assert not other(image).logits.equal(saved(image).logits)
    assert semask.load(path, into=other)(image).logits.equal(saved(image).logits)
    assert str(path) in refused(lambda: semask.load(path))
