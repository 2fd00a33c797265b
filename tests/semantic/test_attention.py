import torch
from torch import nn

from semask.semantic.attention import SemanticAttention


def attention(channels: int = 8, num_classes: int = 5, *, scale: float = 0.7) -> SemanticAttention:
    module = SemanticAttention(channels, num_classes).double().eval()
    nn.init.constant_(module.scale, scale)
    return module


def test_prior_is_the_linear_query():
    module, x = attention(), torch.randn(2, 6, 8).double()
    prior, _ = module(x)
    weight, bias = module.semantic_query.weight, module.semantic_query.bias
    torch.testing.assert_close(prior, torch.einsum("bnc,kc->bnk", x, weight) + bias)


def test_formula_token_by_token():
    module, x = attention(), torch.randn(2, 6, 8).double()
    prior, refinement = module(x)
    for image in range(2):
        for token in range(6):
            query, keys = module.semantic_query(x[image, token]), module.semantic_key(x[image])
            scores = torch.stack([query.dot(key) for key in keys])
            shares = scores.exp() / scores.exp().sum()
            mixed = sum(share * value for share, value in zip(shares, module.value(x[image]), strict=True))
            torch.testing.assert_close(prior[image, token], query)
            torch.testing.assert_close(refinement[image, token], 0.7 * module.projection(mixed))


def test_scale_zero_refines_nothing():
    prior, refinement = attention(scale=0.0)(torch.randn(2, 6, 8).double())
    assert refinement.eq(0).all()
    assert prior.ne(0).all()


def test_permuted_classes_permute_the_prior_only():
    module, x, order = attention(), torch.randn(2, 6, 8).double(), torch.randperm(5)
    permuted = attention()
    permuted.load_state_dict(module.state_dict())
    with torch.no_grad():
        for linear in (permuted.semantic_query, permuted.semantic_key):
            linear.weight.copy_(linear.weight[order])
            linear.bias.copy_(linear.bias[order])
    (prior, refinement), (prior_permuted, refinement_permuted) = module(x), permuted(x)
    torch.testing.assert_close(prior_permuted, prior[..., order])
    torch.testing.assert_close(refinement_permuted, refinement)


def test_order_of_tokens_does_not_matter():
    module, x, order = attention(), torch.randn(2, 6, 8).double(), torch.randperm(6)
    prior, refinement = module(x)
    prior_moved, refinement_moved = module(x[:, order])
    torch.testing.assert_close(prior_moved, prior[:, order])
    torch.testing.assert_close(refinement_moved, refinement[:, order])


def test_dropout_in_training_only():
    module, x = attention().train(), torch.randn(1, 200, 8).double()
    assert 0.05 < module(x)[1].eq(0).double().mean() < 0.15
    assert module.eval()(x)[1].ne(0).all()


def test_gradients_reach_every_parameter():
    module, x = attention(), torch.randn(2, 6, 8).double()
    prior, refinement = module(x)
    (prior.square().sum() + refinement.square().sum()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())
