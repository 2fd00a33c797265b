import pytest
import torch
from torch import nn

from semask.acceleration.accelerate import accelerate
from semask.semantic.attention import SemanticAttention
from semask.semantic.layer import SemanticLayer


def attention(channels: int = 8, num_classes: int = 5) -> SemanticAttention:
    module = SemanticAttention(channels, num_classes).double().eval()
    nn.init.constant_(module.scale, 0.7)
    return module


@pytest.mark.parametrize("tokens", [1024, 1025, 2500])
def test_slices_of_rows_give_the_full_form(tokens, largest_tensor, monkeypatch):
    module, x = attention(), torch.randn(2, tokens, 8).double()
    full = module(x)
    monkeypatch.setattr("semask.acceleration.semantic.WEIGHTS", 2**17)
    accelerate(module)
    with torch.no_grad(), largest_tensor:
        sliced = module(x)
    torch.testing.assert_close(sliced, full)
    assert largest_tensor.values <= 2**20


@pytest.mark.parametrize(("classes", "channels"), [(5, 8), (19, 8), (8, 16)])
def test_many_tokens_never_make_a_square_matrix_with_gradients_either(monkeypatch, largest_tensor, classes, channels):
    def run(rows: int | None = None) -> list[torch.Tensor]:
        module, x = SemanticAttention(channels, classes).double().eval(), inputs.clone().requires_grad_()
        module.load_state_dict(state)
        if rows is not None:
            monkeypatch.setattr("semask.acceleration.semantic.WEIGHTS", rows**2)
            accelerate(module)
        prior, refinement = module(x)
        (prior.square().sum() + refinement.square().sum()).backward()
        return [refinement.detach(), x.grad, *(parameter.grad for parameter in module.parameters())]

    tokens = 300
    inputs = torch.randn(2, tokens, channels).double()
    state = {
        name: torch.randn_like(x) for name, x in SemanticAttention(channels, classes).double().state_dict().items()
    }
    expected = run()
    with largest_tensor:
        fused = run(rows=16)
    assert largest_tensor.values < tokens * tokens
    for ours, direct in zip(fused, expected, strict=True):
        torch.testing.assert_close(ours, direct, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("window", [4, None])
@pytest.mark.parametrize("residual", ["normed", "input"])
@pytest.mark.parametrize("size", [(13, 9), (8, 8), (1, 30), (30, 1)])
def test_prediction_by_slices_equals_the_plain_form(size, residual, window, monkeypatch):
    monkeypatch.setattr("semask.acceleration.semantic.TOKENS", 40)
    layer = SemanticLayer(8, num_classes=3, window=window, depth=2, residual=residual).double().eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(3, *size, 8).double()
    features, prior = layer(x)
    accelerate(layer)
    with torch.inference_mode():
        predicted, predicted_prior = layer(x)
        alone, none = layer(x, with_prior=False)
    torch.testing.assert_close(predicted, features)
    torch.testing.assert_close(predicted_prior, prior)
    torch.testing.assert_close(alone, features)
    assert none is None
