import pytest
import torch

from semask.builder import build
from semask.decoders.fcn import FCN

CHANNELS, STRIDES = (4, 6, 8, 10), (4, 8, 16, 32)


def decoder(**settings) -> FCN:
    return FCN(CHANNELS, STRIDES, **{"num_classes": 5, "channels": 8, **settings})


def maps(height: int, width: int, batch: int = 2) -> list[torch.Tensor]:
    """Feature maps of an image."""
    return [
        torch.randn(batch, channels, -(-height // stride), -(-width // stride))
        for channels, stride in zip(CHANNELS, STRIDES, strict=True)
    ]


def test_in_a_model():
    model = build("swin_nano", "fcn", num_classes=5, channels=32)
    image = torch.randn(1, 3, 70, 90)
    output = model.train()(image).prediction
    assert output.logits.shape == (1, 5, 3, 3)
    assert [x.shape for x in output.auxiliary] == [(1, 5, 5, 6)]
    assert model.eval()(image).prediction.auxiliary == ()
    assert output.probabilities((70, 90)).shape == (1, 5, 70, 90)


def test_a_single_map_has_no_auxiliary_head():
    output = FCN((4,), (16,), num_classes=3, channels=8)([torch.randn(2, 4, 5, 6)])
    assert output.logits.shape == (2, 3, 5, 6)
    assert output.auxiliary == ()


def test_gradients_reach_every_parameter():
    module = decoder(dropout=0.0).train()
    output = module(maps(64, 96))
    (output.logits.square().sum() + output.auxiliary[0].square().sum()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_what_a_score_sees():
    """Three 3 x 3 convolutions see 3 cells around, two see 2, and the head has no other way to look further."""
    for convs, reach in ((2, 3), (1, 2)):
        module, features = decoder(convs=convs).eval(), maps(32 * 11, 32 * 11)
        before = module(features).logits
        features[-1][:, :, 5, 5] += 100
        changed = (module(features).logits != before).any(1)[0].nonzero()
        assert changed.min(0).values.tolist() == [5 - reach, 5 - reach]
        assert changed.max(0).values.tolist() == [5 + reach, 5 + reach]


def test_the_map_itself_reaches_the_last_convolution():
    module, features = decoder().eval(), maps(64, 96)
    torch.nn.init.zeros_(module.convs[-1][0].weight)
    before = module(features).logits
    features[-1] += 1
    assert not torch.allclose(module(features).logits, before)


def test_parameters_as_published():
    """FCN with MobileNetV2: 9.8 M for ADE20K (SegFormer, arXiv 2105.15203, table 2)."""
    trunk = (
        1_811_712  # MobileNetV2's up to its 320 channels: 3,504,872 less the classifier's and the last convolution's
    )
    head = FCN((24, 32, 96, 320), (4, 8, 8, 8), num_classes=150, channels=512)
    count = sum(p.numel() for p in head.parameters())
    assert round((trunk + count) / 1e6, 1) == 9.8


def test_bfloat16():
    with torch.autocast("cpu", torch.bfloat16):
        assert decoder()(maps(70, 90)).logits.isfinite().all()


def test_refusals():
    features = maps(32, 32, batch=1)
    with pytest.raises(ValueError, match=r"single location.*larger crops"):
        decoder().train()(features)
    assert decoder().eval()(features).logits.shape == (1, 5, 1, 1)
    with pytest.raises(ValueError, match="convs is 0: give at least 1"):
        decoder(convs=0)
