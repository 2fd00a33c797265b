import json

import pytest
import torch

from semask import PixelLoss, SeMask
from semask.acceleration.bfloat16 import use_bfloat16
from semask.builder import build
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.swin import Block, Stage, Swin, SwinSize
from semask.settings.model import ModelSettings

SMALL = {"encoder": "swin_nano", "num_classes": 5, "channels": 8, "semantic_window": (4, 4, None, None)}


def model(**settings) -> SeMask:
    return build(**{**SMALL, **settings})


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (1, 1)])
def test_shapes(size):
    output = model().eval()(torch.randn(2, 3, *size), with_prior=True)
    cells = [tuple(-(-side // stride) for side in size) for stride in (4, 8, 16, 32)]
    assert output.logits.shape == output.prior_logits.shape == (2, 5, *cells[0])
    assert [x.shape for x in output.features] == [(2, 32 * 2**i, *cells[i]) for i in range(4)]
    assert [x.shape for x in output.priors] == [(2, 5, *cells[i]) for i in range(4)]


def test_prior_logits_in_training_or_when_asked_for():
    module, image = model(), torch.randn(2, 3, 64, 64)
    assert module.train()(image).prior_logits is not None
    assert module.train()(image, with_prior=False).prior_logits is None
    assert module.eval()(image).prior_logits is None
    asked = module(image, with_prior=True)
    torch.testing.assert_close(asked.prior_logits, module.prior_decoder(asked.priors, (16, 16)))


def test_config_holds_all_settings():
    config = model(in_channels=4, mean=[0.5] * 4, std=[0.2] * 4).config
    assert list(config) == list(ModelSettings().as_dict())
    rebuilt = build(**json.loads(json.dumps(config)))
    assert rebuilt.config == config
    shapes = {name: x.shape for name, x in rebuilt.state_dict().items()}
    assert shapes == {name: x.shape for name, x in build(**config).state_dict().items()}
    defaults = ModelSettings().as_dict()
    changed = {name: config[name] for name in config if config[name] != defaults[name]}
    assert changed.keys() == {"encoder", "num_classes", "channels", "semantic_window", "in_channels", "mean", "std"}


@pytest.mark.parametrize("residual", ["normed", "input"])
@pytest.mark.parametrize("average", ["valid", "all"])
def test_semantic_layers_learn_from_their_start_values(residual, average):
    module = model(residual=residual, drop_path=0.0).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0)
    attentions = [attention for layer in module.encoder.semantic_layers for attention in layer.attentions]
    watched = [parameter for a in attentions for parameter in (a.scale, *a.projection.parameters(), a.value.weight)]
    before = [parameter.detach().clone() for parameter in watched]
    image, label = torch.randn(2, 3, 64, 64), torch.randint(0, 5, (2, 64, 64))
    for _ in range(2):
        PixelLoss(average=average)(module(image), label).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert len(attentions) == 4
    assert all((now - then).abs().max() > 1e-5 for now, then in zip(watched, before, strict=True))


def test_plain_backbone():
    module = model(semantic_depths=0, semantic_window=()).train()
    assert not [name for name in module.state_dict() if "semantic" in name]
    output = module(torch.randn(2, 3, 64, 64), with_prior=True)
    assert output.priors == ()
    assert output.prior_logits is None


def test_semantic_layers_in_some_stages():
    module = model(semantic_depths=(0, 0, 1, 1)).train()
    output = module(torch.randn(2, 3, 64, 96))
    assert [prior.shape for prior in output.priors] == [(2, 5, 4, 6), (2, 5, 2, 3)]
    assert output.prior_logits.shape == (2, 5, 16, 24)


def test_priors_of_other_classes():
    output = model(prior_classes=3).train()(torch.randn(2, 3, 64, 64))
    assert output.logits.shape[1] == 5
    assert output.prior_logits.shape[1] == 3


def test_backbone_settings():
    module = model(window=5, drop_path=0.2)
    blocks = [block for block in module.modules() if isinstance(block, Block)]
    assert {block.attention.window for block in blocks} == {5}
    assert blocks[-1].drop_path.p == pytest.approx(0.2)


def test_an_encoder_of_ones_own():
    encoder = SemanticEncoder(
        Swin(SwinSize(8, (1, 1), (1, 1), 3, 0.0)), num_classes=5, semantic_window=(3, None), semantic_depths=2
    )
    output = build(encoder, num_classes=5, channels=8)(torch.randn(2, 3, 32, 32))
    assert output.logits.shape == output.prior_logits.shape == (2, 5, 8, 8)


def test_gradient_checkpointing_is_switched_everywhere():
    module = model()
    stages = [stage for stage in module.modules() if isinstance(stage, Stage)]
    for enabled in (True, False):
        module.encoder.backbone.set_gradient_checkpointing(enabled)
        assert [stage.checkpointing for stage in stages] == [enabled] * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "resnet"}, "encoder is 'resnet': choose one of swin_nano, swin_tiny"),
        ({"decoder_options": {"level": 2}}, "decoder_options of fpn has no setting 'level': its own are none"),
        ({"decoder": "upernet"}, "decoder is 'upernet': choose one of alignseg, encnet, fcn, fpn, "),
        ({"num_classes": 0}, "num_classes is 0: give a whole number from 2 to 255"),
        ({"prior_classes": 0}, "prior_classes is 0"),
        ({"window": 0}, "window is 0"),
        ({"channels": -1}, "channels is -1"),
        ({"drop_path": 1.5}, "drop_path is 1.5"),
        ({"in_channels": 4}, "mean has 3 and model.std 3 values for in_channels=4"),
        ({"residual": "none"}, "residual is 'none'"),
        ({"semantic_window": (7, 7, 7)}, "semantic_window has 3 values"),
    ],
)
def test_faults(settings, message):
    with pytest.raises(ValueError, match=message):
        model(**settings)


@pytest.mark.parametrize("decoder", ["fpn", "mask2former", "mask2former_msfapn", "segmenter"])
def test_bfloat16_predicts_nearly_the_same(decoder):
    module, image = build("swin_nano", decoder, num_classes=5, channels=32).eval(), torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        exact = module(image)
        rough = use_bfloat16(module)(image)
    assert rough.features[0].dtype == torch.bfloat16
    for a, b in zip(exact.features, rough.features, strict=True):
        assert (a - b.float()).abs().mean() < 0.02 * a.std()
