import copy
import pickle

import pytest
import torch
from torch import nn

from semask import Predictor, SeMask
from semask.acceleration.accelerate import FASTER, PLAIN, accelerate, plain
from semask.acceleration.linear import FastLinear
from semask.builder import build


def nano(decoder: str = "fpn", **settings) -> SeMask:
    model = build("swin_nano", decoder, num_classes=5, channels=32, semantic_window=(3, None, 2, None), **settings)
    for layer in model.encoder.semantic_layers:
        for attention in layer.attentions:
            nn.init.ones_(attention.scale)
    return model.eval()


def classes(model: nn.Module) -> set[type]:
    return {type(module) for module in model.modules()}


def test_every_layer_is_exchanged_in_place_and_back():
    model = nano()
    before, parameters, names = classes(model), list(model.parameters()), list(model.state_dict())
    assert before >= set(PLAIN.values())
    assert accelerate(model) is model
    assert classes(model) >= set(PLAIN)
    left = {nn.Sequential, nn.Conv2d}  # the levels of the decoder are sequences, too, and few convolutions skip pixels
    assert not classes(model) & (set(PLAIN.values()) - left)
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert list(model.state_dict()) == names
    with plain(model) as same:
        assert same is model
        assert classes(model) == before
    assert classes(model) >= set(PLAIN)


@pytest.mark.parametrize("name", FASTER)
@pytest.mark.parametrize("size", [(64, 64), (97, 131)])
@pytest.mark.parametrize("training", [False, True])
def test_each_alone_equals_the_plain_form(name, size, training):
    model, image = nano(drop_path=0.0, dropout=0.0).double(), torch.randn(2, 3, *size).double()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    results = []
    for _ in range(2):
        model.train(training)
        with torch.set_grad_enabled(training):
            output = model(image, with_prior=True)
            results.append([output.logits, output.prior_logits, *output.priors, *output.features])
            if training:
                loss = sum(x.sin().sum() for x in results[-1][:2])
                results[-1] += torch.autograd.grad(loss, list(model.parameters()))
        accelerate(model, only=[name])
    assert len(classes(model) & set(PLAIN)) == 1
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("decoder", ["fpn", "maskformer"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_together_equal_the_plain_form(decoder, dtype):
    model, image = nano(decoder).to(dtype), torch.randn(1, 3, 97, 131, dtype=dtype)
    with torch.inference_mode():
        expected = model(image).prediction[0].float()
        found = accelerate(model)(image).prediction[0].float()
    assert (found - expected).abs().max() < (0.1 if dtype == torch.bfloat16 else 1e-4) * expected.std()


def test_layers_of_other_classes_stay_and_adapters_work():
    class Adapter(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base, self.down = base, nn.Linear(base.in_features, base.out_features, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) + self.down(x)

    class OwnLinear(nn.Linear):
        """Somebody else's layer."""

    model, image = nano(), torch.randn(1, 3, 64, 64)
    block = model.encoder.backbone.stages[0].blocks[0]
    block.attention.qkv = Adapter(block.attention.qkv)
    block.mlp[0] = Adapter(block.mlp[0])
    block.mlp[2].__class__ = OwnLinear
    with torch.inference_mode():
        expected = model(image).logits
        torch.testing.assert_close(accelerate(model)(image).logits, expected)
    assert type(block.mlp[2]) is OwnLinear
    assert type(block.attention.qkv.down) is FastLinear


def test_linear_layers_of_libraries_stay():
    outside = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4))
    assert classes(accelerate(outside)) == {nn.Sequential, nn.Linear, nn.GELU}


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_compiled_stays(whole):
    model = nano()
    before = classes(model)
    if whole:
        accelerate(torch.compile(model, backend="eager"))
    else:
        model.compile(backend="eager")
        accelerate(model)
        before -= {type(model.decoder)}
        assert type(model.encoder.semantic_layers[0]) in before
        assert type(model.encoder.backbone.stages[0].blocks[0]) in before
        assert type(model.encoder.backbone.stages[1].merge.reduction) is FastLinear
        return
    assert classes(model) == before


def test_copies_and_pickles():
    model, image = accelerate(nano()), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = model(image).logits
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert other(image).logits.equal(expected)


def test_traced_and_compiled_as_the_plain_form():
    model, image = accelerate(nano().requires_grad_(False)), torch.randn(1, 3, 64, 96)

    def function(x: torch.Tensor) -> torch.Tensor:
        return model(x).logits

    with torch.no_grad():
        expected = function(image)
        traced = torch.jit.trace(function, image, check_trace=False)
        torch.testing.assert_close(traced(image), expected, atol=1e-4, rtol=1e-4)
        assert "mkldnn" not in str(traced.graph)
        compiled = torch.compile(function, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(image), expected, atol=1e-4, rtol=1e-4)


def test_unknown_names():
    with pytest.raises(ValueError, match="no optimization bands: choose from convolution, linear, mlp, "):
        accelerate(nn.Identity(), only=["bands"])


def test_a_predictor_accelerates():
    model = nano()
    Predictor(model)
    assert classes(model) >= set(PLAIN)
