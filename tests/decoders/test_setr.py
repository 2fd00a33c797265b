import pytest
import torch

from semask.builder import build
from semask.decoders.setr import SETRMLA, SETRPUP
from semask.outputs import resize

CHANNELS, STRIDES = (4, 6, 8, 10), (4, 8, 16, 32)
BOTH = pytest.mark.parametrize("make", [SETRPUP, SETRMLA])


def decoder(make, **settings):
    return make(CHANNELS, STRIDES, **{"num_classes": 5, "channels": 8, **settings})


def maps(height: int, width: int, batch: int = 2) -> list[torch.Tensor]:
    """Feature maps of an image."""
    return [
        torch.randn(batch, channels, -(-height // stride), -(-width // stride))
        for channels, stride in zip(CHANNELS, STRIDES, strict=True)
    ]


@pytest.mark.parametrize(("name", "size"), [("setr_pup", (36, 46)), ("setr_mla", (18, 23))])
def test_in_a_model(name, size):
    model = build("swin_nano", name, num_classes=5, channels=32)
    image = torch.randn(1, 3, 70, 90)
    output = model.train()(image).prediction
    assert output.logits.shape == (1, 5, *size)
    assert [x.shape for x in output.auxiliary] == [(1, 5, 18, 23), (1, 5, 9, 12), (1, 5, 5, 6), (1, 5, 3, 3)]
    assert model.eval()(image).prediction.auxiliary == ()


@pytest.mark.parametrize(
    ("make", "strides", "scale"),
    [(SETRPUP, (16, 16), 8), (SETRPUP, (14,), 8), (SETRPUP, (2,), 1), (SETRMLA, (16, 16, 16), 4), (SETRMLA, (8,), 2)],
)
def test_encoders_of_other_strides(make, strides, scale):
    module = make((6,) * len(strides), strides, num_classes=5, channels=8)
    assert module([torch.randn(2, 6, 3, 5) for _ in strides]).logits.shape == (2, 5, 3 * scale, 5 * scale)


@BOTH
def test_gradients_reach_every_parameter(make):
    module = decoder(make, dropout=0.0).train()
    output = module(maps(64, 96))
    sum(x.square().sum() for x in (output.logits, *output.auxiliary)).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


@BOTH
def test_auxiliary_heads_see_only_their_map(make):
    module, features = decoder(make, dropout=0.0).train(), maps(64, 96)
    before = module(features).auxiliary
    features[1] += torch.randn_like(features[1])
    same = [x.equal(y) for x, y in zip(before, module(features).auxiliary, strict=True)]
    assert same == [True, False, True, True]


def test_pup_doubles_in_turn():
    """Against the paper's order of things at a stride of 16: the scores only after all four doublings."""
    module = SETRPUP((6,), (16,), num_classes=5, channels=8).eval()
    torch.nn.init.normal_(module.classifier.weight)
    features = torch.randn(2, 6, 4, 3)
    convs = [module.first, *module.convs]
    x = features
    assert len(convs) == 4
    for conv in convs:
        x = conv(x)
        x = resize(x, [2 * side for side in x.shape[-2:]])
    expected = module.classifier(x)
    assert expected.shape == (2, 5, 64, 48)
    torch.testing.assert_close(module([features]).probabilities((64, 48)), expected.softmax(1))


def test_pup_takes_the_sizes_of_finer_maps():
    module, seen = decoder(SETRPUP).eval(), []
    for conv in module.convs:
        conv.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    module(maps(70, 90))
    assert seen == [(5, 6), (9, 12), (18, 23), (36, 46)]


def test_mla_adds_coarser_streams_to_finer():
    module, features = decoder(SETRMLA).eval(), maps(64, 96)
    before = module.top_down(features)
    alone = [reduce(x) for reduce, x in zip(module.reductions, features, strict=True)]
    torch.testing.assert_close(before[3], alone[3])
    expected = alone[1] + resize(alone[2] + resize(alone[3], (4, 6)), (8, 12))
    torch.testing.assert_close(before[1], expected)
    features[2] += 1
    after = module.top_down(features)
    assert [x.equal(y) for x, y in zip(before, after, strict=True)] == [False, False, False, True]


@BOTH
def test_bfloat16(make):
    with torch.autocast("cpu", torch.bfloat16):
        assert decoder(make)(maps(70, 90)).logits.isfinite().all()


@BOTH
def test_a_single_cell(make):
    features = maps(32, 32, batch=1)
    with pytest.raises(ValueError, match="single location"):
        decoder(make).train()(features)
    assert decoder(make).eval()(features).logits.isfinite().all()


def test_mla_needs_channels_to_halve():
    with pytest.raises(ValueError, match="channels is 1: setr_mla halves them"):
        decoder(SETRMLA, channels=1)
