import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

import semask
from semask import PixelLoss
from semask.builder import build
from semask.cost import flops, parameters
from semask.decoders.library import ROWS, LibraryDecoder, doubling, pyramid, scaled

CHANNELS, STRIDES = (64, 96, 128, 160), (4, 8, 16, 32)
NAMES = list(ROWS)


def decoder(name: str, **settings) -> LibraryDecoder:
    return LibraryDecoder(CHANNELS, STRIDES, **{"num_classes": 5, "channels": 16, "name": name, **settings})


def maps(height: int, width: int, batch: int = 2) -> list[torch.Tensor]:
    """Feature maps of an image."""
    return [torch.randn(batch, c, -(-height // s), -(-width // s)) for c, s in zip(CHANNELS, STRIDES, strict=True)]


LIBRARY_SETTINGS = {
    "upernet": {"decoder_channels": 32},
    "segformer": {"decoder_segmentation_channels": 32},
    "pspnet": {"psp_out_channels": 32, "psp_dropout": 0.0},
    "pan": {"decoder_channels": 32, "encoder_output_stride": 32},
    "deeplabv3plus": {"decoder_channels": 32, "decoder_atrous_rates": (6, 12, 18), "decoder_aspp_dropout": 0.0},
    "unet": {"decoder_channels": (32, 16, 8, 4)},
    "unetplusplus": {"decoder_channels": (32, 16, 8, 4)},
    "manet": {"decoder_channels": (32, 16, 8, 4)},
}


def model_of(name: str, encoder: str = "resnet18", depth: int = 5) -> nn.Module:
    """Library's own model, with BatchNorms that do something."""
    settings = LIBRARY_SETTINGS.get(name, {})
    model = smp.create_model(name, encoder, encoder_weights=None, classes=5, encoder_depth=depth, **settings)
    for x in model.decoder.modules():
        if isinstance(x, nn.BatchNorm2d):
            nn.init.normal_(x.running_mean, std=0.1)
            nn.init.uniform_(x.running_var, 0.5, 2.0)
    return model.eval()


@torch.inference_mode()
@pytest.mark.parametrize("name", ["upernet", "pspnet", "deeplabv3plus", "pan"])
def test_equals_the_model_of_the_library(name):
    model = model_of(name)
    features = model.encoder(torch.randn(2, 3, 256, 256))
    ours = LibraryDecoder(model.encoder.out_channels[2:], STRIDES, num_classes=5, channels=32, name=name).eval()
    ours.decoder.load_state_dict(model.decoder.state_dict())  # all names and shapes
    expected = ours.classifier(model.decoder(features))
    assert torch.equal(ours(features[2:]).logits, expected)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["unet", "unetplusplus", "manet", "linknet"])
def test_equals_the_model_of_the_library_up_to_the_finest_map(name):
    model = model_of(name, depth=4)  # maps of strides 2, 4, 8, 16: a pyramid of four whose finest is not the image
    seen = {}
    if name != "unetplusplus":  # whose last block, the one that doubles without a map, we have too
        model.decoder.blocks[2].register_forward_hook(lambda *hooked: seen.update(end=hooked[-1]))
    features = model.encoder(torch.randn(2, 3, 64, 64))
    end = model.decoder(features)
    ours = LibraryDecoder(model.encoder.out_channels[1:], STRIDES, num_classes=5, channels=32, name=name).eval()
    shared = {key: x for key, x in model.decoder.state_dict().items() if key in ours.decoder.state_dict()}
    ours.decoder.load_state_dict(shared)
    left = {key.split(".")[1] for key in model.decoder.state_dict().keys() - shared.keys()}
    assert left == (set() if name == "unetplusplus" else {"3"})
    assert torch.equal(ours(features[1:]).logits, ours.classifier(seen.get("end", end)))


@torch.inference_mode()
def test_segformer_equals_the_model_of_the_library_with_an_encoder_that_begins_at_stride_4():
    model = model_of("segformer", "mit_b0")
    features = model.encoder(torch.randn(2, 3, 64, 96))
    ours = LibraryDecoder(model.encoder.out_channels[2:], STRIDES, num_classes=5, channels=32, name="segformer").eval()
    ours.decoder.load_state_dict(model.decoder.state_dict())
    ours.classifier.load_state_dict(model.segmentation_head[0].state_dict())
    assert torch.equal(ours(features[2:]).logits, model.segmentation_head[0](model.decoder(features)))


@pytest.mark.parametrize("name", NAMES)
def test_trains_on_odd_sizes(name):
    module = decoder(name).train()
    output = module(maps(70, 90))
    assert output.logits.isfinite().all()
    output.logits.square().sum().backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.dim() == 1 or parameter.grad.any(), key  # a bias before a BatchNorm has no effect


@torch.inference_mode()
@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_half_precision(name):
    module = decoder(name).eval()
    even = {"pspnet": (2, 3), "unetplusplus": (32, 48), "dpt": (32, 48)}.get(name, (16, 24))
    odd = {
        "pspnet": (3, 3),
        "deeplabv3plus": (20, 24),
        "linknet": (24, 24),
        "manet": (24, 24),
        "unetplusplus": (48, 48),
        "dpt": (48, 48),
    }.get(name, (18, 23))
    for size, expected in {(64, 96): even, (70, 90): odd}.items():
        with torch.autocast("cpu", torch.bfloat16):
            logits = module(maps(*size, batch=1)).logits
        assert logits.shape == (1, 5, *expected)
        assert logits.isfinite().all()


@torch.inference_mode()
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_number_of_maps(name, count):
    module = LibraryDecoder(CHANNELS[:count], STRIDES[:count], num_classes=5, channels=8, name=name).eval()
    features = maps(64, 64)[:count]
    before = module(features).logits
    reads = {"pspnet": {count - 1}, "deeplabv3plus": {0, count - 1}}.get(name, set(range(count)))
    for i in range(count):
        changed = module([x.flip(-1) * 3 if i == j else x for j, x in enumerate(features)]).logits
        assert torch.equal(changed, before) == (i not in reads)


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_model_trains_saves_and_loads(name, tmp_path):
    model = build("swin_nano", f"smp/{name}", num_classes=5, channels=16).train()
    losses = PixelLoss()(model(torch.randn(2, 3, 70, 90)), torch.randint(0, 5, (2, 70, 90)))
    losses.total.backward()
    assert losses.total.isfinite()
    model.zero_grad()
    image = torch.randn(1, 3, 70, 90)
    semask.save(tmp_path / "a.safetensors", model.eval(), {"recipe": {"model": model.config}, "classes": None})
    with torch.inference_mode():
        assert torch.equal(semask.load(tmp_path / "a.safetensors").eval()(image).logits, model(image).logits)


def test_maps_are_resized_only_where_they_do_not_double():
    features = maps(64, 96)
    assert all(torch.equal(x, y) for x, y in zip(doubling(features), features, strict=True))
    ones = [torch.ones_like(x) for x in maps(70, 90)]
    sizes = [tuple(x.shape[-2:]) for x in doubling(ones)]
    assert sizes == [(24, 24), (12, 12), (6, 6), (3, 3)]
    assert all(x.eq(1).all() for x in doubling(ones))
    assert [tuple(x.shape[-2:]) for x in scaled((ones[0], ones[-1]), (4, 1))] == [(20, 24), (5, 6)]


def test_the_two_places_before_the_maps_hold_nothing():
    features = maps(64, 96)
    first, second, *others = pyramid(features)[0]
    assert first.shape == (2, 0, 64, 96)
    assert second.shape == (2, 0, 32, 48)
    assert all(x is y for x, y in zip(others, features, strict=True))


@pytest.mark.parametrize("name", ["upernet", "deeplabv3plus", "pan"])
def test_one_image_can_not_be_normalised(name):
    with pytest.raises(ValueError, match=f"smp/{name} can't train on 1 image.*at least 2 images"):
        decoder(name).train()(maps(64, 64, batch=1))


def test_refusals():
    with pytest.raises(ValueError, match="'unit': choose one of upernet"):
        decoder("unit")
    for count in (1, 5):
        with pytest.raises(ValueError, match=f"smp/unet got {count} maps.* 2 to 4 maps"):
            LibraryDecoder((8,) * count, (4,) * count, num_classes=5, name="unet")
    with pytest.raises(ValueError, match=r"6 channels.*a multiple of 4"):
        LibraryDecoder((4, 6), (4, 8), num_classes=5, name="pspnet")


def test_upernet_costs_what_is_published():
    # Swin (arXiv 2103.14030), table 3: with Swin-T 60 M parameters, 945 G multiplications for 512 x 2048 pixels
    with torch.device("meta"):
        model = build("swin_tiny", "smp/upernet", num_classes=150, semantic_depths=0, channels=512).eval()
    auxiliary = 9 * 384 * 256 + 2 * 256 + 256 * 150 + 150  # the head over the third map that the published model has
    assert parameters(model) + auxiliary == pytest.approx(60e6, abs=0.5e6)
    assert flops(model, (512, 512)) == pytest.approx(2 * 945e9 / 4, rel=0.01)
